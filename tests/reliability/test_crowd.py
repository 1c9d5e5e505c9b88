"""I13 and I14 for a crowd: two tenants, one of them hostile in every way that there is here, alone and in mixture."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from credrotator.exchange.http.circuit import MOST_CIRCUITS
from tests.reliability.simulation import Backend, Trouble, policy_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from credrotator.core.model import ObjectKey, Policy

WELL, ACCOUNT = "https://idp.example/realms/well", "111111111111"
MALLORY, MALLORYS_ACCOUNT = "mallory", "666666666666"
HOUR_S, STEP_S = 3600.0, 5.0
NEW_WITHIN_S = 3.0
LATE_S = 1.0
"""Beyond what an attempt takes at its slowest: two answers of 0.3 s and a write of 0.6 s."""
ATTEMPT_S = 1.3


@dataclass
class Crowd:
    """A victim with a few policies, and what the hostile tenant does beside it."""

    seed: int = 0
    made: int = 0
    newcomers: dict[ObjectKey, float] = field(default_factory=dict)
    recent: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.world = Backend(self.seed, workers=16)
        self.random = self.world.random
        for number in range(6):
            life = timedelta(minutes=(60, 15, 5)[number % 3])
            self.world.put(self.victim(f"v{number}", azure=number == 3), life)
        self.world.boot(self.world.add_machine())
        self.world.run(60.0)

    def victim(self, name: str, *, azure: bool = False) -> Policy:
        """Return a policy of the tenant that does no harm."""
        return policy_of(name, issuer=WELL, namespace="team", account=ACCOUNT, azure=azure)

    def hostile(self, count: int, *, lasts_s: float = 600.0, **how: str) -> None:
        """Create policies of the hostile tenant, and have them go some time later."""
        for _ in range(count):
            self.made += 1
            given = {name: text.format(self.made) for name, text in how.items()}
            policy = policy_of(f"m{self.made}", namespace=MALLORY, client=0, **given)  # type: ignore[arg-type]
            self.world.put(policy, timedelta(minutes=5))
            self.world.kernel.at(lasts_s, partial(self.world.delete, policy.key))
        # Here, since some may go, and others come, between two looks at the memory.
        self.recent.append(len(self.world.policies))

    def trouble(self, place: str, kind: str, span_s: float = 600.0, retry_after_s: float | None = None) -> None:
        """Let an endpoint of the hostile tenant's be in trouble from now on."""
        now_s = self.world.kernel.now_s
        self.world.place(place).troubles.append(Trouble(kind, now_s, now_s + span_s, retry_after_s))

    def newcomer(self) -> None:
        """Create a policy of the other tenant; it is checked that it is served soon."""
        policy = self.victim(f"new{len(self.newcomers)}")
        self.newcomers[policy.key] = self.world.kernel.now_s + NEW_WITHIN_S
        self.world.put(policy, timedelta(hours=1))

    def pass_time(self, span_s: float) -> None:
        """Let time pass in steps, and see after each that nobody pays for a neighbour."""
        end_s = self.world.kernel.now_s + span_s
        while self.world.kernel.now_s < end_s:
            self.world.run(self.world.kernel.now_s + STEP_S)
            self.check_isolation()
            self.check_memory()

    def check_isolation(self) -> None:
        """I13: no credential of the victim's expires, none is late, a new policy is served within seconds."""
        world = self.world
        now_s = world.kernel.now_s
        for key in [key for key in world.policies if key.namespace == "team"]:
            if now_s >= self.newcomers.get(key, 0.0):
                assert world.oracle.served(key) is None, f"{key} at {now_s}: {world.oracle.served(key)}"
        late = [(key, late_s) for key, late_s in world.oracle.lateness if key.namespace == "team"]
        assert not [each for each in late if each[1] > ATTEMPT_S + LATE_S]
        assert not world.oracle.violations, world.oracle.report()

    def check_memory(self) -> None:
        """I14: what is kept is bounded by what is there."""
        (process,) = self.world.processes
        # What is deleted is forgotten within ten minutes: its turn comes after what its namespace has to do.
        self.recent = [*self.recent[-int(600 / STEP_S) :], len(self.world.policies)]
        policies = max(self.recent)
        assert process.exchanger.circuits.count() <= MOST_CIRCUITS
        assert len(process.exchanger.circuits._awakening) <= policies + 64
        assert len(process.daemon._queue._known) <= policies + 64
        assert len(process.daemon._edits) <= policies + 64

    def check_what_is_left(self) -> None:
        """I14: ten minutes after the hostile tenant is gone, nothing is left of it."""
        for key in [key for key in self.world.policies if key.namespace == MALLORY]:
            self.world.delete(key)
        self.pass_time(600.0)
        (process,) = self.world.processes
        daemon, circuits = process.daemon, process.exchanger.circuits
        assert {key.namespace for key in daemon._queue._known} == {"team"}
        assert not [key for key in daemon._failures if key.namespace == MALLORY]
        assert not [policy for policy in circuits._awakening._circuits if policy.namespace == MALLORY]
        assert circuits.count() <= 8
        assert len(process.metrics.exposition()) < 64 * 1024


