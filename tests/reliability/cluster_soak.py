"""``make soak-cluster``: two hours of two daemons over a simulated API server that fails, with the lead going round.

100 policies whose credentials live for 3..5 minutes. Every 15..45 s one thing goes wrong: the issuer, STS, the API
server (refuses, drops, hangs, says nothing more to watches, forgets its history), the lead (taken away, or its holder
is stopped for longer than the Lease; in the first third killed or ended too), somebody edits what is noted on a Secret,
or the issuer's client gets another secret. A hostile tenant of another namespace fails in every way meanwhile. As in
``make soak`` a reader looks at every credential each second: each must be one whole session of its policy, accepted by
STS, and none may be expired. The API server's log must show one writer of credentials at a time.

No fault lasts longer than 25 s, and none begins before the last one is over: with the Lease's 15 s and a request that
hangs for its 30 s, that is less than half of the shortest life, which is what is left when a renewal is due.

Memory, threads and open files are taken down every ten seconds for each process. After the first third nobody is
restarted any more, so that growth could be seen: the median of the last quarter is compared with that of the first.
The exit code is 1 if anything expired, was torn or grew, or if one wrote who did not lead. ``SOAK=300`` in the
environment sets the seconds, ``SOAK_SEED`` the faults, ``SOAK_POLICIES`` the policies.
"""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from credrotator.sandbox import Sandbox
from tests.reliability.cluster_mischief import ClusterMischief
from tests.reliability.fleet import NAMESPACE, Fleet, Reader, allow, aws_policy, client_secret, role_of
from tests.reliability.neighbour import Neighbour
from tests.reliability.replica import Replica
from tests.reliability.siege_lines import HOSTILE, aws
from tests.reliability.soak import FILL, POLL, TIMEOUT_S, complaints_of, say, what_was_read
from tests.reliability.writers import Log, Writers
from tests.support.cluster_policies import client_secrets
from tests.support.kube.simulator import ApiServer

if TYPE_CHECKING:
    from collections.abc import Iterator

POLICIES, HOSTILE_POLICIES = 100, 60
LIVES = tuple(timedelta(seconds=life) for life in range(180, 301, 30))
SAMPLE_S, TOLD_EVERY_S = 10.0, 60.0
REQUESTS_KEPT = 2000
PLURAL = "backendsecuritypolicies"


class ClusterFleet(Fleet):
    """The fleet in a simulated cluster."""

    server: ApiServer

    def write(self) -> None:
        """Create the policies, and let the sandbox know the roles."""
        self.server.create("secrets", client_secret())
        for life in self.lives:
            allow(self.sandbox, role_of(life), life)
        for name, life in self.policies.items():
            self.server.create(PLURAL, aws_policy(name, self.sandbox.issuer.url, role_of(life)))

    def read(self, policy: str) -> str:
        """Read a policy's credentials file as the gateway does."""
        secret = self.server.get("secrets", f"ai-eg-bsp-{policy}", NAMESPACE)
        # One that is parked, as a busy machine's first attempts may be, has no credential yet.
        if secret is None or "credentials" not in secret["data"]:
            raise FileNotFoundError(policy)
        return base64.b64decode(secret["data"]["credentials"]).decode()


class ClusterNeighbour(Neighbour):
    """The hostile tenant, in its own namespace of the cluster."""

    server: ApiServer

    def _write(self, chosen: list[tuple[str, str, dict[str, str]]]) -> None:
        for number, (issuer, role, provider) in enumerate(chosen[:HOSTILE_POLICIES]):
            name = f"hostile-{number}"
            if self.server.get(PLURAL, name, HOSTILE) is not None:
                if number % 6 != self.edits % 6:
                    continue
                self.server.delete(PLURAL, name, HOSTILE)
            self.server.create(PLURAL, aws(name, issuer, role=role, **provider))
        self.server.collect_garbage()
        self.edits += 1


