"""What goes wrong in ``make soak-cluster``, one thing after the other."""

from __future__ import annotations

import base64
import contextlib
import random
import signal
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from credrotator.core.secretdata import EXPIRY
from credrotator.kube.store import MANAGED_BY
from credrotator.sandbox.clients import DEFAULT_CLIENT
from tests.reliability.fleet import NAMESPACE
from tests.reliability.soak import ISSUER_FAULTS, STS_FAULTS
from tests.support.kube.objects import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.reliability.fleet import Fleet
    from tests.reliability.replica import Replica
    from tests.support.kube.objects import Json
    from tests.support.kube.simulator import ApiServer

PAUSES_S, FAULTS_S, HANGS_S = (15.0, 45.0), (3.0, 25.0), (3.0, 12.0)
STOPPED_S = (17.0, 25.0)
LEASE = "credrotator"

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

    def __init__(self, fleet: Fleet, server: ApiServer, replicas: list[Replica], seed: int) -> None:
        super().__init__(name="mischief", daemon=True)
        self.done: Counter[str] = Counter()
        self.restarts = True
        self.restarting = False
        self.ends: list[int] = []
        self._fleet, self._server, self._replicas = fleet, server, replicas
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
        edits: dict[str, Json] = {
            "label taken": {"metadata": {"labels": {MANAGED_BY: None}}},
            "owner taken": {"metadata": {"ownerReferences": None}},
            "expiry edited": {"metadata": {"annotations": {EXPIRY: tomorrow}}},
        }
        return [
            ("client secret rotated", lambda: self._once(self._rotate_client_secret), (0.0, 1.0)),
            *((name, partial(self._patched, secret, patch), (0.0, 1.0)) for name, patch in edits.items()),
        ]

    def _patched(self, secret: str, patch: Json) -> AbstractContextManager[None]:
        return self._once(lambda: self._server.patch("secrets", secret, patch))

    def _rotate_client_secret(self) -> None:
        fresh = f"secret-{self.done.total()}"
        data = {"client-secret": base64.b64encode(fresh.encode()).decode()}
        self._fleet.sandbox.issuer.clients[DEFAULT_CLIENT].secret = fresh
        self._server.patch("secrets", "oidc-client", {"data": data})

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
