"""When to rotate and why: the order of reasons, the fractions of a life, what may replace what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from credrotator.core.planning import Keep, Plan, Reason, Rotate, plan, refusal, renewal_time
from credrotator.core.secret_document import Published, Unreadable
from tests.support.builders import HOUR, MINUTE, NOW, SECOND

FINGERPRINT = "0123456789abcdef"
DAY = timedelta(hours=24)

seeds = st.text(max_size=40)
lives = st.integers(1, 24 * 3600).map(lambda seconds: timedelta(seconds=seconds))
offsets = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def issued(life: timedelta, at: datetime = NOW, fingerprint: str | None = FINGERPRINT) -> Published:
    """A credential that was published at a moment, for a life."""
    return Published(at + life, at, fingerprint)


def decide(
    published: Published | Unreadable | None,
    now: datetime = NOW,
    *,
    within: timedelta = timedelta(0),
    force: bool = False,
    seed: str = "uid",
) -> Plan:
    """Decide with the usual fingerprint."""
    return plan(published, fingerprint=FINGERPRINT, seed=seed, now=now, within=within, force=force)


def test_nothing_published_is_missing() -> None:
    """No Secret: Missing, and this reason comes before Forced."""
    assert decide(None) == Rotate(Reason.MISSING)
    assert decide(None, force=True) == Rotate(Reason.MISSING)


def test_unreadable_keeps_its_explanation() -> None:
    """A Secret that cannot be used: Unreadable, with what is wrong with it, before Forced."""
    assert decide(Unreadable("no key"), force=True) == Rotate(Reason.UNREADABLE, "no key")


def test_an_edit_rotates_at_once_and_outranks_expiry_and_force() -> None:
    """Another fingerprint: SpecChanged (G15), whether fresh, expiring or forced."""
    edited = issued(HOUR, fingerprint="another")
    assert decide(edited) == Rotate(Reason.SPEC_CHANGED)
    assert decide(edited, NOW + HOUR) == Rotate(Reason.SPEC_CHANGED)
    assert decide(edited, force=True) == Rotate(Reason.SPEC_CHANGED)


def test_unreadable_outranks_an_edit() -> None:
    """An unbelievable expiry is named first, even where the fingerprint differs too."""
    decided = decide(Published(NOW + 2 * DAY, NOW, "another"))
    assert isinstance(decided, Rotate)
    assert decided.reason is Reason.UNREADABLE


def test_expiring_outranks_forced_and_force_rotates_a_fresh_one() -> None:
    """What is due anyway says Expiring; what is fresh and forced says Forced."""
    assert decide(issued(HOUR), NOW + HOUR, force=True) == Rotate(Reason.EXPIRING)
    assert decide(issued(HOUR), force=True) == Rotate(Reason.FORCED)


@pytest.mark.parametrize("ahead", [DAY + SECOND, timedelta(days=63_000)])
def test_an_expiry_beyond_a_day_is_unreadable(ahead: timedelta) -> None:
    """Fault 37: no vendor issues more than 24 h; further ahead is an error, or somebody's hand (year 2199)."""
    decided = decide(issued(ahead))
    assert isinstance(decided, Rotate)
    assert decided.reason is Reason.UNREADABLE
    assert "24 h" in decided.detail


def test_a_whole_day_is_believed() -> None:
    """24 h to the second is a life that vendors give."""
    assert isinstance(decide(issued(DAY)), Keep)


@given(life=lives, seed=seeds)
def test_renewal_at_the_fraction_of_the_life_with_jitter_only_earlier(life: timedelta, seed: str) -> None:
    """2/3 of the life, or 1/2 up to 10 min, at most 5 % of the life earlier, never later (reliability.md, Timing)."""
    assume(life >= MINUTE)
    share = (renewal_time(issued(life), seed) - NOW) / life
    fraction = 1 / 2 if life <= 10 * MINUTE else 2 / 3
    assert fraction - 0.05 - 1e-6 <= share <= fraction + 1e-6


