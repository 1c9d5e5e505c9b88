"""What the README, the tutorial and the how-to guides tell a reader to type is typed, and what they show is seen."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from credrotator.sandbox import Sandbox
from tests.docs.pages import REASONS, ROOT, RUN, Block, blocks, run_pages
from tests.docs.session import DIRECTORIES, ISSUERS, PORTS, SECRETS, Session, fits, free_ports, programs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGES = run_pages()
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Start what stands in for the issuers, the STS and the Entra of the pages that bring none of their own."""
    with Sandbox(tmp_path_factory.mktemp("stand-in")) as running:
        yield running


def brings_its_own(page: Path) -> bool:
    """Tell whether a page's reader starts the sandbox."""
    found = blocks(page.read_text(encoding="utf-8"))
    return any("credrotator sandbox" in block.text for block in found if block.kind in RUN and not block.reason)


@pytest.fixture
def session(page: Path, stand_in: Sandbox, tmp_path: Path) -> Iterator[Session]:
    """Open a shell as the page's reader has it."""
    ports = free_ports(len(PORTS))
    bin_directory = programs(tmp_path / "bin", ports)
    place = tmp_path / "reader"
    (place / ".venv").mkdir(parents=True, mode=0o700)
    (place / ".venv" / "bin").symlink_to(bin_directory)
    world = dict(SECRETS)
    for name in DIRECTORIES:
        directory = tmp_path / name.strip("/").replace("/", "-")
        directory.mkdir(mode=0o700)
        world[name] = str(directory)
    environment = {**os.environ, "PATH": f"{bin_directory}:/usr/local/bin:/usr/bin:/bin", "TERM": "dumb"}
    if brings_its_own(page):
        world |= {theirs: str(ours) for theirs, ours in zip(PORTS, ports, strict=True)}
    else:
        text = page.read_text(encoding="utf-8")
        environment |= stand_in.environment()
        world |= {name: stand_in.issuer.url.removeprefix("https://") for name in ISSUERS if name in text}
    opened = Session(place, world, environment)
    yield opened
    opened.close()


def typed(session: Session, found: list[Block]) -> list[str]:
    """Type everything, and return what was not as the page says."""
    wrong: list[str] = []
    for block in found:
        if block.title is not None and block.reason is None:
            session.write(block.title, block.text)
        if block.kind not in RUN or block.reason is not None:
            continue
        commands = block.commands
        for command, following in zip(commands, [*commands[1:], None], strict=True):
            code, said = session.outcome(command.text)
            # A failure is shown as one: by what the shell says of it next.
            expected = following is not None and following.text == "echo $?"
            if code != 0 and not expected:
                wrong.append(f"$ {command.text}\nended with {code}:\n{said}")
            elif command.shown and not fits(command.shown, said):
                wrong.append(f"$ {command.text}\nprinted\n{said}\nand the page shows\n" + "\n".join(command.shown))
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands(page: Path, session: Session) -> None:
    """Each command ends well, and prints what the page shows of it."""
    wrong = typed(session, blocks(page.read_text(encoding="utf-8")))
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_blocks_are_marked(page: Path) -> None:
    """Every block says what it is, so that no command hides in one that is not looked at; and why it is not run."""
    found = blocks(page.read_text(encoding="utf-8"))
    assert [block.text for block in found if not block.kind] == []
    assert {block.reason for block in found} - {None} <= REASONS


def test_most_commands_are_run() -> None:
    """What cannot run here is the smaller part, and each page that brings a policy has some that can."""
    run, not_run = 0, 0
    for page in PAGES:
        for block in blocks(page.read_text(encoding="utf-8")):
            if block.kind in RUN:
                count = len(block.commands)
                run, not_run = run + count * (not block.reason), not_run + count * bool(block.reason)
    print(f"{run} commands of the documentation are run, {not_run} are not")  # noqa: T201 - shown by pytest -s
    assert run >= not_run
    assert run >= 40
