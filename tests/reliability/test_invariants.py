"""Invariants I1..I12 of reliability.md, one test each, and a day of 1000 policies. No real time passes in them."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from credrotator.core.backoff import LONGEST, SHORTEST, Streak, failed
from credrotator.core.model import ObjectKey, fingerprint
from credrotator.core.outcome import Failure
from credrotator.core.planning import Keep, plan, refusal, renewal_time
from credrotator.core.secret_document import Published
from credrotator.core.secretdata import render
from credrotator.rotation.rotation import RotateOptions, Rotation
from credrotator.rotation.timetable import SWEEP
from tests.reliability.kernel import EPOCH
from tests.reliability.scenarios import MINUTE_S, Happening, Scenario, crowd, crowds, day, scenarios, settle
from tests.reliability.simulation import Backend, Trouble, places_of, policy_of
from tests.reliability.stand_ins import CANARY
from tests.support.builders import parse_as
from tests.support.twins import (
    HOUR,
    NOW,
    SECRET,
    MemoryStore,
    ScriptedExchange,
    StandingClock,
    aws_credential,
    aws_policy,
    aws_source,
    no_secrets,
)

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
DAY_SEED = 5
# As many as take a second or two; test_invariants_at_length.py has those that find what is rare.
few = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
LIVES = st.integers(1, 24 * 3600).map(lambda seconds: seconds * SECOND)


def no_violation(world: Backend) -> None:
    """Fail with what happened, if anything happened that must not."""
    assert not world.oracle.violations, world.oracle.report()


def world_of(count: int, *, seed: int = 0, replicas: int = 1, workers: int = 4, life: timedelta = HOUR) -> Backend:
    """Return a world with policies of one issuer each, and running replicas."""
    world = Backend(seed, workers=workers)
    for number in range(count):
        world.put(policy_of(f"p{number}", issuer=number, client=number), life)
    for machine in [world.add_machine() for _ in range(replicas)]:
        world.boot(machine)
    return world


@few
@given(scenarios("endpoint", "rival", "garble", "lose", "edit", "step", longest_s=600))
def test_invariant_01_never_a_worse_credential(scenario: Scenario) -> None:
    """Only what parses, lives on, and outlives what is there is published, whatever vendors, rivals and hands do."""
    no_violation(scenario.play())


@given(LIVES, LIVES, st.integers(0, 24 * 3600), st.booleans())
def test_invariant_01_the_rule_itself(new: timedelta, old: timedelta, age_s: int, edited: bool) -> None:  # noqa: FBT001
    """A rotation publishes exactly if the rule lets it, and what was there stays exactly if not."""
    store, clock = MemoryStore(), StandingClock()
    published = render(SECRET, aws_credential(NOW, old), fingerprint(aws_source("another" if edited else "bedrock")))
    store.put(published)
    clock.now = NOW + age_s * SECOND
    fresh = aws_credential(clock.now, new, "NEW")
    outcome = Rotation(store, ScriptedExchange(fresh), clock)(aws_policy(), no_secrets, RotateOptions())
    before = parse_as(published, "aws-oidc")
    assert isinstance(before, Published)
    decided = plan(before, fingerprint=fingerprint(aws_source()), seed=aws_policy().uid, now=clock.now)
    candidate = Published(fresh.expires_at, fresh.issued_at, None)
    worse = refusal(candidate, before, now=clock.now, replace=edited)
    wanted = not isinstance(decided, Keep) and worse is None
    assert (outcome.action == "rotated") == wanted
    stored = store.secrets[SECRET].document
    assert (stored is not published) == wanted


@few
@given(scenarios("endpoint", "api", "partition", "kill", "stop", "suspend"))
def test_invariant_02_no_failure_takes_a_credential_away(scenario: Scenario) -> None:
    """Once there was a usable Secret there is one for good; kills, outages and lost answers do not empty or tear it."""
    world = scenario.play()
    no_violation(world)
    assert all(policy.secret in world.secrets for policy in world.policies.values())


@few
@given(scenarios("api", "rival", "kill", "partition", "edit"))
def test_invariant_03_one_write_with_the_version_that_was_read(scenario: Scenario) -> None:
    """A rotation is one write, data and annotations together, over the version that was read."""
    no_violation(scenario.play())


@given(st.integers(1, 5), st.integers(0, 20))
def test_invariant_03_a_conflict_is_decided_anew(conflicts: int, life_min: int) -> None:
    """After each 409 the Secret is read again: a rival's fresh credential is adopted, else the own one is written."""
    store, clock = MemoryStore(), StandingClock()

    def rival() -> None:
        store.put(render(SECRET, aws_credential(life=life_min * MINUTE, tag="RIVAL"), fingerprint(aws_source())))

    store.before_publish = [rival for _ in range(conflicts)]
    exchange = ScriptedExchange(aws_credential(tag="OURS"))
    outcome = Rotation(store, exchange, clock)(aws_policy(), no_secrets, RotateOptions())
    assert len(exchange.calls) == 1
    assert len(store.writes) <= 1
    adopted = life_min > 0
    assert outcome.action == ("kept" if adopted else "rotated" if conflicts < 5 else "failed")


