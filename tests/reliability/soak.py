"""``make soak``: after the outage drill an hour of the daemon over a directory, short faults, and a suspicious reader.

500 policies whose credentials live for 60..120 s; every 10..30 s something goes wrong for some seconds at the issuer or
at STS. All the while a hostile tenant of another namespace fails in every way, and edits its policies. A reader polls
every file each second; every credential that it sees must be one whole session of its policy, accepted by the sandbox's
STS, and none may be expired. The summary says what it took; the exit code is 1 if anything was seen that should not
have been. ``SOAK=300`` in the environment sets the seconds, ``SOAK_SEED`` the faults, ``SOAK_POLICIES`` the policies.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import requests
from prometheus_client.parser import text_string_to_metric_families

from credrotator.sandbox import (
    Answer,
    Certificate,
    CutShort,
    Drip,
    Fault,
    Hang,
    Latency,
    Refuse,
    Reset,
    Sandbox,
    ServiceError,
    garbage,
)
from tests.reliability.drill import drill
from tests.reliability.fleet import Fleet, Reader
from tests.reliability.neighbour import POLICIES as HOSTILE_POLICIES
from tests.reliability.neighbour import Neighbour

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from credrotator.sandbox.service import Service

POLICIES = 500
LIVES = tuple(timedelta(seconds=life) for life in range(60, 121, 10))
POLL = timedelta(seconds=1)
FILL = timedelta(minutes=2)
PAUSES_S, FAULTS_S = (10.0, 30.0), (2.0, 8.0)
TIMEOUT_S = 8
GRACE_S = 12
SAMPLES = 10

ISSUER_FAULTS: tuple[Callable[[], Fault], ...] = (
    lambda: Answer(503, retry_after=2),
    Refuse,
    Hang,
    Reset,
    lambda: Drip(0.5),
    lambda: Latency(2.0),
    lambda: Certificate("unknown-ca"),
    lambda: garbage()["html"],
)
STS_FAULTS: tuple[Callable[[], Fault], ...] = (
    lambda: Answer(503),
    lambda: ServiceError("Throttling"),
    Refuse,
    Hang,
    Reset,
    lambda: Latency(2.0),
    CutShort,
)


@dataclass(frozen=True)
class Daemon:
    """The daemon's process and where its metrics are."""

    process: subprocess.Popen[bytes]
    url: str

    def metrics(self) -> dict[str, float]:
        """Return the sum of each metric's samples."""
        families = list(text_string_to_metric_families(requests.get(f"{self.url}/metrics", timeout=10).text))
        found: dict[str, float] = {}
        for sample in (sample for family in families for sample in family.samples):
            for name in (sample.name, f"{sample.name}:{sample.labels.get('result')}"):
                found[name] = found.get(name, 0.0) + sample.value
        return found

    def rss_mib(self) -> float:
        """Return its resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) / 1024


@contextlib.contextmanager
def daemon(fleet: Fleet) -> Iterator[Daemon]:
    """Run the daemon over a fleet, and stop it at the end of the block."""
    log = fleet.directory / "daemon.log"
    command = [
        sys.executable, "-m", "credrotator", "run", "-f", str(fleet.manifests), "--out", str(fleet.out),
        "--listen", "127.0.0.1:0", "--timeout", f"{TIMEOUT_S}s",
        "--allowed-issuer", "https://localhost:*", "--allowed-issuer", "https://localhost:*/*",
    ]  # fmt: skip
    with log.open("wb") as output:
        environment = {**os.environ, **fleet.sandbox.environment()}
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        yield Daemon(process, _address(log))
    finally:
        process.terminate()
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(log: Path) -> str:
    give_up_s = time.monotonic() + FILL.total_seconds()
    while (found := re.search(r"listening on (\S+)", log.read_text())) is None:
        if time.monotonic() > give_up_s:
            raise SystemExit(f"the daemon did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.1)
    return f"http://{found[1]}"


class Mischief(threading.Thread):
    """Turns faults on and off, one at a time; the same seed does the same."""

    def __init__(self, sandbox: Sandbox, seed: int) -> None:
        super().__init__(name="mischief", daemon=True)
        self.done: list[str] = []
        self._targets: list[tuple[Service, Callable[[], Fault]]] = [
            *((sandbox.issuer, make) for make in ISSUER_FAULTS),
            *((sandbox.sts, make) for make in STS_FAULTS),
        ]
        self._random = random.Random(seed)  # noqa: S311 - nothing depends on its being unforeseeable
        self._stopping = threading.Event()

    def run(self) -> None:
        """Make trouble until stopped."""
        while not self._stopping.wait(self._random.uniform(*PAUSES_S)):
            service, make = self._random.choice(self._targets)
            fault = make()
            self.done.append(f"{service.name} {type(fault).__name__}")
            with service.faults.add(fault):
                self._stopping.wait(self._random.uniform(*FAULTS_S))

    def stop(self) -> None:
        """Stop, with every fault off."""
        self._stopping.set()
        self.join()


def soak(length: timedelta, seed: int, policies: int = POLICIES, lives: tuple[timedelta, ...] = LIVES) -> bool:
    """Run it and print the summary; tell whether nothing was seen that should not have been."""
    with tempfile.TemporaryDirectory(prefix="credrotator-soak-") as name, Sandbox(Path(name) / "sandbox") as sandbox:
        sandbox.issuer.token_life = timedelta(seconds=20)
        fleet = Fleet(sandbox, Path(name), policies, lives)
        fleet.write()
        reader, mischief = Reader(fleet, POLL), Mischief(sandbox, seed)
        neighbour = Neighbour(sandbox, fleet.manifests, seed)
        say(f"{policies} policies, lives of {_range(lives)} s, for {length.total_seconds():.0f} s; seed {seed}")
        with daemon(fleet) as running:
            reader.start()
            if not reader.wait_for(fleet.policies, {}, FILL):
                log = (fleet.directory / "daemon.log").read_text()
                say(f"only {len(reader.seen)} of {policies} policies ever got a credential:\n{log[-2000:]}")
                return False
            mischief.start()
            neighbour.start()
            rss_mib: list[float] = []
            ended_early = _wait(running, length, rss_mib)
            mischief.stop()
            neighbour.stop()
            reader.stop()
            figures = {} if ended_early else running.metrics()
            _summarise(reader, sandbox, figures, mischief.done)
            say(f"{'hostile tenant':<23} {neighbour.edits} times {HOSTILE_POLICIES} policies that fail in every way")
            sampled = rss_mib[:: max(1, len(rss_mib) // SAMPLES)]
            say(f"{'resident memory, MiB':<23} {' '.join(f'{mib:.0f}' for mib in [*sampled, *rss_mib[-1:]])}")
        return not (reader.expiries or reader.complaints or ended_early)


def _wait(running: Daemon, length: timedelta, rss_mib: list[float]) -> bool:
    """Wait for the end, and take down the daemon's memory meanwhile; tell whether the daemon was quicker."""
    until_s = time.monotonic() + length.total_seconds()
    while (left_s := until_s - time.monotonic()) > 0:
        rss_mib.append(running.rss_mib())
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = running.process.wait(min(left_s, 5.0))
            say(f"the daemon ended by itself, with {code}")
            return True
    return False


