"""What a command costs that is started once: ``python -m tests.bench.starts``.

CPU seconds of the process by itself, as the kernel counts them (wait4(2)), so that a busy machine changes little. The
commands take turns, and the median of each counts. Other command lines that are installed are measured beside them.
``--page FILE`` puts the table between the marks of a Markdown page.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from tests.bench import site
from tests.bench.subjects import COMPILED
from tests.bench.table import put_into
from tests.bench.works import cold_policy
from tests.support.parts.daemon import without_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Command = tuple[tuple[str, ...], dict[str, str]]
"""Words, and environment."""
MARK = "starts"
ROTATE, STATUS = "`credrotator rotate`, one policy", "`credrotator status`, over a directory"
_PROGRAM = (sys.executable, "-m", "credrotator")
_OTHERS = {"`aws --version`": ("aws", "--version"), "`kubectl version --client`": ("kubectl", "version", "--client")}


def main() -> None:
    """Measure, print the table, and put it into the page."""
    given = arguments("tests.bench.starts", __doc__, runs=11)
    with tempfile.TemporaryDirectory(prefix="credrotator-starts-") as name, commands(Path(name)) as known:
        measured: dict[str, list[float]] = defaultdict(list)
        for _ in range(given.runs):
            for title, (argv, environment) in known.items():
                measured[title].append(cpu_s(argv, environment))
    table = markdown(measured)
    sys.stdout.write(f"{table}\nmedian of {given.runs}, load {os.getloadavg()[0]:.0f}\n")
    if given.page:
        given.page.write_text(put_into(given.page.read_text(), table, MARK))


def cpu_s(argv: tuple[str, ...], environment: Mapping[str, str]) -> float:
    """Run a command to its end; return the CPU seconds that it has used.

    Raises:
        AssertionError: It failed.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    silent = [(os.POSIX_SPAWN_DUP2, nowhere, stream) for stream in (0, 1, 2)]
    try:
        pid = os.posix_spawnp(argv[0], argv, environment, file_actions=silent)
        _, status, usage = os.wait4(pid, 0)
    finally:
        os.close(nowhere)
    assert status == 0, f"{' '.join(argv)} ended with {os.waitstatus_to_exitcode(status)}"
    return usage.ru_utime + usage.ru_stime


def markdown(measured: Mapping[str, list[float]]) -> str:
    """Return the medians as a table."""
    rows = [f"| {title} | {statistics.median(seconds):.2f} s |" for title, seconds in measured.items()]
    return "\n".join(["| command | CPU |", "| --- | --- |", *rows])


@contextmanager
def commands(directory: Path) -> Iterator[Mapping[str, Command]]:
    """Name the commands, and have ready what they need; each ``rotate`` has its policy's first credential to get."""
    plain = {**os.environ, **without_settings(), **COMPILED}
    with site.vendor_servers(directory) as vendors:
        manifests, out = directory / "policies.yaml", directory / "out"
        manifests.write_text(yaml.safe_dump_all(cold_policy(vendors)))
        environment = {**plain, "AWS_ENDPOINT_URL_STS": vendors.url, "CREDROTATOR_CA_FILE": str(vendors.ca)}
        place = ("-f", str(manifests), "--out", str(out))
        rotate = (*_PROGRAM, "rotate", *place, "--force", "--allowed-issuer", f"{vendors.url}/*")
        ours: dict[str, Command] = {
            "`credrotator -h`": ((*_PROGRAM, "-h"), plain),
            ROTATE: (rotate, environment),
            STATUS: ((*_PROGRAM, "status", *place), plain),
        }
        others: dict[str, Command] = {title: (argv, plain) for title, argv in _OTHERS.items() if shutil.which(argv[0])}
        yield ours | others


def arguments(program: str, description: str | None, *, runs: int) -> argparse.Namespace:
    """Read the command line of a program that measures so many runs, and puts its table into a page."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=description)
    parser.add_argument("--runs", type=int, default=runs)
    parser.add_argument("--page", type=Path, help="put the table into this page")
    return parser.parse_args()


if __name__ == "__main__":
    main()
