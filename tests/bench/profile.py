"""Where the daemon's own time goes while new policies are rotated: ``python -m tests.bench.profile``.

py-spy looks a hundred times a second at which thread holds the interpreter, and at its stack. Each sample counts for
the part of credrotator that stands nearest to its innermost frame. ``--page FILE`` puts the table into a page that has
the marks for it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import site, works
from tests.bench.subjects import Credrotator, Subject
from tests.bench.table import put_into
from tests.bench.vendors import Settings
from tests.support.parts import cache
from tests.support.parts.kubernetes import Programs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.bench.site import Destination

MARK = "profile"
POLICIES = 1000
_RATE = 100
_SPY = Path(sys.executable).with_name("py-spy")
PARTS = (
    ("log lines", ("logging/__init__.py", "credrotator/observability/redaction.py")),
    ("AWS STS", ("credrotator/providers/aws/",)),
    ("token, by Authlib", ("credrotator/exchange/issuers/oidc.py",)),
    ("Events and conditions", ("credrotator/kube/events.py", "credrotator/kube/conditions.py")),
    ("doorbell", ("credrotator/kube/delivery.py",)),
    ("the Secret", ("credrotator/kube/store.py",)),
    ("list and watch, reading policies", ("credrotator/kube/client/informer.py", "credrotator/kube/references.py")),
    ("start: imports", ("importlib._bootstrap",)),
)
_REST = "the rest: queue, plan, metrics"


@dataclass(frozen=True)
class Spied(Credrotator):
    """credrotator with py-spy beside it; the samples are in ``samples`` when it has ended."""

    samples: Path = Path()

    @contextmanager
    def run(self, site: Destination, namespace: str) -> Iterator[Subject]:
        """See Rotator."""
        with super().run(site, namespace) as subject:
            argv = (_SPY, "record", "--gil", "--format", "raw", "--rate", str(_RATE), "--pid", str(subject.process.pid))
            spy = subprocess.Popen(
                (*argv, "--output", self.samples), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            yield subject
        spy.wait()


def main() -> None:
    """Run it once, and print the shares."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="credrotator-profile-") as name:
        directory = Path(name)
        with site.serving(Programs(cache.Cache(cache.default_root())), directory) as bench:
            bench.vendors.set(Settings())
            spied = Spied(samples=directory / "samples")
            fill = works.fill(bench, spied, arguments.policies, latency_s=0.0)
        table = _markdown(shares((directory / "samples").read_text().splitlines()))
    sys.stdout.write(f"{table}\n{fill.policies} policies in {fill.seconds:.1f} s, load {os.getloadavg()[0]:.0f}\n")
    if arguments.page:
        arguments.page.write_text(put_into(arguments.page.read_text(), table, MARK))


def shares(samples: Iterable[str]) -> dict[str, float]:
    """Return each part's share of the samples; a sample is ``outer;inner;innermost COUNT``."""
    counts: Counter[str] = Counter()
    for sample in samples:
        stack, _, count = sample.rpartition(" ")
        counts[_part(stack.split(";"))] += int(count)
    return {part: count / counts.total() for part, count in counts.most_common()}


def _part(stack: list[str]) -> str:
    for frame in reversed(stack):
        for part, places in PARTS:
            if any(place in frame for place in places):
                return part
    return _REST


def _markdown(parts: dict[str, float]) -> str:
    lines = [f"| {part} | {share:.0%} |" for part, share in parts.items()]
    return "\n".join(["| part | share |", "| --- | --- |", *lines])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.profile", description=__doc__)
    parser.add_argument("--policies", type=int, default=POLICIES)
    parser.add_argument("--page", type=Path, help="put the table into this page")
    return parser.parse_args()


if __name__ == "__main__":
    main()