@few
@given(st.integers(1, 6), st.integers(0, 39 * 60), st.booleans())
def test_invariant_04_a_restart_with_all_fresh_does_nothing(count: int, at_s: int, killed: bool) -> None:  # noqa: FBT001
    """No token request, no exchange, no write, until the first renewal is due."""
    world = world_of(count)
    try:
        world.run(10.0)
        oracle = world.oracle
        before = (oracle.token_requests, len(oracle.attempts), len(oracle.writes))
        (process,) = world.processes
        if not killed:
            process.stop()
            world.run(20.0)
        world.run(min(20.0 + at_s, 36 * MINUTE_S))
        world.kill(process)
        world.boot(process.machine)
        world.run(36.5 * MINUTE_S)
        assert (oracle.token_requests, len(oracle.attempts), len(oracle.writes)) == before
    finally:
        world.close()
    no_violation(world)


@pytest.mark.slow
@few
@given(st.integers(0, 500), st.integers(2, 6), st.sampled_from(["hang", "garbage", "refuse"]), st.booleans())
def test_invariant_05_a_failure_delays_nobody_else(seed: int, count: int, kind: str, everybody: bool) -> None:  # noqa: FBT001
    """With one issuer hanging, by all of its policies, the others are rotated when they would have been: within 1 s."""

    def play(*, troubled: bool) -> dict[ObjectKey, float]:
        world = world_of(count, seed=seed)
        world.latency_s = (0.05, 0.05)
        for number in range(6 if everybody else 0):
            world.put(policy_of(f"sick-{number}", issuer=99, client=number), HOUR)
        name = f"https://idp-{99 if everybody else 0}.example"
        if troubled:
            world.place(name).troubles.append(Trouble(kind, 0.0, 1e9))
        try:
            # Two renewals of an hour's life, the second with a circuit that has been open for long.
            world.run(1.5 * 3600.0)
        finally:
            world.close()
        has_valid_token = [key for key, policy in world.policies.items() if name not in places_of(policy)]
        return {key: max(late for each, late in world.oracle.lateness if each == key) for key in has_valid_token}

    alone, beside = play(troubled=False), play(troubled=True)
    assert alone.keys() == beside.keys()
    assert all(beside[key] <= late + 1.0 for key, late in alone.items()), (alone, beside)


@pytest.mark.slow
@few
@given(scenarios("endpoint", "edit", "create", "lose"))
def test_invariant_06_equal_requests_are_one(scenario: Scenario) -> None:
    """Of equal token requests one is in flight, none while its token is good; no policy gets another's credential."""
    no_violation(scenario.play())


def test_invariant_06_many_policies_of_one_client() -> None:
    """40 policies of one client, created at once, are one token request and 40 exchanges."""
    world = Backend(workers=16)
    for number in range(40):
        world.put(policy_of(f"p{number}", issuer=0, client=0))
    world.boot(world.add_machine())
    try:
        world.run(30.0)
    finally:
        world.close()
    no_violation(world)
    assert (world.oracle.token_requests, len(world.oracle.rotations)) == (1, 40)