@given(life=lives, seed=seeds)
def test_six_minutes_are_left_where_the_life_exceeds_twenty(life: timedelta, seed: str) -> None:
    """The gateway's own rotator wakes at 5 min before expiry; by then a new credential is there."""
    assume(life > 20 * MINUTE)
    published = issued(life)
    assert published.expires_at - renewal_time(published, seed) >= 6 * MINUTE


@given(life=st.integers(1, 59), seed=seeds)
def test_a_tiny_life_never_loops(life: int, seed: str) -> None:
    """Fault 15: below 60 s no renewal sooner than 10 s after issue, and no later than 10 s or half of the life."""
    due = renewal_time(issued(life * SECOND), seed) - NOW
    assert 10 * SECOND <= due <= max(10 * SECOND, life * SECOND / 2)


@given(life=lives, seed=seeds)
def test_jitter_is_a_function_of_seed_and_expiry(life: timedelta, seed: str) -> None:
    """I11: a restart, another fingerprint or another time zone do not reshuffle the schedule."""
    published = issued(life)
    again = Published(published.expires_at, NOW, "whatever")
    assert renewal_time(published, seed) == renewal_time(again, seed)


def test_jitter_spreads_policies() -> None:
    """I11: 200 policies issued in the same second are renewed all over the 3 min of an hour's jitter."""
    dues = sorted(renewal_time(issued(HOUR), f"uid-{number}") for number in range(200))
    assert dues[-1] - dues[0] > 2.7 * MINUTE
    assert max(later - sooner for sooner, later in pairwise(dues)) < 15 * SECOND


def test_jitter_is_pinned() -> None:
    """The same on every machine and in every release: a changed hash would bunch a fleet at its upgrade."""
    assert renewal_time(issued(HOUR), "uid").isoformat() == "2026-11-24T12:38:41.978648+00:00"


@given(life=lives, seed=seeds)
def test_keep_until_means_exactly_until(life: timedelta, seed: str) -> None:
    """Planned again just before ``until`` it keeps, at ``until`` it rotates: a timer that fires at it finds work."""
    published = issued(life)
    first = decide(published, seed=seed)
    assert isinstance(first, Keep)
    assert decide(published, first.until - timedelta(microseconds=1), seed=seed) == first
    assert decide(published, first.until, seed=seed) == Rotate(Reason.EXPIRING)


@given(life=lives, seed=seeds, steps=st.lists(st.integers(0, 3600), min_size=2, max_size=8))
def test_due_stays_due_as_time_passes(life: timedelta, seed: str, steps: list[int]) -> None:
    """I10: the decision is monotonic in the clock; once due, every later look says so too."""
    looks = [isinstance(decide(issued(life), NOW + step * SECOND, seed=seed), Rotate) for step in sorted(steps)]
    assert looks == sorted(looks)


@given(life=lives, seed=seeds, within=st.integers(0, 3600))
def test_within_is_a_look_ahead(life: timedelta, seed: str, within: int) -> None:
    """``within`` rotates exactly what would be due at the end of the span (cron's next run)."""
    span = within * SECOND
    assert decide(issued(life), seed=seed, within=span) == decide(issued(life), NOW + span, seed=seed)


@given(life=lives, seed=seeds, zones=st.tuples(offsets, offsets, offsets), elapsed=st.integers(0, 24 * 3600))
def test_time_zones_do_not_matter(
    life: timedelta, seed: str, zones: tuple[timezone, timezone, timezone], elapsed: int
) -> None:
    """Fault 25: the same moments in other zones give the same decision."""
    now = NOW + elapsed * SECOND
    plain = issued(life)
    moved = Published(plain.expires_at.astimezone(zones[0]), NOW.astimezone(zones[1]), FINGERPRINT)
    assert decide(moved, now.astimezone(zones[2]), seed=seed) == decide(plain, now, seed=seed)


@given(seed=seeds)
def test_an_adopted_credential_is_renewed_before_the_gateway_would(seed: str) -> None:
    """Made by the gateway (no fingerprint, no issue time): kept, and renewed before the gateway's 5 min window."""
    adopted = Published(NOW + HOUR, None, None)
    decided = decide(adopted, seed=seed)
    assert isinstance(decided, Keep)
    assert 20 * MINUTE <= adopted.expires_at - decided.until <= 23 * MINUTE


