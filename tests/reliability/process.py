"""One replica: the real daemon and exchanger over the made-up world, one class for each thing that is made up.

Owns how the real parts are put together, as ``app.cluster`` does it, with time and network exchanged.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from credrotator.core.model import Credential, InvalidPolicy, ObjectKey, Policy
from credrotator.exchange.exchanger import Exchanger, ExchangeSettings
from credrotator.exchange.http.circuit import CircuitBreakers
from credrotator.exchange.http.clock_offset import SkewedClock
from credrotator.exchange.issuers.allowed import AllowedIssuers
from credrotator.kube.client.leader_election import LeaderElection
from credrotator.kube.client.lease_term import LeaseTerm
from credrotator.observability.audit import Audit
from credrotator.observability.metrics import Metrics
from credrotator.rotation.attempt import AttemptRunner
from credrotator.rotation.daemon import Daemon
from credrotator.rotation.edit_budget import ChargedExchange, EditBudget
from credrotator.rotation.guard import PolicyGuard
from credrotator.rotation.lanes import LaneGuard, Lanes
from credrotator.rotation.recovery import Recovery
from credrotator.rotation.rotation import Rotation
from credrotator.rotation.store_recovery import StoreRecovery
from credrotator.rotation.timetable import Timetable
from tests.reliability.kernel import FakeCondition, FakeEvent, Machine, Task
from tests.reliability.stand_ins import SimApi, SimIssuers, SimProvider, SimQueue, SimScheduler, SimSource, SimStore
from tests.support.twins import ExchangeBy, Listener, Told

if TYPE_CHECKING:
    from credrotator.core.model import Rotatable
    from credrotator.core.outcome import Outcome
    from credrotator.core.ports import SecretReader
    from tests.reliability.simulation import Backend

LEASE = ObjectKey("credrotator", "credrotator")


class Process:
    """One replica: the real daemon, wired as ``app.cluster`` wires it."""

    def __init__(self, world: Backend, machine: Machine, name: str) -> None:
        self.world, self.machine, self.name = world, machine, name
        self.dead = False
        self.clock = SkewedClock(machine.clock, machine.boottime)
        self.source, self.store = SimSource(self), SimStore(self)
        self.exchanger = self._make_exchanger()
        self.metrics = Metrics()
        guard, audit = PolicyGuard(self.source, self.leads), Audit(failures=logging.WARNING)
        edits = EditBudget(machine.boottime)
        lanes = Lanes(self.source, self.exchanger.has_valid_token, world.workers)
        queue = SimQueue(world.kernel, world.workers, lanes.of, lanes.limit)
        recovering = StoreRecovery(
            self.store,
            machine.boottime,
            lambda: FakeCondition(machine.kernel),  # type: ignore[return-value, arg-type]
        )
        self.rotation = Rotation(
            recovering,
            ChargedExchange(ExchangeBy(self._exchange), edits),
            self.clock,
            LaneGuard(guard, queue),
            instrumentation=self.metrics,
            audit=audit,
        )
        self.daemon = Daemon(
            self.source,
            queue,
            AttemptRunner(
                self.rotation,
                Listener(self._listen, self.exchanger.circuits.forget),
                guard,
                self.clock,
                audit=audit,
                instrumentation=self.metrics,
            ),
            self.clock,
            leads=self.leads,
            instrumentation=self.metrics,
            edits=edits,
            seconds=machine.boottime,
        )
        self.timetable = Timetable(self.daemon._due, self.clock, seconds=machine.boottime, machine=machine.clock)
        self.timetable._scheduler = SimScheduler(machine)
        self.timetable._stopping = FakeEvent(world.kernel)  # type: ignore[assignment]
        self.daemon._timetable = self.timetable
        self.recoveries = [Recovery(each.awake, self.daemon.wake) for each in (self.exchanger.circuits, recovering)]
        for recovery in self.recoveries:
            recovery._stopping = FakeEvent(world.kernel)  # type: ignore[assignment]
        self.election = LeaderElection(
            SimApi(self),  # type: ignore[arg-type]
            LEASE,
            name,
            LeaseTerm(machine.boottime),
            listener=Told(self.daemon.enqueue_all, self.daemon.pause, self.daemon.stand_down),
            timing=world.timing,
            clock=machine.clock,
        )
        self.election._stopping = FakeEvent(world.kernel)  # type: ignore[assignment]
        self._tasks: list[Task] = []

    def start(self) -> None:
        """Start all that ``Daemon.start`` and ``serve_cluster`` start."""
        kernel = self.world.kernel
        for number in range(self.world.workers):
            self._tasks.append(kernel.spawn(self.machine, f"{self.name}/worker-{number}", self.daemon._work))
        self._tasks.append(kernel.spawn(self.machine, f"{self.name}/sweep", self.timetable._keep_sweeping))
        self._tasks.append(kernel.spawn(self.machine, f"{self.name}/election", self.election._run))
        for number, recovery in enumerate(self.recoveries):
            self._tasks.append(kernel.spawn(self.machine, f"{self.name}/recovery-{number}", recovery.run))
        self.source.start(self.daemon.enqueue)

    def stop(self) -> None:
        """End in order, as for SIGTERM: no new looks, writes in hand finished, then the Lease released."""
        self.world.oracle.note(f"{self.name} is told to stop")
        self.timetable._stopping.set()
        self.daemon._queue.close()
        for recovery in self.recoveries:
            recovery._stopping.set()

        def release() -> None:
            self.election._stopping.set()

        self.world.kernel.at(7.0, release, self.machine)

    def kill(self) -> None:
        """End at once, wherever it is."""
        self.dead = True
        for task in self._tasks:
            self.world.kernel.kill(task)
        for event in self.timetable._scheduler._jobs.values():
            event.cancelled = True

    def leads(self) -> bool:
        """Tell whether it believes that it leads."""
        return not self.dead and self.election.is_leader()

    def cut_off(self) -> float:
        """Return for how many seconds more it cannot reach the API server."""
        trouble = self.world.api.trouble(self.world.kernel.now_s)
        until_s = self.world.partitioned.get(self.machine.name, 0.0)
        if trouble and trouble.kind == "drop":
            until_s = max(until_s, trouble.end_s)
        return max(0.0, until_s - self.world.kernel.now_s)

    def _make_exchanger(self) -> Exchanger:
        exchanger = Exchanger(ExchangeSettings(), self.clock, [SimProvider(self)], {})
        circuits = exchanger.circuits = CircuitBreakers(
            seconds=self.machine.monotonic,
            condition=lambda: FakeCondition(self.machine.kernel),  # type: ignore[arg-type, return-value]
        )
        nothing: Any = None
        issuers = SimIssuers(
            guarded=nothing,
            named=nothing,
            allowed=AllowedIssuers(),
            clock=self.clock,
            circuits=circuits,
            seconds=self.machine.boottime,
        )
        issuers.world, issuers.process = self.world, self
        exchanger.__dict__.update(_issuers=issuers)
        return exchanger

    def _exchange(self, policy: ObjectKey, source: Rotatable, secrets: SecretReader, **how: Any) -> Credential:
        with self.world.oracle.attempt(self, policy, source, **how):
            return self.exchanger(policy, source, secrets, **how)

    def _listen(self, policy: Policy | InvalidPolicy, outcome: Outcome) -> None:
        self.world.oracle.outcome(self, policy, outcome)
