"""What befalls a world: as a list that hypothesis makes and shrinks, and at random for a whole day."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from credrotator.core.secretdata import ANNOTATED, EXPIRY, ISSUED, TRUE_EXPIRY
from credrotator.providers.aws.source import AwsOidc
from tests.reliability.simulation import SLOW_TIMING, Backend, Trouble, places_of, policy_of
from tests.support.builders import client_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from credrotator.core.model import ObjectKey, Policy
    from tests.reliability.kernel import Machine
    from tests.reliability.process import Process

MINUTE_S, HOUR_S = 60.0, 3600.0
LONGEST_REIGN_S = 10 * MINUTE_S
"""How long another replica leads that writes once and does nothing else."""
DOWN_S = 15.0
"""How long a restart takes."""
HANDOVER_S = 90.0
"""Until another one leads, at the latest, and has looked at everything."""
ENDPOINT_TROUBLES = ("refuse", "hang", "garbage", "throttle", "deny", "unsure", "past", "short")
API_TROUBLES = ("drop", "lost", "deny", "store", "write")
TIMES_TO_MOVE = ((EXPIRY,), (TRUE_EXPIRY,), (ISSUED,), (EXPIRY, ANNOTATED), (EXPIRY, ANNOTATED, TRUE_EXPIRY, ISSUED))
BELONGINGS = ("label", "annotation", "owner", "dead owner")
WRONG_AT_BOOT = timedelta(minutes=10)
SETTLING_S = 25 * MINUTE_S
"""At the end all is well for so long: two retry slots and a life of the shortest credentials."""


@dataclass(frozen=True)
class Happening:
    """Something that befalls a world. ``target`` picks from what there is, ``span_s`` and ``size`` say how much."""

    at_s: float
    what: str
    target: int
    span_s: float
    size: float = 0.0

    def befall(self, world: Backend) -> None:
        """Let it happen, now."""
        key = self._key(world)
        match self.what:
            case "lose":
                world.lose_secret(key)
            case "garble":
                world.garble(key, annotation=self.size > 0)
            case "rival":
                world.rival(key)
            case "retime":
                names = TIMES_TO_MOVE[int(abs(self.size)) % len(TIMES_TO_MOVE)]
                world.edit_times(key, timedelta(minutes=self.size * 4), *names)
            case "disown":
                world.disown(key, BELONGINGS[int(abs(self.size)) % len(BELONGINGS)])
            case "anew":
                world.make_anew(key)
            case "usurp":
                world.usurp(key, min(self.span_s, LONGEST_REIGN_S))
                world.oracle.disturbed(min(self.span_s, LONGEST_REIGN_S) + 2 * HANDOVER_S)
            case _:
                getattr(self, f"_{self.what}")(world)

    def _key(self, world: Backend) -> ObjectKey:
        keys = sorted(world.policies)
        return keys[self.target % len(keys)]

    def _machine(self, world: Backend) -> Machine:
        return world.machines[self.target % len(world.machines)]

    def _endpoint(self, world: Backend) -> None:
        names = sorted({name for policy in world.policies.values() for name in places_of(policy)})
        kind = ENDPOINT_TROUBLES[int(abs(self.size)) % len(ENDPOINT_TROUBLES)]
        place = world.place(names[self.target % len(names)])
        if kind in {"unsure", "past", "short"} and place.name.startswith("http"):
            kind = "refuse"
        patience_s = (abs(self.size) % 1 * HOUR_S) if kind == "throttle" and self.size > 0 else None
        now_s = world.kernel.now_s
        trouble = Trouble(kind, now_s, now_s + self.span_s, patience_s)
        place.troubles.append(trouble)
        world.oracle.note(f"{place.name}: {kind} for {self.span_s:.0f} s, Retry-After {patience_s}")

    def _api(self, world: Backend) -> None:
        kind = API_TROUBLES[int(abs(self.size)) % len(API_TROUBLES)]
        now_s = world.kernel.now_s
        world.api.troubles.append(Trouble(kind, now_s, now_s + self.span_s))
        world.oracle.note(f"the API server: {kind} for {self.span_s:.0f} s")
        if kind in {"drop", "store", "write"}:
            world.oracle.disturbed(self.span_s + HANDOVER_S)

    def _partition(self, world: Backend) -> None:
        machine = self._machine(world)
        world.partitioned[machine.name] = world.kernel.now_s + self.span_s
        world.oracle.note(f"{machine.name} cannot reach the API server for {self.span_s:.0f} s")
        world.oracle.disturbed(self.span_s + HANDOVER_S)

    def _suspend(self, world: Backend) -> None:
        machine = self._machine(world)
        machine.suspend(self.span_s)
        world.oracle.note(f"{machine.name} is suspended for {self.span_s:.0f} s")
        # Somebody is at work again when the first of them is awake.
        asleep_s = min(each.suspended_until_s for each in world.machines) - world.kernel.now_s
        world.oracle.disturbed(max(0.0, asleep_s) + HANDOVER_S)

    def _step(self, world: Backend) -> None:
        machine = self._machine(world)
        step = timedelta(seconds=max(-HOUR_S, min(HOUR_S, self.size * MINUTE_S)))
        machine.offset = step if abs(self.size) > 1 else timedelta(0)
        world.oracle.clock_stepped()
        world.oracle.note(f"{machine.name}: its clock is set to {machine.offset} beside the truth")

    def _kill(self, world: Backend) -> None:
        machine = self._machine(world)
        for process in [each for each in world.processes if each.machine is machine]:
            world.kill(process)
        world.oracle.disturbed(DOWN_S + HANDOVER_S)
        world.kernel.at(DOWN_S, lambda: _boot(world, machine))

    def _stop(self, world: Backend) -> None:
        machine = self._machine(world)

        def end(process: Process) -> Callable[[], None]:
            return lambda: world.kill(process) if process in world.processes else None

        for process in [each for each in world.processes if each.machine is machine]:
            process.stop()
            world.kernel.at(10.0, end(process))
        world.oracle.disturbed(DOWN_S + HANDOVER_S)
        world.kernel.at(DOWN_S, lambda: _boot(world, machine))

    def _edit(self, world: Backend) -> None:
        key = self._key(world)
        policy = world.policies[key]
        world.put(replace(_again(policy, role=f"r{int(world.kernel.now_s)}"), uid=policy.uid))

    def _delete(self, world: Backend) -> None:
        if len(world.policies) > 1:
            world.delete(self._key(world))

    def _create(self, world: Backend) -> None:
        like = world.policies[self._key(world)]
        if not any(key.name == f"new-{self.target}" for key in world.policies):
            world.put(_again(like, name=f"new-{self.target}"), world.lives[like.key])


def _boot(world: Backend, machine: Machine) -> None:
    """Start a process again; its machine's clock is wrong by 10 min at most (fault 23), as no vendor was heard yet."""
    if not any(process.machine is machine for process in world.processes):
        machine.offset = max(-WRONG_AT_BOOT, min(WRONG_AT_BOOT, machine.offset))
        world.boot(machine)