@given(
    st.lists(st.sampled_from(["transient", "denied", "policy"]), min_size=1, max_size=30),
    st.integers(1, 3 * 3600),
    st.none() | st.integers(1, 7200),
    st.text(max_size=10),
)
def test_invariant_07_two_probes_and_no_hurry(kinds: list[str], left_s: int, patience_s: int | None, seed: str) -> None:
    """Never sooner than 1 s; Retry-After is kept but for two probes at most, at 50 % and 90 % of what was left."""
    now, expires_at = NOW, NOW + left_s * SECOND
    patience = timedelta(seconds=patience_s) if patience_s else None
    streak: Streak | None = None
    probes = []
    for kind in kinds:
        error = Failure(kind, "Reason", "m", "h", patience)  # type: ignore[arg-type]
        streak = failed(streak, error, seed=seed, now=now, expires_at=expires_at)
        assert streak.next_try >= now + SHORTEST
        if streak.early:
            assert streak.waiting_since is not None
            probes.append((streak.next_try - streak.waiting_since) / (expires_at - streak.waiting_since))
        else:
            assert streak.next_try >= now + (patience or SHORTEST)
            assert streak.next_try <= now + max(*LONGEST.values(), patience or SHORTEST)
        now = streak.next_try
    assert len(probes) <= 2
    assert probes == sorted(set(probes))
    assert all(min(abs(share - wanted) for wanted in (0.5, 0.9)) < 1e-6 for share in probes)


@pytest.mark.slow
@few
@given(scenarios("endpoint", longest_s=7200))
def test_invariant_07_the_rate_stays_bounded(scenario: Scenario) -> None:
    """No endpoint is hammered, no Retry-After broken but by probes, no policy tries again within a second."""
    no_violation(scenario.play())


