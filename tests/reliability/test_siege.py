"""The siege at a glance: it runs, nobody expires, and the page has a row for each of its lines."""

from __future__ import annotations

import pytest

from tests.reliability.siege import BEGIN, END, PAGE, Result, put_into, run, table
from tests.reliability.siege_lines import LINES

SHORT_S = 6.0


@pytest.mark.slow
@pytest.mark.parametrize("title", ["nothing", "50 policies whose own account", "64 hosts"])
def test_invariant_13_under_siege(title: str) -> None:
    """A real daemon, and a few seconds of some of the lines: no victim's credential expires, and new policies come."""
    (line,) = [line for line in LINES if line.title.startswith(title)]
    (result,) = run([line], SHORT_S)
    assert result.expired_s == 0
    assert result.new_s
    assert "not recover" not in result.remark


def test_the_page_has_the_last_output() -> None:
    """Each line of the siege has a row, in order, and in none of them a victim's credential expired."""
    _, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    rows = [line.split(" | ") for line in rest.partition(END)[0].splitlines() if line.startswith("| ")][1:]
    assert [row[0].removeprefix("| ") for row in rows] == [line.title for line in LINES]
    assert {row[1] for row in rows} == {"0"}


def test_the_table_goes_between_the_marks() -> None:
    """What is around it stays."""
    text = table([Result("a line", new_s=[0.5, 1.0])])
    page = put_into(f"before\n{BEGIN}old\n{END}\nafter\n", text)
    assert page == f"before\n{BEGIN}{text}{END}\nafter\n"
    assert "| a line | 0 | 0.0 | 0 | 1.0 | 0 |  |" in page