def _again(policy: Policy, *, name: str | None = None, role: str = "r") -> Policy:
    """Return the policy with another name, or another role."""
    source = policy.source
    aws = isinstance(source, AwsOidc)
    issuer, client = (int(text.rpartition("-")[2].partition(".")[0]) for text in _client_of(policy))
    return policy_of(
        name or policy.key.name,
        issuer=issuer,
        client=client,
        region=source.region if isinstance(source, AwsOidc) else "",
        role=role,
        azure=not aws,
    )


def _client_of(policy: Policy) -> tuple[str, str]:
    oidc = client_of(policy)
    return oidc.issuer, str(oidc.client_id)


@dataclass(frozen=True)
class Scenario:
    """A small world and what befalls it."""

    seed: int
    lives_min: tuple[int, ...]
    replicas: int
    happenings: tuple[Happening, ...]

    def play(self, before_end: Callable[[Backend], None] = lambda _: None, log_level: int = logging.ERROR) -> Backend:
        """Return the world at its end, closed; what it saw is in its oracle."""
        world = Backend(self.seed, timing=SLOW_TIMING)
        world.oracle.log_level = log_level
        try:
            for number, life_min in enumerate(self.lives_min):
                policy = policy_of(f"p{number}", issuer=number % 2, client=number % 2, azure=number % 3 == 2)
                world.put(policy, timedelta(minutes=life_min))
            for machine in [world.add_machine() for _ in range(self.replicas)]:
                world.boot(machine)
            for happening in sorted(self.happenings, key=lambda each: each.at_s):
                world.run(happening.at_s)
                happening.befall(world)
            settle(world)
            before_end(world)
        finally:
            world.close()
        return world


