"""``make soak-cluster``: two hours of two daemons over a simulated API server that fails, with the lead going round.

100 policies whose credentials live for 3..5 minutes. Every 15..45 s one thing goes wrong: the issuer, STS, the API
server (refuses, drops, hangs, says nothing more to watches, forgets its history), the lead (taken away, or its holder
is stopped for longer than the Lease; in the first third killed or ended too), or somebody edits what is noted on a
Secret. A hostile tenant of another namespace fails in every way meanwhile. As in ``make soak`` a reader looks at every
credential each second: each must be one whole session of its policy, accepted by STS, and none may be expired.

No fault lasts longer than 25 s, and none begins before the last one is over: with the Lease's 15 s and a request that
hangs for its 30 s, that is less than half of the shortest life, which is what is left when a renewal is due.

Memory, threads and open files are taken down every ten seconds for each process. After the first third nobody is
restarted any more, so that growth could be seen: the median of the last quarter is compared with that of the first.
The exit code is 1 if anything expired, was torn, or grew. ``SOAK=300`` in the environment sets the seconds,
``SOAK_SEED`` the faults, ``SOAK_POLICIES`` the policies.
"""

from __future__ import annotations

import base64
import contextlib
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from credrotator.core.secretdata import EXPIRY
from credrotator.kube.store import MANAGED_BY
from credrotator.sandbox import Sandbox
from tests.reliability.fleet import NAMESPACE, Fleet, Reader, allow, aws_policy, client_secret, role_of
from tests.reliability.neighbour import Neighbour
from tests.reliability.siege_lines import HOSTILE, aws
from tests.reliability.soak import FILL, ISSUER_FAULTS, POLL, STS_FAULTS, TIMEOUT_S, complaints_of, say, what_was_read
from tests.support.cluster_policies import client_secrets
from tests.support.kube.objects import Refusal
from tests.support.kube.simulator import ApiServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

