"""What a command imports, and how long that takes: ``python -m tests.bench.imports``.

By ``python -X importtime``, which writes down each module as it is imported; a module counts for its top-level package
with what it takes by itself, without what it imports. The interpreter measures a little longer than it takes without.
``--page FILE`` puts the table between the marks of a Markdown page.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.starts import ROTATE, STATUS, Command, arguments, commands
from tests.bench.table import put_into

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MARK = "imports"
SHOWN_MS = 2.0
"""A package that takes less stands with the others."""
STANDARD, OTHERS = "Python's own", "others"
_LINE = re.compile(r"import time: +(?P<own_us>\d+) \| +\d+ \| +(?P<package>\w+)\S*")
_HEADS = ("package", f"{ROTATE}: modules", "ms", f"{STATUS}: modules", "ms")


def main() -> None:
    """Measure, print the table, and put it into the page."""
    given = arguments("tests.bench.imports", __doc__, runs=7)
    with tempfile.TemporaryDirectory(prefix="credrotator-imports-") as name, commands(Path(name)) as known:
        runs = {title: [_imported(known[title]) for _ in range(given.runs)] for title in (ROTATE, STATUS)}
    table = markdown(runs)
    sys.stdout.write(f"{table}\nmedian of {given.runs}, load {os.getloadavg()[0]:.0f}\n")
    if given.page:
        given.page.write_text(put_into(given.page.read_text(), table, MARK))


class Imported:
    """What one run imported: milliseconds and modules by package."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.ms: defaultdict[str, float] = defaultdict(float)
        self.modules: Counter[str] = Counter()
        for line in lines:
            if match := _LINE.fullmatch(line.rstrip()):
                package = match["package"]
                name = STANDARD if package in sys.stdlib_module_names else package
                self.ms[name] += int(match["own_us"]) / 1000
                self.modules[name] += 1


def markdown(runs: Mapping[str, Sequence[Imported]]) -> str:
    """Return a table: a line for each package, those that take longest in the first command first."""
    medians = {title: _medians(each) for title, each in runs.items()}
    first = next(iter(medians.values()))
    names = sorted(first, key=lambda name: -first[name])
    shown = [name for name in names if any(each.get(name, 0.0) >= SHOWN_MS for each in medians.values())]
    lines = [_line(name, [name], runs, medians) for name in shown]
    rest = list(set().union(*medians.values()) - set(shown))
    lines.append(_line(OTHERS, rest, runs, medians))
    lines.append(_line("all", [*shown, *rest], runs, medians))
    return "\n".join(["| " + " | ".join(_HEADS) + " |", "| --- " * len(_HEADS) + "|", *lines])


def _medians(runs: Sequence[Imported]) -> Mapping[str, float]:
    names = set().union(*(run.ms for run in runs))
    return {name: statistics.median(run.ms.get(name, 0.0) for run in runs) for name in names}


def _line(
    title: str, names: Sequence[str], runs: Mapping[str, Sequence[Imported]], medians: Mapping[str, Mapping[str, float]]
) -> str:
    cells = [title]
    for command, each in runs.items():
        # The same modules in each run, so the last one's number will do.
        cells += [
            str(sum(each[-1].modules[name] for name in names)),
            f"{sum(medians[command].get(name, 0.0) for name in names):.0f}",
        ]
    return "| " + " | ".join(cells) + " |"


def _imported(command: Command) -> Imported:
    """Run a command once.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    (program, *words), environment = command
    argv = (program, "-X", "importtime", *words)
    ran = subprocess.run(argv, env=environment, check=True, capture_output=True, text=True)
    return Imported(ran.stderr.splitlines())


if __name__ == "__main__":
    main()