def settle(world: Backend) -> None:
    """Let all be well at the end, and see that every policy is served then."""
    ends = [
        trouble.end_s + (trouble.retry_after_s or 0) for place in world.places.values() for trouble in place.troubles
    ]
    ends += [*world.partitioned.values(), *(machine.suspended_until_s for machine in world.machines)]
    world.run(max([world.kernel.now_s, *ends]) + SETTLING_S)
    for key in world.policies:
        if why := world.oracle.served(key):
            world.oracle.violated(12, key, f"at the end: {why}")
        if why := world.oracle.owned(key):
            world.oracle.violated(12, key, f"at the end its Secret {why}")


def happenings(*what: str, longest_s: float = 30 * MINUTE_S) -> st.SearchStrategy[Happening]:
    """Return a strategy for what may befall a small world within an hour and a half."""
    return st.builds(
        Happening,
        at_s=st.integers(0, 90 * 60).map(float),
        what=st.sampled_from(what or EVERYTHING),
        target=st.integers(0, 5),
        span_s=st.integers(1, int(longest_s)).map(float),
        size=st.integers(-80, 80).map(lambda number: number * 1.1),
    )


EVERYTHING = (
    *("endpoint", "api", "partition", "suspend", "step", "kill", "stop"),
    *("edit", "delete", "create", "lose", "garble", "rival", "retime", "disown", "anew", "usurp"),
)


def scenarios(*what: str, most: int = 8, longest_s: float = 30 * MINUTE_S) -> st.SearchStrategy[Scenario]:
    """Return a strategy for small worlds to which only ``what`` happens (default: everything)."""
    return st.builds(
        Scenario,
        seed=st.integers(0, 1000),
        lives_min=st.lists(st.sampled_from([60, 15, 5, 240]), min_size=1, max_size=4).map(tuple),
        replicas=st.integers(1, 2),
        happenings=st.lists(happenings(*what, longest_s=longest_s), max_size=most).map(tuple),
    )


def crowd(*befall: Happening, seed: int = 0, replicas: int = 1) -> Scenario:
    """Return a world of many policies of few endpoints, and what befalls it."""
    return Scenario(seed, (60,) * 20 + (15,) * 10, replicas, befall)


def crowds() -> st.SearchStrategy[Scenario]:
    """Return a strategy for crowds; each is played within a second, and four things at most befall it."""
    befall = st.lists(happenings(), min_size=1, max_size=4)
    return st.builds(
        lambda befall, seed, replicas: crowd(*befall, seed=seed, replicas=replicas),
        befall,
        st.integers(0, 1000),
        st.integers(1, 2),
    )


LIVES_H = {0.2: 1.0, 0.7: 4.0, 0.985: 12.0, 0.998: 0.25, 1.0: 1 / 12}
"""Lives of credentials in the big world, by the share of policies up to which they go."""


def day(seed: int, *, policies: int = 1000, hours: float = 24.0) -> Backend:
    """Play a day of many policies on three replicas, with random faults; return the world at its end, closed."""
    rng = random.Random(seed)  # noqa: S311 - reproducible on purpose
    world = Backend(seed, workers=16, timing=SLOW_TIMING)
    try:
        for number in range(policies):
            life_h = next(life for share, life in LIVES_H.items() if number / policies < share)
            region = f"us-east-{number % 3}"
            policy = policy_of(
                f"p{number}", issuer=number % 10, client=number % 50, region=region, azure=number % 4 == 3
            )
            world.put(policy, timedelta(hours=life_h))
        for machine in [world.add_machine() for _ in range(3)]:
            world.boot(machine)
        at_s = HOUR_S / 2
        while at_s < hours * HOUR_S:
            world.run(at_s)
            what = rng.choice([*EVERYTHING, "endpoint", "endpoint", "endpoint"])
            span_s = rng.choice([5.0, 60.0, 600.0, 1800.0])
            Happening(at_s, what, rng.randrange(10**6), span_s, rng.uniform(-80, 80)).befall(world)
            at_s += rng.expovariate(1 / 400.0)
        settle(world)
    finally:
        world.close()
    return world