POLICIES, HOSTILE_POLICIES = 100, 60
LIVES = tuple(timedelta(seconds=life) for life in range(180, 301, 30))
PAUSES_S, FAULTS_S, HANGS_S = (15.0, 45.0), (3.0, 25.0), (3.0, 12.0)
STOPPED_S = (17.0, 25.0)
SAMPLE_S, TOLD_EVERY_S, GRACE_S = 10.0, 60.0, 12.0
REQUESTS_KEPT = 2000
PLURAL, LEASE = "backendsecuritypolicies", "credrotator"
ROLES = ("standby", "leader")
GROWN = {"memory, MiB": (1.10, 6.0), "threads": (1.0, 3.0), "open files": (1.0, 10.0)}
"""By how much the last median may exceed the first: this share of it, and so much more."""


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
        if secret is None:
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
class Replica:
    """One of the daemons, through all of its processes; figures are those of the latest one."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    starts: int = 0
    figures: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    role: str = ""
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        """Start a process; what was taken down of the one before is forgotten."""
        self.starts += 1
        self.forget()
        with self.log.open("ab") as output:
            output.write(f"--- start {self.starts}\n".encode())
            self.process = subprocess.Popen(self.command, stdout=output, stderr=output, env=self.environment)

    def forget(self) -> None:
        """Take figures down anew."""
        self.figures = {(role, name): [] for role in ROLES for name in GROWN}

    def end(self, number: signal.Signals) -> int:
        """Have it end, and return its exit code; kill it if it takes too long."""
        self.process.send_signal(number)
        try:
            return self.process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def sample(self) -> None:
        """Take down what it holds at this moment, as leader or as standby: the two are not compared."""
        leads = self.leads()
        if leads is None:
            return
        self.role = ROLES[leads]
        proc = Path(f"/proc/{self.process.pid}")
        with contextlib.suppress(OSError):
            status = proc.joinpath("status").read_text()
            found = {name: int(count) for name, count in re.findall(r"(VmRSS|Threads):\s+(\d+)", status)}
            self.figures[self.role, "memory, MiB"].append(found["VmRSS"] / 1024)
            self.figures[self.role, "threads"].append(found["Threads"])
            self.figures[self.role, "open files"].append(sum(1 for _ in proc.joinpath("fd").iterdir()))

    def leads(self) -> bool | None:
        """Tell whether it says that it leads; None where it says nothing."""
        addresses = re.findall(r"listening on (\S+)", self.log.read_text().rpartition("--- start")[2])
        with contextlib.suppress(requests.RequestException):
            if addresses:
                text = requests.get(f"http://{addresses[-1]}/metrics", timeout=5).text
                return re.search(r"^credrotator_leader 1", text, re.MULTILINE) is not None
        return None


Act = tuple[str, "Callable[[], AbstractContextManager[object]]", tuple[float, float]]
"""What it is called, what begins it (and ends it, as a context manager), and for how many seconds it lasts."""


class ClusterMischief(threading.Thread):
    """Makes one thing after the other go wrong; the same seed does the same.

    Attributes:
        done: How often each was done.
        restarts: Whether daemons may be ended and started anew.
        restarting: One is, just now.
        ends: The exit codes of daemons that were asked to end.
    """

    def __init__(self, fleet: ClusterFleet, replicas: list[Replica], seed: int) -> None:
        super().__init__(name="mischief", daemon=True)
        self.done: Counter[str] = Counter()
        self.restarts = True
        self.restarting = False
        self.ends: list[int] = []
        self._fleet, self._server, self._replicas = fleet, fleet.server, replicas
        self._random = random.Random(seed)  # noqa: S311 - nothing depends on its being unforeseeable
        self._stopping = threading.Event()

    def run(self) -> None:
        """Make trouble until stopped."""
        kinds = [self._vendor, self._api, self._lead, self._edit]
        while not self._stopping.wait(self._random.uniform(*PAUSES_S)):
            name, begin, lasts_s = self._random.choice(self._random.choice(kinds)())
            self.done[name] += 1
            with begin():
                self._stopping.wait(self._random.uniform(*lasts_s))

    def stop(self) -> None:
        """Stop, with every fault off."""
        self._stopping.set()
        self.join()

    def _vendor(self) -> list[Act]:
        sandbox = self._fleet.sandbox
        made = [(sandbox.issuer, make()) for make in ISSUER_FAULTS] + [(sandbox.sts, make()) for make in STS_FAULTS]
        return [(f"{at.name} {type(fault).__name__}", lambda at=at, f=fault: at.faults.add(f), FAULTS_S)  # type: ignore[misc]
                for at, fault in made]  # fmt: skip

    def _api(self) -> list[Act]:
        server = self._server
        return [
            ("API 500", lambda: self._until(lambda: server.fail(500, "InternalError")), FAULTS_S),
            ("API 503", lambda: self._until(lambda: server.fail(503, "ServiceUnavailable")), FAULTS_S),
            ("API 429", lambda: self._until(lambda: server.fail(429, "TooManyRequests", retry_after_s=2)), FAULTS_S),
            ("API 401", lambda: self._until(lambda: server.fail(401, "Unauthorized")), FAULTS_S),
            ("API drops", lambda: self._until(server.drop), FAULTS_S),
            ("API drops after writing", lambda: self._until(lambda: server.drop("after", verb="update")), FAULTS_S),
            ("API hangs", lambda: self._until(lambda: server.delay(float("inf"))), HANGS_S),
            ("API is slow", lambda: self._until(lambda: server.delay(1.0)), FAULTS_S),
            ("watches silent", self._silence, FAULTS_S),
            ("watches dropped", lambda: self._once(lambda: server.end_watches("dropped")), (0.0, 1.0)),
            ("history gone", self._compaction, (0.0, 1.0)),
        ]

    def _lead(self) -> list[Act]:
        acts: list[Act] = [
            ("leader stopped", self._stop_leader, STOPPED_S),
            ("Lease taken", lambda: self._once(self._take_lease), (0.0, 1.0)),
            ("Lease deleted", lambda: self._once(lambda: self._server.delete("leases", LEASE, NAMESPACE)), (0.0, 1.0)),
        ]
        if self.restarts:
            acts += [
                ("leader ended", lambda: self._once(lambda: self._restart(signal.SIGTERM)), (0.0, 1.0)),
                ("leader killed", lambda: self._once(lambda: self._restart(signal.SIGKILL)), (0.0, 1.0)),
            ]
        return acts

    def _edit(self) -> list[Act]:
        secret = f"ai-eg-bsp-{self._random.choice(list(self._fleet.policies))}"
        tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        edits = {
            "label taken": {"metadata": {"labels": {MANAGED_BY: None}}},
            "owner taken": {"metadata": {"ownerReferences": None}},
            "expiry edited": {"metadata": {"annotations": {EXPIRY: tomorrow}}},
        }
        return [
            (name, lambda patch=patch: self._once(lambda: self._server.patch("secrets", secret, patch)), (0.0, 1.0))  # type: ignore[misc]
            for name, patch in edits.items()
        ]

    @contextlib.contextmanager
    def _until(self, begin: Callable[[], object]) -> Iterator[None]:
        begin()
        try:
            yield
        finally:
            self._server.heal()

    @contextlib.contextmanager
    def _once(self, act: Callable[[], object]) -> Iterator[None]:
        # What is not there just now (a Lease, before anybody takes it) cannot be edited.
        with contextlib.suppress(Refusal):
            act()
        yield

    @contextlib.contextmanager
    def _silence(self) -> Iterator[None]:
        self._server.silent = True
        try:
            yield
        finally:
            self._server.heal()

    def _compaction(self) -> AbstractContextManager[None]:
        def forget() -> None:
            self._server.compact()
            self._server.end_watches()

        return self._once(forget)

    @contextlib.contextmanager
    def _stop_leader(self) -> Iterator[None]:
        leader = self._leader()
        leader.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            leader.process.send_signal(signal.SIGCONT)

    def _restart(self, number: signal.Signals) -> None:
        leader = self._leader()
        self.restarting = True
        code = leader.end(number)
        if number == signal.SIGTERM:
            self.ends.append(code)
        leader.start()
        self.restarting = False

    def _take_lease(self) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": "somebody-else", "renewTime": now, "acquireTime": now}
        self._server.patch("leases", LEASE, {"spec": spec}, NAMESPACE)

    def _leader(self) -> Replica:
        return next((replica for replica in self._replicas if replica.leads()), self._replicas[0])


def soak(length: timedelta, seed: int, policies: int) -> bool:
    """Run it and print the summary; tell whether nothing was seen that should not have been."""
    with (
        tempfile.TemporaryDirectory(prefix="credrotator-soak-") as name,
        Sandbox(Path(name) / "sandbox") as sandbox,
        ApiServer() as server,
    ):
        sandbox.issuer.token_life = timedelta(seconds=20)
        fleet = ClusterFleet(sandbox, Path(name), policies, LIVES)
        fleet.server = server
        fleet.write()
        for secret in client_secrets(HOSTILE):
            server.create("secrets", secret)
        neighbour = ClusterNeighbour(sandbox, Path(name), seed)
        neighbour.server = server
        say(f"{policies} policies, two daemons, for {length.total_seconds():.0f} s; seed {seed}")
        with _running(fleet) as replicas:
            reader, mischief = Reader(fleet, POLL), ClusterMischief(fleet, replicas, seed)
            reader.start()
            if not reader.wait_for(fleet.policies, {}, FILL):
                say(f"only {len(reader.seen)} of {policies} policies ever got a credential; see {name}")
                return False
            mischief.start()
            neighbour.start()
            ended = _wait(fleet, replicas, reader, mischief, length)
            mischief.stop()
            neighbour.stop()
            reader.stop()
        grown = [line for replica in replicas for line in _growth(replica)]
        _summarise(reader, mischief, neighbour, replicas)
        late = [f"a daemon that was to end did so with {code}" for code in mischief.ends if code]
        complaints = [*complaints_of(reader), *ended, *grown, *late]
        for complaint in complaints[:20]:
            say(f"  {complaint}")
        return not complaints


@contextlib.contextmanager
def _running(fleet: ClusterFleet) -> Iterator[list[Replica]]:
    """Run both daemons, and end them with the block."""
    kubeconfig = fleet.server.kubeconfig(fleet.directory / "kubeconfig")
    command = [
        sys.executable, "-m", "credrotator", "run", "-A", "--kubeconfig", str(kubeconfig),
        "--listen", "127.0.0.1:0", "--timeout", f"{TIMEOUT_S}s",
        "--allowed-issuer", "https://localhost:*", "--allowed-issuer", "https://localhost:*/*",
    ]  # fmt: skip
    environment = {**os.environ, **fleet.sandbox.environment()}
    replicas = [Replica(name, command, environment, fleet.directory / f"{name}.log") for name in ("first", "second")]
    try:
        for replica in replicas:
            replica.start()
        yield replicas
    finally:
        for replica in replicas:
            replica.end(signal.SIGTERM)


def _wait(
    fleet: ClusterFleet, replicas: list[Replica], reader: Reader, mischief: ClusterMischief, length: timedelta
) -> list[str]:
    """Wait for the end, and take down figures meanwhile; return the daemons that ended by themselves, in words."""
    began_s = told_s = time.monotonic()
    while (passed_s := time.monotonic() - began_s) < length.total_seconds():
        time.sleep(min(SAMPLE_S, length.total_seconds() - passed_s))
        if mischief.restarts and passed_s > length.total_seconds() / 3:
            mischief.restarts = False
            for replica in replicas:
                replica.forget()
        for replica in replicas:
            replica.sample()
        del fleet.server.requests[:-REQUESTS_KEPT]
        # One that is being restarted is started anew by the time that it is looked at again.
        if ended := [each for each in replicas if each.process.poll() is not None and not mischief.restarting]:
            return [f"the {each.name} daemon ended by itself, with {each.process.returncode}" for each in ended]
        if not mischief.is_alive():
            return ["nothing goes wrong any more: the thread that sees to it has ended"]
        if time.monotonic() - told_s >= TOLD_EVERY_S:
            told_s = time.monotonic()
            held = "; ".join(f"{each.name} {_latest(each)}" for each in replicas)
            seen = sum(reader.counts().values())
            say(f"{passed_s:6.0f} s: {seen} credentials, {len(reader.expiries)} expired, {held}")
    return []


def _latest(replica: Replica) -> str:
    held = (f"{replica.figures[replica.role, name][-1]:.0f} {name}" for name in GROWN if replica.role)
    return f"{replica.role}, {', '.join(held)}"


def _growth(replica: Replica) -> list[str]:
    """Say what a daemon holds more of in the last quarter of its time than in the first, in words."""
    grown = []
    for (role, name), figures in replica.figures.items():
        if not figures:
            continue
        share, more = GROWN[name]
        quarter = max(1, len(figures) // 4)
        first, last = statistics.median(figures[:quarter]), statistics.median(figures[-quarter:])
        label = f"{replica.name}, {role}: {name}"
        say(f"{label:<31} {first:.0f} at first, {last:.0f} at last, {max(figures):.0f} at most")
        if last > first * share + more:
            grown.append(f"the {replica.name} daemon has grown as {role}: {name} {first:.0f}, then {last:.0f}")
    return grown


def _summarise(reader: Reader, mischief: ClusterMischief, neighbour: ClusterNeighbour, replicas: list[Replica]) -> None:
    faults = ", ".join(f"{name} {count}" for name, count in sorted(mischief.done.items()))
    lines = {
        "credentials seen": sum(reader.counts().values()),
        "faults": f"{mischief.done.total()}: {faults}",
        "starts": " and ".join(str(replica.starts) for replica in replicas),
        "hostile tenant": f"{neighbour.edits} rounds of {HOSTILE_POLICIES} policies that fail in every way",
        **what_was_read(reader),
    }
    for name, value in lines.items():
        say(f"{name:<23} {value}")


def main() -> None:
    """Run it as the environment says."""
    length = timedelta(seconds=float(os.environ.get("SOAK", "7200")))
    seed, policies = int(os.environ.get("SOAK_SEED", "1")), int(os.environ.get("SOAK_POLICIES", POLICIES))
    sys.exit(0 if soak(length, seed, policies) else 1)


if __name__ == "__main__":
    main()