def _summarise(reader: Reader, sandbox: Sandbox, figures: Mapping[str, float], faults: list[str]) -> None:
    lines = {
        "credentials seen": sum(reader.counts().values()),
        "rotations, failures": f"{figures.get('credrotator_rotations_total:rotated', 0):.0f}, "
        f"{figures.get('credrotator_rotations_total:failed', 0):.0f}",
        "requests to the issuer": sandbox.issuer.requests.total,
        "requests to STS": sandbox.sts.requests.total,
        "faults": f"{len(faults)}: {', '.join(sorted(set(faults)))}",
        **what_was_read(reader),
    }
    for name, value in lines.items():
        say(f"{name:<23} {value}")
    for complaint in complaints_of(reader)[:20]:
        say(f"  {complaint}")


def what_was_read(reader: Reader) -> dict[str, object]:
    """Return what a reader has seen, by what it is called in a summary."""
    seen = [credential for credentials in reader.seen.values() for credential in credentials]
    late = sorted(credential.late for credential in seen if credential.late is not None)
    return {
        "lateness": f"median {_seconds(late, 0.5)}, 99 % {_seconds(late, 0.99)}, most {_seconds(late, 1.0)}"
        " (negative: before the latest moment)",
        "reads": reader.reads,
        "expiries seen": len(reader.expiries),
        "torn or foreign": len(reader.complaints),
    }


def complaints_of(reader: Reader) -> list[str]:
    """Say what a reader should not have seen."""
    return [*(f"{policy} expired at {at}" for policy, at in reader.expiries), *reader.complaints]


def _seconds(late: list[timedelta], share: float) -> str:
    return f"{late[min(len(late) - 1, int(len(late) * share))].total_seconds():.1f} s" if late else "none"


def _range(lives: tuple[timedelta, ...]) -> str:
    return f"{min(lives).total_seconds():.0f}..{max(lives).total_seconds():.0f}"


def say(line: str) -> None:
    """Print a line at once, whoever reads along."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Run it as the environment says."""
    length = timedelta(seconds=float(os.environ.get("SOAK", "3600")))
    drilled = drill()
    policies = int(os.environ.get("SOAK_POLICIES", POLICIES))
    sys.exit(0 if soak(length, int(os.environ.get("SOAK_SEED", "1")), policies) and drilled else 1)


if __name__ == "__main__":
    main()
