"""What several pages show is the same on each of them, and works where a reader puts it."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from credrotator.core.durations import parse_duration
from tests.docs.pages import DOCS, ROOT, blocks

PAGES = [ROOT / "README.md", *DOCS.rglob("*.md")]
SHOWN = [block for page in PAGES for block in blocks(page.read_text(encoding="utf-8"))]
CRON_LINES = [line for block in SHOWN if block.kind == "cron" for line in block.text.splitlines()]
_CRON = re.compile(
    r"\*/(?P<minutes>\d+) \* \* \* \*  (?P<user>\w+)  out=\$\((?P<command>.+) 2>&1\) \|\| echo \"\$out\""
)


def test_cron_lines() -> None:
    """There is one cron line: quiet unless it fails, with the program's full path, and with room for a failed run."""
    (line,) = set(CRON_LINES)
    match = _CRON.fullmatch(line)
    assert match
    assert match["command"].startswith("/")
    assert match["command"].endswith(f" --within {int(match['minutes']) * 3 // 2}m")


def test_every_schedule_has_room_for_a_failed_run() -> None:
    """Wherever ``--within`` or its setting is shown beside an interval of ten minutes, it is longer than that."""
    shown = [found for page in PAGES for found in re.findall(r"\bwithin:? (\d+m)\b", page.read_text(encoding="utf-8"))]
    assert shown
    assert {parse_duration(span) for span in shown} == {parse_duration("15m")}


def test_programs_of_systemd_are_the_same() -> None:
    """The unit starts the program that the cron line starts."""
    (unit,) = [block.text for block in SHOWN if block.kind == "ini" and "ExecStart=" in block.text]
    (started,) = re.findall(r"^ExecStart=(.+)$", unit, re.MULTILINE)
    assert started in CRON_LINES[0]


@pytest.mark.parametrize("title", ["filter.yaml.j2"])
def test_templates_are_the_same(title: str) -> None:
    """The filter's configuration is shown twice, and has what the filter demands: its version and an id."""
    (text,) = {block.text for block in SHOWN if block.title == title}
    document: dict[str, Any] = yaml.safe_load(re.sub(r"\{\{.+\}\}", "secret", text))
    assert {"version", "uuid", "backends", "models"} <= document.keys()


def test_the_readme_ends_with_a_short_table() -> None:
    """Where to read on is a table of six rows, each of which has few links."""
    last = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## ")[-1]
    rows = [line for line in last.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 6
    assert max(row.count("](") for row in rows) <= 5


def shell_lines(text: str) -> list[str]:
    """Return the lines of a page, each with those that a backslash joins to it."""
    return text.replace("\\\n", " ").splitlines()


def of_the_release(line: str) -> bool:
    """Tell whether a line calls helm or kubectl for the release that the pages install."""
    objects = r"\b(deploy|deployment|job|cronjob)/credrotator\b"
    return bool(re.search(rf"\bhelm \w+ credrotator\b|\bkubectl\b.*{objects}", line))


INSTALLED = [
    pytest.param(line, id=f"{page.name}: {line.strip()[:60]}")
    for page in [*PAGES, ROOT / "charts" / "credrotator" / "README.md"]
    for line in shell_lines(page.read_text(encoding="utf-8"))
    if of_the_release(line)
]


@pytest.mark.parametrize("line", INSTALLED)
def test_the_release_is_in_one_namespace(line: str) -> None:
    """Whoever installed it as one page says finds it where all others look."""
    call = line.partition(" -- ")[0]
    assert re.findall(r"(?:-n|--namespace)[ =](\S+)", call) == ["credrotator-system"]


@pytest.mark.parametrize("line", INSTALLED)
def test_commands_in_the_pod_say_which_namespaces(line: str) -> None:
    """The pod's own namespace, which is the default there, has no policies: -A or -n is said."""
    _, _, inside = line.partition(" -- credrotator ")
    if inside.startswith(("check", "status", "rotate")):
        assert re.search(r" (-A|-n NAMESPACE NAME)\b", inside)


def test_no_page_has_another_namespace_of_that_name() -> None:
    """Nowhere else is a namespace called credrotator."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"(-n|--namespace|namespace:)[ =]credrotator\b(?!-system)", text), page


BY_BARE_NAME = re.compile(r"credrotator(\[.*\])?([=<>~!@].*)?")
_INSTALLERS = re.compile(r"\b(pipx?|uv pip|uv tool) (install|run|inject)\b(?P<pipx>.*)|\buvx\b(?P<uvx>.*)")


def bare_names(line: str) -> list[str]:
    """Return what an installer on a line would look up in an index under our name."""
    match = _INSTALLERS.search(line)
    if not match:
        return []
    # Not shlex: a line of prose or of a program has quotes of its own.
    words = re.sub(r"['\"`()]", "", match["pipx"] or match["uvx"] or "").split()
    # With --spec, what follows it is installed, and our name is that of the program.
    specs = [words[place + 1] for place, word in enumerate(words[:-1]) if word in {"--spec", "--from"}]
    return [word for word in specs or words if BY_BARE_NAME.fullmatch(word)]


def test_nothing_installs_our_name_from_an_index() -> None:
    """The program is on no index: a package of that name is somebody else's. Pages and messages name a file."""
    sources = [*PAGES, ROOT / "CONTRIBUTING.md", *(ROOT / "credrotator").rglob("*.py")]
    lines = [line for page in sources for line in shell_lines(page.read_text(encoding="utf-8"))]
    assert [line for line in lines if bare_names(line)] == []
    assert any("pipx install ./credrotator-" in line for line in lines)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("pip install 'credrotator[otel]'", ["credrotator[otel]"]),
        ("- run: pipx run credrotator check --offline", ["credrotator"]),
        ("/opt/credrotator/bin/pip install --upgrade credrotator==0.2.0", ["credrotator==0.2.0"]),
        ("pipx run --spec https://a.example/credrotator-0.2.0-py3-none-any.whl credrotator check", []),
        ("pipx run --spec credrotator credrotator check", ["credrotator"]),
        ("pipx install --force './credrotator-0.2.0-py3-none-any.whl[sandbox]'", []),
        ("pipx install dist/credrotator-*.whl", []),
    ],
)
def test_how_bare_names_are_found(line: str, found: list[str]) -> None:
    """The test above finds what it is made for."""
    assert bare_names(line) == found


NEEDED_BY_PARTS = {"go": "Go", "mvn": "Maven", "npm": "npm", "node": "Node.js"}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "tests/e2e/README.md"])
def test_what_the_real_components_need(page: str) -> None:
    """What builds and runs the parts of `make e2e` is named on each page that says what it needs; Maven needs Java."""
    parts = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests" / "support" / "parts").glob("*.py"))
    called = {name for program, name in NEEDED_BY_PARTS.items() if f'"{program}"' in parts}
    assert called == {*NEEDED_BY_PARTS.values()}
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    (needs,) = re.findall(r"needs ((?:Linux, )?Go.+?npm)", text)
    assert [name for name in [*called, "Java"] if name not in needs] == []