@given(issue=st.integers(0, 10**10), seed=seeds)
def test_a_garbled_issue_time_cannot_postpone_the_renewal(issue: int, seed: str) -> None:
    """An issue time at or after the expiry counts as unknown: what has expired is always due."""
    published = Published(NOW, NOW + issue * SECOND, FINGERPRINT)
    assert decide(published, seed=seed) == Rotate(Reason.EXPIRING)


def test_expired_long_ago_is_due() -> None:
    """Fault 24: after a suspend of days, the look finds it due, also without an issue time."""
    assert decide(issued(HOUR), NOW + 30 * DAY) == Rotate(Reason.EXPIRING)
    assert decide(Published(NOW - 30 * DAY, None, None)) == Rotate(Reason.EXPIRING)


def refused(candidate: Published, published: Published | Unreadable | None = None, *, replace: bool = False) -> bool:
    """Tell whether a candidate is refused now."""
    return refusal(candidate, published, now=NOW, replace=replace) is not None


@given(life=st.integers(120, 24 * 3600), left=st.integers(-100, 24 * 3600), replace=st.booleans())
def test_a_credential_must_outlive_now_by_enough(life: int, left: int, *, replace: bool) -> None:
    """I1: later than now + max(60 s, 5 % of its life), forced or not."""
    assume(left <= life)
    candidate = Published(NOW + left * SECOND, NOW + (left - life) * SECOND, FINGERPRINT)
    assert refused(candidate, replace=replace) == (left < max(60, life * 0.05))


@given(life=st.integers(1, 119), spent=st.integers(0, 119))
def test_of_a_short_life_half_is_enough(life: int, spent: int) -> None:
    """Fault 15: a life of a minute or two is published while half of it is left, so that it is published at all."""
    candidate = issued(life * SECOND, NOW - spent * SECOND)
    assert refused(candidate) == (life - spent <= 0 or life - spent < life / 2)


def test_a_minute_of_life_survives_a_slow_exchange() -> None:
    """A life of exactly 60 s whose exchange took two seconds is published, like one of 59 s."""
    assert not refused(issued(60 * SECOND, NOW - 2 * SECOND))
    assert not refused(issued(59 * SECOND, NOW - 2 * SECOND))


@pytest.mark.parametrize("life", [timedelta(0), -SECOND, -HOUR])
def test_what_never_lived_is_refused(life: timedelta) -> None:
    """Fault 21: an expiry at or before the issue is no credential, forced or not."""
    assert refused(issued(life))
    assert refused(issued(life), replace=True)


@given(new=st.integers(120, 24 * 3600), old=st.integers(-3600, 24 * 3600))
def test_a_credential_must_outlive_the_published_one(new: int, old: int) -> None:
    """I1: later than what is published, unless forced or the identity changed."""
    candidate, published = issued(new * SECOND), Published(NOW + old * SECOND, NOW, FINGERPRINT)
    assert refused(candidate, published) == (new <= old)
    assert not refused(candidate, published, replace=True)


def test_an_unbelievable_expiry_is_not_to_be_outlived() -> None:
    """Fault 37: what is published until 2199 is replaced by an hour's credential; else it could never be repaired."""
    forged = Published(datetime(2199, 1, 1, tzinfo=UTC), None, None)
    assert isinstance(decide(forged), Rotate)
    assert not refused(issued(HOUR), forged)


def test_an_unreadable_secret_is_no_bar() -> None:
    """Anything usable is better than what cannot be read."""
    assert not refused(issued(HOUR), Unreadable("garbled"))


def test_a_refusal_names_the_expiry_in_utc() -> None:
    """The reason is a sentence with the time, in UTC whatever the zone of the argument."""
    zone = timezone(timedelta(hours=5))
    why = refusal(Published(NOW.astimezone(zone), NOW - HOUR, None), None, now=NOW, replace=False)
    assert why == "it expires at 2026-11-24T12:00:00Z, which is too soon"