@dataclass
class Rehearsal:
    """Two daemons, what happens to them, and who looks on."""

    fleet: ClusterFleet
    replicas: list[Replica]
    reader: Reader
    mischief: ClusterMischief
    neighbour: ClusterNeighbour
    writers: Writers

    def run(self, length: timedelta) -> list[str]:
        """Run it; return what was seen that should not have been, in words."""
        self.reader.start()
        if not self.reader.wait_for(self.fleet.policies, {}, FILL):
            return [f"only {len(self.reader.seen)} of {self.fleet.count} policies ever got a credential"]
        self.mischief.start()
        self.neighbour.start()
        ended = self._wait(length.total_seconds())
        self.mischief.stop()
        self.neighbour.stop()
        self.reader.stop()
        grown = [line for replica in self.replicas for line in replica.growth()]
        late = [f"a daemon that was to end did so with {code}" for code in self.mischief.ends if code]
        return [*complaints_of(self.reader), *ended, *grown, *late, *self.writers.complaints]

    def _wait(self, length_s: float) -> list[str]:
        """Wait for the end, and take down figures meanwhile; return the daemons that ended by themselves, in words."""
        began_s = told_s = time.monotonic()
        while (passed_s := time.monotonic() - began_s) < length_s:
            time.sleep(min(SAMPLE_S, length_s - passed_s))
            if self.mischief.restarts and passed_s > length_s / 3:
                self.mischief.restarts = False
                for replica in self.replicas:
                    replica.forget()
            for replica in self.replicas:
                replica.sample()
            self.writers.judge()
            del self.fleet.server.requests[:-REQUESTS_KEPT]
            ended = [each for each in self.replicas if each.process.poll() is not None]
            # One that is being restarted is started anew by the time that it is looked at again.
            if ended and not self.mischief.restarting:
                return [f"the {each.name} daemon ended by itself, with {each.process.returncode}" for each in ended]
            if not self.mischief.is_alive():
                return ["nothing goes wrong any more: the thread that sees to it has ended"]
            if time.monotonic() - told_s >= TOLD_EVERY_S:
                told_s = time.monotonic()
                held = "; ".join(f"{each.name} {each.latest()}" for each in self.replicas)
                seen = sum(self.reader.counts().values())
                say(f"{passed_s:6.0f} s: {seen} credentials, {len(self.reader.expiries)} expired, {held}")
        return []

    def summary(self) -> dict[str, object]:
        """Return what happened, by name."""
        done, writers = self.mischief.done, self.writers
        return {
            "credentials seen": sum(self.reader.counts().values()),
            "faults": f"{done.total()}: {', '.join(f'{name} {count}' for name, count in sorted(done.items()))}",
            "writers": f"{writers.writes} writes judged, the Lease changed hands {writers.changes} times, "
            f"{len(writers.complaints)} writes by one who did not lead",
            "starts": " and ".join(str(replica.starts) for replica in self.replicas),
            "hostile tenant": f"{self.neighbour.edits} rounds of {HOSTILE_POLICIES} policies that fail in every way",
            **what_was_read(self.reader),
        }


def soak(length: timedelta, seed: int, policies: int) -> bool:
    """Run it and print the summary; tell whether nothing was seen that should not have been."""
    with (
        tempfile.TemporaryDirectory(prefix="credrotator-soak-") as name,
        Sandbox(Path(name) / "sandbox") as sandbox,
        ApiServer() as server,
    ):
        sandbox.issuer.token_life = timedelta(seconds=20)
        server.requests = log = Log()
        fleet = ClusterFleet(sandbox, Path(name), policies, LIVES)
        fleet.server = server
        fleet.write()
        for secret in client_secrets(HOSTILE):
            server.create("secrets", secret)
        neighbour = ClusterNeighbour(sandbox, Path(name), seed)
        neighbour.server = server
        say(f"{policies} policies, two daemons, for {length.total_seconds():.0f} s; seed {seed}")
        with _running(fleet) as replicas:
            mischief = ClusterMischief(fleet, server, replicas, seed)
            rehearsal = Rehearsal(fleet, replicas, Reader(fleet, POLL), mischief, neighbour, Writers(log))
            complaints = rehearsal.run(length)
        for title, value in rehearsal.summary().items():
            say(f"{title:<23} {value}")
        for complaint in complaints[:20]:
            say(f"  {complaint}")
        return not complaints


@contextlib.contextmanager
def _running(fleet: ClusterFleet) -> Iterator[list[Replica]]:
    """Run both daemons, and end them with the block."""
    environment = {**os.environ, **fleet.sandbox.environment()}
    replicas = [
        Replica(name, _command(fleet, name), environment, fleet.directory / f"{name}.log")
        for name in ("first", "second")
    ]
    try:
        for replica in replicas:
            replica.start()
        yield replicas
    finally:
        for replica in replicas:
            replica.end(signal.SIGTERM)


def _command(fleet: ClusterFleet, name: str) -> list[str]:
    """Return the command of a daemon that the API server knows by that name."""
    kubeconfig = fleet.server.kubeconfig(fleet.directory / f"{name}.kubeconfig", user={"token": name})
    return [
        sys.executable, "-m", "credrotator", "run", "-A", "--kubeconfig", str(kubeconfig),
        "--listen", "127.0.0.1:0", "--timeout", f"{TIMEOUT_S}s",
        "--allowed-issuer", "https://localhost:*", "--allowed-issuer", "https://localhost:*/*",
    ]  # fmt: skip


def main() -> None:
    """Run it as the environment says."""
    length = timedelta(seconds=float(os.environ.get("SOAK", "7200")))
    seed, policies = int(os.environ.get("SOAK_SEED", "1")), int(os.environ.get("SOAK_POLICIES", POLICIES))
    sys.exit(0 if soak(length, seed, policies) else 1)


if __name__ == "__main__":
    main()
