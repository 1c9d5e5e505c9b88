"""What the README, the tutorial and the how-to guides tell a reader to type is typed, and what they show is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from credrotator.sandbox import Sandbox
from tests.docs.pages import REASONS, ROOT, RUN, Block, blocks, run_pages
from tests.docs.session import Session, fits, reader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGES = run_pages()
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
NOTHING_TO_RUN = {
    "docs/how-to/clusters.md",
    *("docs/install.md", "docs/upgrade.md", "docs/how-to/machine.md"),
    *(f"docs/how-to/{name}.md" for name in ("aks", "eks", "gke", "spiffe")),
}


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Start what stands in for the issuers, the STS and the Entra of the pages that bring none of their own."""
    with Sandbox(tmp_path_factory.mktemp("stand-in")) as running:
        yield running


@pytest.fixture
def session(page: Path, stand_in: Sandbox, tmp_path: Path) -> Iterator[Session]:
    """Open a shell as the page's reader has it."""
    with reader(page, tmp_path, stand_in) as opened:
        yield opened


def typed(session: Session, found: list[Block]) -> list[str]:
    """Type everything, and return what was not as the page says."""
    wrong: list[str] = []
    said = ""
    for block in found:
        if block.is_output and not fits(tuple(block.text.splitlines()), said):
            wrong.append(f"printed\n{said}\nand the page shows\n{block.text}")
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
    assert not wrong, "\n\n".join([*wrong, "if that is meant: python -m tests.docs.refresh"])


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_blocks_are_marked(page: Path) -> None:
    """Every block says what it is, so that no command hides in one that is not looked at; and why it is not run."""
    found = blocks(page.read_text(encoding="utf-8"))
    assert [block.text for block in found if not block.kind] == []
    assert {block.reason for block in found} - {None} <= REASONS


def test_most_pages_are_run() -> None:
    """A page whose commands all need what is not here is an exception, and named; how many there are is said."""
    run = dict.fromkeys(NAMES, 0)
    not_run = dict.fromkeys(NAMES, 0)
    for page, name in zip(PAGES, NAMES, strict=True):
        for block in blocks(page.read_text(encoding="utf-8")):
            if block.kind in RUN:
                (not_run if block.reason else run)[name] += len(block.commands)
    print(f"{sum(run.values())} commands are run, {sum(not_run.values())} are not")  # noqa: T201 - shown by pytest -s
    assert {name for name, count in run.items() if not count} == NOTHING_TO_RUN
    assert sum(run.values()) >= 60
