"""Run the benchmark: ``python -m tests.bench``.

``BENCH=quick`` in the environment measures smaller works in some four minutes. ``--json FILE`` writes the figures,
``--page FILE`` puts table and chart between the marks of a Markdown page.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import chart, site, table
from tests.bench.rows import PARTS, rows
from tests.bench.scale import FULL, QUICK
from tests.bench.subjects import Gateway
from tests.support.parts import cache, controller
from tests.support.parts.kubernetes import Programs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.table import Row


def main() -> None:
    """Measure everything, say each line as soon as it is known, and print the table."""
    arguments = _arguments()
    quick = os.environ.get("BENCH") == "quick"
    parts = cache.Cache(cache.default_root())
    gateway = Gateway(controller.executable(parts))
    measured: list[Row] = []
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="credrotator-bench-") as directory,
        site.serving(Programs(parts), Path(directory)) as bench,
    ):
        for row in rows(bench, gateway, QUICK if quick else FULL, arguments.only):
            measured.append(row)
            _say(f"{time.monotonic() - began:4.0f} s  {'  '.join(filter(None, row.cells()))}")
    sys.stdout.write(table.plain(measured) + "\n")
    if arguments.only and arguments.json:
        measured = table.merged(table.read(arguments.json), measured)
    if arguments.json:
        arguments.json.write_text(table.document(measured, quick=quick))
    if arguments.page:
        _write_page(arguments.page, measured)
    missed = [row.work for row in measured if row.met is False]
    _say(f"{len(measured)} rows in {time.monotonic() - began:.0f} s; goals missed: {'; '.join(missed) or 'none'}")


def _write_page(page: Path, measured: Sequence[Row]) -> None:
    """Put the table into the page, and before it the sentence and the chart, where both rotators were measured."""
    text = table.put_into(page.read_text(), table.markdown(measured))
    if chart.groups(measured):
        text = table.put_into(text, chart.block(measured), chart.MARK)
        for name, picture in chart.pictures(measured).items():
            (page.parent / "pictures" / name).write_text(picture)
    page.write_text(text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--only", action="append", choices=PARTS, default=[], help="measure this part anew; repeatable")
    parser.add_argument("--page", type=Path, help="put the table into this page")
    return parser.parse_args()


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
