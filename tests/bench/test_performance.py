"""The page of figures holds the table of the last measurement, as it was measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import chart, imports, table
from tests.bench.profile import PARTS, shares
from tests.bench.table import Row

DOCS = Path(__file__).parents[2] / "docs"
ROW = Row("work", "1 s", "9 s", "9.0 times faster", ">= 6 times", met=True, figures={"seconds": [1.0, 9.0]})


def test_table_is_the_measured_one() -> None:
    """No figure of the table was typed in: it is what the benchmark wrote beside it."""
    rows = table.read(DOCS / "performance.json")
    assert len(rows) > 10
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    assert table.put_into(page, table.markdown(rows)) == page


def test_chart_is_the_measured_one() -> None:
    """Sentence and picture are made of the same figures as the table, and stand before it."""
    rows = table.read(DOCS / "performance.json")
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    assert table.put_into(page, chart.block(rows), chart.MARK) == page
    for name, picture in chart.pictures(rows).items():
        assert (DOCS / "pictures" / name).read_text(encoding="utf-8") == picture
    assert page.index(chart.MARK) < page.index(table.MARK + " -->")


def test_a_bar_is_as_long_as_its_figure() -> None:
    """Two bars, on one scale; the longer one has the whole width."""
    use = {"usage": {"cpu_s": 1.0, "peak_mib": 50.0}, "counts": {"discovery": 1, "token": 1, "exchange": 8}}
    rows = [Row("w, from", "", figures={"ours": {"seconds": 2.0, **use}, "peer": {"seconds": 8.0, **use}}, part="new")]
    assert [(group.ours, group.peer) for group in chart.groups(rows)] == [(2, 8), (1, 1), (50, 50), (10, 10)]
    picture = chart.pictures(rows)["performance.svg"]
    assert picture.index('width="120.0"') < picture.index('width="480.0"')
    assert chart.groups([ROW]) == []


def test_a_table_is_replaced_and_nothing_else() -> None:
    """What a person wrote around the table stays."""
    page = "# Speed\n\n<!-- bench -->\nold\n<!-- /bench -->\nrest\n"
    assert table.put_into(page, "new") == page.replace("old", "new")
    with pytest.raises(ValueError, match="substring not found"):
        table.put_into(page, "new", "profile")


def test_rows_survive_the_document(tmp_path: Path) -> None:
    """What is written is what is read back."""
    path = tmp_path / "bench.json"
    path.write_text(table.document([ROW], quick=False))
    assert table.read(path) == [ROW]


def test_columns_line_up() -> None:
    """The terminal's table has a column under each head, the page's one cell per head."""
    head, line = table.plain([ROW]).splitlines()
    assert head.index("goal") == line.index(">= 6 times")
    assert [row.count("|") for row in table.markdown([ROW]).splitlines()] == [7, 7, 7]


def test_a_sample_counts_for_the_nearest_part() -> None:
    """The innermost frame of a known part decides; what belongs to none is the rest."""
    samples = [
        "run (credrotator/daemon.py:1);ring (credrotator/kube/delivery.py:2);send (urllib3/pool.py:3) 2",
        "run (credrotator/daemon.py:1);ring (credrotator/kube/delivery.py:2);warning (logging/__init__.py:3) 1",
        "run (credrotator/daemon.py:1) 1",
    ]
    assert shares(samples) == {"doorbell": 0.5, "log lines": 0.25, "the rest: queue, plan, metrics": 0.25}


def test_parts_of_the_profile_exist() -> None:
    """A module that was moved would be counted with the rest."""
    ours = [place for _, places in PARTS for place in places if place.startswith("credrotator/")]
    assert [place for place in ours if not (DOCS.parent / place).exists()] == []


def test_imports_count_for_their_package() -> None:
    """Each module with its own time; the interpreter's together, and small packages together."""
    lines = [
        "import time: self [us] | cumulative | imported package",
        "import time:      1000 |       1000 |   json",
        "import time:      2500 |       3500 | credrotator.cli",
        "import time:      4000 |       4000 |     credrotator.core",
        "import time:       100 |        100 | click",
        "a line of the command's own",
    ]
    rows = imports.markdown({"first": [imports.Imported(lines)] * 2, "second": [imports.Imported(lines[:2])]})
    assert rows.splitlines()[2:] == [
        "| credrotator | 2 | 6 | 0 | 0 |",
        "| others | 2 | 1 | 1 | 1 |",
        "| all | 4 | 8 | 1 | 1 |",
    ]