@pytest.mark.slow
@pytest.mark.parametrize("retry_after_s", [None, 3600.0])
@pytest.mark.parametrize("place", ["https://idp-0.example", "sts us-east-1"])
def test_invariant_07_total_failure(place: str, retry_after_s: float | None) -> None:
    """100 policies of one issuer and one region, away for an hour: less than two requests a second."""
    world = Backend(workers=16)
    for number in range(100):
        world.put(policy_of(f"p{number}", issuer=0, client=number % 20))
    world.boot(world.add_machine())
    kind = "throttle" if retry_after_s else "refuse"
    try:
        world.run(1800.0)
        world.place(place).troubles.append(Trouble(kind, 1800.0, 5400.0, retry_after_s))
        world.run(5400.0)
        asked = [at for at in world.place(place).asked if at > 1800.0]
        settle(world)
    finally:
        world.close()
    no_violation(world)
    assert 1 <= len(asked) < 2 * 3600
    assert max(Counter(int(at) // 10 for at in asked).values()) <= 40


@pytest.mark.parametrize("place", ["https://idp-0.example", "sts us-east-1"])
def test_invariant_07_a_probe_gets_through(place: str) -> None:
    """Asked for an hour's patience with 20 min to live, and well again soon: the probe at 50 % saves the credential."""
    world = world_of(1)
    try:
        world.run(1800.0)
        world.place(place).troubles.append(Trouble("throttle", 1800.0, 2500.0, 3600.0))
        world.run(3600.0)
        assert world.oracle.served(ObjectKey("default", "p0")) is None
        assert [early for *_, early in world.oracle.attempts] == [False, False, True]
    finally:
        world.close()
    no_violation(world)


@pytest.mark.slow
@few
@given(scenarios("partition", "kill", "stop", "suspend", "api", "edit", "lose"))
def test_invariant_08_only_the_leader_writes(scenario: Scenario) -> None:
    """Whoever writes holds the Lease when the write arrives, and whoever exchanges believes to; through all changes."""
    no_violation(replace(scenario, replicas=3).play())


@few
@given(scenarios("endpoint", "api", "garble", "kill", "edit", "stop"))
def test_invariant_09_nothing_secret_is_shown(scenario: Scenario) -> None:
    """Tokens, client secrets and credentials are in no log line at DEBUG, no outcome, no metric and no ``repr``."""
    shown: list[str] = []

    def look(world: Backend) -> None:
        shown.extend(process.metrics.exposition().decode() for process in world.processes)
        shown.extend(repr(vars(process.rotation)["_held"]) for process in world.processes)
        shown.append(repr(world.secrets))

    world = scenario.play(before_end=look, log_level=logging.DEBUG)
    no_violation(world)
    shown += [*world.oracle.handler.lines, *map(repr, world.oracle.outcomes)]
    assert not [text for text in shown if CANARY in text]


@few
@given(
    st.integers(-60, 60).filter(lambda minutes: abs(minutes) > 1),
    st.integers(60, 39 * 60),
    st.integers(0, 3000),
    st.integers(0, 100),
)
@example(34, 60, 0, 0)
def test_invariant_10_timers_are_hints(step_min: int, step_at_s: int, asleep_s: int, seed: int) -> None:
    """However the clock is set and however long the machine sleeps: what is due is looked at within 15 s."""
    world = world_of(3, seed=seed)
    try:
        world.run(float(step_at_s))
        (machine,) = world.machines
        machine.offset = step_min * MINUTE
        world.oracle.clock_stepped()
        machine.suspend(float(asleep_s))
        world.oracle.disturbed(asleep_s + 90.0)
        dues = {}
        for policy in world.policies.values():
            stored = world.secrets[policy.secret]  # type: ignore[index]
            published = parse_as(stored.document, policy.provider)
            assert isinstance(published, Published)
            dues[policy.key] = (renewal_time(published, policy.uid) - EPOCH).total_seconds()
        world.run(max([*dues.values(), step_at_s + asleep_s]) + 120.0)
        for key, due_s in dues.items():
            rotated = [at for at, each in world.oracle.rotations if each == key and at > step_at_s]
            # The writing takes a second; after a suspension the Lease has to be got again first.
            back_s = step_at_s + asleep_s + (20.0 if asleep_s else 0.0)
            assert rotated, f"{key} is never rotated"
            assert rotated[0] <= max(due_s, back_s) + 15.0 + 3.0, f"{key} is late by {rotated[0] - due_s:.0f} s"
    finally:
        world.close()
    no_violation(world)


def test_invariant_10_the_sweep_comes_often_enough() -> None:
    """At least every 15 s."""
    assert timedelta(seconds=15) >= SWEEP


@given(LIVES, st.text(max_size=20), st.integers(0, 10**6))
def test_invariant_11_jitter_only_makes_earlier(life: timedelta, seed: str, at_s: int) -> None:
    """The same credential is due at the same moment, whoever asks; never later than the fraction of its life says."""
    issued_at = NOW + at_s * SECOND
    published = Published(issued_at + life, issued_at, "f")
    due = renewal_time(published, seed)
    assert due == renewal_time(Published(issued_at + life, issued_at, None), seed)
    latest = max(issued_at + life * (0.5 if life <= 10 * MINUTE else 2 / 3), issued_at + 10 * SECOND)
    assert due <= latest
    if life > 20 * MINUTE:
        assert due <= published.expires_at - 6 * MINUTE


@pytest.mark.slow
@few
@given(st.integers(0, 100), st.integers(30, 35 * 60))
def test_invariant_11_a_restart_reshuffles_nothing(seed: int, at_s: int) -> None:
    """With and without a restart, the renewals come in the same order and within a moment of each other."""

    def play(*, restart: bool) -> list[tuple[float, ObjectKey]]:
        world = world_of(6, seed=seed)
        world.latency_s = (0.05, 0.05)
        try:
            world.run(float(at_s))
            if restart:
                (process,) = world.processes
                world.kill(process)
                world.boot(process.machine)
            world.run(3600.0)
        finally:
            world.close()
        no_violation(world)
        return world.oracle.rotations[6:]

    one, other = play(restart=False), play(restart=True)
    assert [key for _, key in one] == [key for _, key in other]
    assert all(abs(a - b) < 1 for (a, _), (b, _) in zip(one, other, strict=True))
    assert all(later - sooner < 4 * MINUTE_S for (sooner, _), (later, _) in pairwise(one))


@few
@given(scenarios())
def test_invariant_12_progress(scenario: Scenario) -> None:
    """Whatever befalls a small world: where two retry slots are left, nothing expires; in the end all are served."""
    no_violation(scenario.play())


@pytest.mark.slow
@few
@given(scenarios("retime", "disown", "anew", "usurp", "api", "kill", "partition", "edit"))
def test_invariant_12_edits_outages_and_leaders(scenario: Scenario) -> None:
    """Times, labels, owners and UIDs edited, outages, leaders that come and go and write: all is right in the end."""
    no_violation(scenario.play())


# It takes some seconds; to shrink a failure, hypothesis takes its five minutes.
@pytest.mark.slow
@pytest.mark.timeout(400)
@settings(few, max_examples=4)
@given(crowds())
@example(crowd(Happening(0.0, "endpoint", 1, 3.0, 0.0), Happening(2.0, "step", 0, 1.0, 23.1)))
@example(crowd(Happening(0.0, "endpoint", 1, 300.0, 0.0), Happening(60.0, "suspend", 0, 120.0, 0.0)))
# Failures during a step ahead that a vendor then put right: their retries were due when the wrong clock said.
@example(crowd(Happening(455.0, "endpoint", 5, 1476.0, -2.2), Happening(1697.0, "step", 4, 1746.0, 38.5)))
# A step ahead in a pause that an issuer had asked for: it ended by as much too soon.
@example(crowd(Happening(3149.0, "endpoint", 2, 1387.0, 59.4), Happening(5240.0, "step", 2, 1.0, 33.0)))
# The last instant of such a pause: what was left of it rounded to nothing, and it began anew.
@example(crowd(Happening(4133.0, "endpoint", 5, 1143.0, 83.6), seed=557))
# A standby whose clock was set back before it ever looked at it, and led then.
@example(
    crowd(
        Happening(617.0, "step", 1, 1.0, -72.6),
        Happening(1723.0, "rival", 1, 1.0),
        Happening(3850.0, "kill", 4, 1.0),
        seed=295,
        replicas=2,
    )
)
def test_invariant_12_many_policies_of_few_endpoints(scenario: Scenario) -> None:
    """Crowded endpoints recover for all: 30 policies, two issuers, one region."""
    no_violation(scenario.play())


def test_invariant_12_a_lapse_of_the_lease() -> None:
    """A leader that slept past its lease and renews it before anybody else came looks at what it left undone."""
    no_violation(crowd(Happening(0.0, "suspend", 0, 31.0)).play())


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_invariant_12_a_day_of_1000_policies() -> None:
    """Outages, throttling, garbage, hangs, conflicts, edits, clock steps, suspends, restarts, changes of leaders."""
    world = day(DAY_SEED)
    assert not world.oracle.violations, f"day({DAY_SEED}): {world.oracle.report()}"
    assert len(world.oracle.rotations) > 10_000
    assert len({name for _, name, _ in world.oracle.writes}) > 5, "leaders changed"


def test_the_world_is_reproducible() -> None:
    """The same seed gives the same history, line by line; else no violation could be followed up."""
    one, other = (day(3, policies=12, hours=1.5) for _ in range(2))
    assert one.oracle.log == other.oracle.log


def test_the_oracle_sees_what_is_wrong() -> None:
    """A credential that is written by one who does not lead, of another policy, and expires too soon, is noticed."""
    world = world_of(2)
    try:
        world.run(10.0)
        key, other = sorted(world.policies)
        source = world.policies[other].source
        world.lives[other] = 10 * SECOND
        credential = world.issue(other, source, world.kernel.now)  # type: ignore[arg-type]
        bad = render(world.policies[key].secret, credential, "f")  # type: ignore[arg-type]
        world.lease = {}
        (process,) = world.processes
        world.land(process, bad, world.secrets[bad.key].version)
    finally:
        world.close()
    assert {text.split()[0] for text in world.oracle.violations} == {"I3", "I6", "I8"}