def hang_many_hosts(crowd: Crowd) -> None:
    """Row 54: 64 hosts of one namespace hang."""
    for number in range(64):
        crowd.trouble(f"https://hangs-{number}.example", "hang")
    for number in range(64):
        crowd.hostile(1, issuer=f"https://hangs-{number}.example")


def create_many(crowd: Crowd) -> None:
    """Row 54: hundreds of policies of one namespace are new at once."""
    crowd.hostile(300, issuer="https://busy.example")


def throttle_own_account(crowd: Crowd) -> None:
    """Row 52: the hostile account is throttled for an hour."""
    crowd.trouble(f"sts us-east-1 for {MALLORYS_ACCOUNT}", "throttle", retry_after_s=HOUR_S)
    crowd.hostile(50, issuer="https://busy.example", account=MALLORYS_ACCOUNT)


def name_the_victims_account(crowd: Crowd) -> None:
    """Row 52: roles in the victim's account, which refuse whoever is not let in."""
    crowd.hostile(20, issuer="https://fake.example", account=ACCOUNT)
    crowd.trouble("https://fake.example", "garbage")


def name_the_victims_issuer(crowd: Crowd) -> None:
    """Row 53: the victim's issuer, with a token endpoint of one's own that hangs, drips or is closed."""
    for kind in ("refuse", "hang", "garbage"):
        crowd.trouble(f"https://{kind}.example", kind)
        crowd.hostile(30, issuer=WELL, token_endpoint=f"https://{kind}.example/token")


def guess_the_victims_secret(crowd: Crowd) -> None:
    """Row 53: the victim's client at the victim's issuer, with a wrong secret that is punished."""
    crowd.trouble(f"{WELL} for {MALLORY}", "throttle", retry_after_s=HOUR_S)
    crowd.hostile(20, issuer=WELL)


def fail_another_realm(crowd: Crowd) -> None:
    """Row 51: another realm of the victim's host answers 500 or hangs."""
    for kind in ("garbage", "hang"):
        crowd.trouble(f"https://idp.example/realms/{kind}", kind)
        crowd.hostile(30, issuer=f"https://idp.example/realms/{kind}")


def edit_without_end(crowd: Crowd) -> None:
    """Row 57: some policies are edited again and again."""
    crowd.hostile(3, issuer="https://busy.example")
    keys = [key for key in crowd.world.policies if key.namespace == MALLORY][-3:]

    def edit(number: int) -> None:
        for key in keys:
            if key in crowd.world.policies:
                policy = policy_of(
                    key.name, namespace=MALLORY, issuer=f"https://busy-{number}.example", role=f"r{number}"
                )
                crowd.world.put(policy)

    for number in range(250):
        crowd.world.kernel.at(number * 0.5, partial(edit, number))


def deny_many(crowd: Crowd) -> None:
    """Three hundred denied policies beside a throttled account: a recovery wakes none of them."""
    crowd.trouble(f"sts us-east-1 for {MALLORYS_ACCOUNT}", "deny")
    crowd.hostile(150, issuer="https://busy.example", account=MALLORYS_ACCOUNT)
    throttle_own_account(crowd)


MEANS = (
    *(hang_many_hosts, create_many, throttle_own_account, name_the_victims_account, name_the_victims_issuer),
    *(guess_the_victims_secret, fail_another_realm, edit_without_end, deny_many),
)


@pytest.mark.slow
@pytest.mark.parametrize("means", MEANS, ids=lambda means: means.__name__)
def test_invariant_13_each_means_alone(means: Callable[[Crowd], None]) -> None:
    """Whatever one namespace does, no other one's credential expires, is late, or has to wait when it is new."""
    crowd = Crowd()
    try:
        means(crowd)
        crowd.pass_time(30.0)
        crowd.newcomer()
        crowd.pass_time(600.0)
        crowd.newcomer()
        crowd.pass_time(60.0)
        crowd.check_what_is_left()
    finally:
        crowd.world.close()


def test_fault_54_hosts_that_hang_and_policies_by_the_hundred() -> None:
    """64 hosts of one namespace hang while hundreds of its policies are new: a new one of another waits for neither."""
    crowd = Crowd()
    try:
        hang_many_hosts(crowd)
        create_many(crowd)
        for _ in range(5):
            crowd.newcomer()
            crowd.pass_time(20.0)
    finally:
        crowd.world.close()


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(MEANS), st.integers(0, 300)), min_size=2, max_size=5), st.integers(0, 1000))
def test_invariant_13_in_mixture(attacks: list[tuple[Callable[[Crowd], None], int]], seed: int) -> None:
    """Several means one after the other, or together."""
    crowd = Crowd(seed)
    try:
        for means, wait_s in attacks:
            means(crowd)
            crowd.newcomer()
            crowd.pass_time(float(wait_s))
        crowd.pass_time(300.0)
        crowd.check_what_is_left()
    finally:
        crowd.world.close()
