"""When to try again after a failure: by what kind it is, how often it happened, and how much life is left. Pure.

The failures in a row of one policy are a :class:`Streak`, plain data that the daemon keeps. Jitter is a hash of the
policy and the attempt: reproducible, and different for each policy. Source: reliability.md I7, 1, 8, 18, 22.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from credrotator.core.errors import Kind
    from credrotator.core.outcome import Failure

SHORTEST = timedelta(seconds=1)
LONGEST = {"transient": timedelta(minutes=5), "denied": timedelta(minutes=8), "policy": timedelta(minutes=8)}
"""Ceilings; 8 min lets a parked Secret be parked again well before the gateway's rotator would wake."""
LONGEST_UNSERVED = timedelta(minutes=5)
"""For so long a policy that has no credential at all obeys a Retry-After; then it asks all the same."""
FIRST = {"transient": timedelta(seconds=1), "denied": timedelta(minutes=1), "policy": timedelta(minutes=1)}
LAST_OWN_TRY = timedelta(minutes=1)
"""With less life than this, what a circuit refused waits for the circuit: it is thousands that are in a hurry then."""
EARLY_TRIES = (0.5, 0.9)
"""Shares of the remaining life at which a Retry-After is overridden, if it would outlast the credential."""


@dataclass(frozen=True, slots=True)
class Streak:
    """The failures in a row of one policy.

    Attributes:
        attempt: How many they are.
        reason: Of the latest one.
        count: How many of the latest had this reason.
        since: When the first of these was.
        waiting_since: When the next try would first have come after the expiry; early tries are shares of the life
            that was left then. None while that has not been so.
        next_try: When to try again.
        early: The next try comes before what was asked for, because the credential would not live to see it.
    """

    attempt: int
    reason: str
    count: int
    since: datetime
    waiting_since: datetime | None
    next_try: datetime
    early: bool


def failed(streak: Streak | None, error: Failure, *, seed: str, now: datetime, expires_at: datetime | None) -> Streak:
    """Return the streak that one more failure makes of the one before, None if there was none.

    The wait doubles with each attempt up to a ceiling, with full jitter, but is never longer than half of the life that
    is left: a try a moment before the expiry is one too late. It is never below a second or the server's own
    Retry-After. Only where that would outlast the published credential, an early try comes before it.
    """
    attempt = streak.attempt + 1 if streak else 1
    count, since, waiting_since = 1, now, None
    if streak:
        waiting_since = streak.waiting_since
        if streak.reason == error.reason:
            # A clock that was set back must not make the streak younger than it is.
            count, since = streak.count + 1, min(streak.since, now)
    kind = believed(error, count, now - since)
    left = expires_at - now if expires_at else None
    if error.is_refusal and error.retry_after is not None:
        due = now + _wait_of_refused(attempt, seed, left, error.retry_after)
    else:
        due = now + _wait(kind, attempt, seed, left, error.retry_after)
    asked_long = error.retry_after is not None and error.retry_after > LONGEST_UNSERVED
    if expires_at is None and asked_long and due > now + LONGEST_UNSERVED:
        # There is no credential that could tell how long is too long.
        return Streak(attempt, error.reason, count, since, waiting_since, now + LONGEST_UNSERVED, early=True)
    if expires_at is None or due < expires_at:
        return Streak(attempt, error.reason, count, since, waiting_since, due, early=False)
    waiting_since = waiting_since or now
    early = next_early_try(waiting_since, expires_at, now)
    return Streak(attempt, error.reason, count, since, waiting_since, early or due, early is not None)


def believed(error: Failure, count: int, lasting: timedelta) -> Kind:
    """Return the kind that a failure counts as, the ``count``-th with its reason in a row, ``lasting`` since the first.

    Some refusals pass by themselves; they are transient until they have been heard often, or long, enough.
    """
    settling = error.settling
    # IAM takes seconds, Entra minutes to spread a change; believed at once, a policy that was just corrected would wait
    # for minutes.
    unsettled = settling is not None and (count <= settling.tries or lasting < settling.span)
    return "transient" if unsettled else error.kind


def next_early_try(waiting_since: datetime, expires_at: datetime, now: datetime) -> datetime | None:
    """Return the next of the two early tries in a life that a Retry-After outlasts; None after the second."""
    left = expires_at - waiting_since
    early_tries = (waiting_since + left * share for share in EARLY_TRIES)
    return next((early for early in early_tries if early >= now + SHORTEST), None)


def _wait(kind: Kind, attempt: int, seed: str, left: timedelta | None, retry_after: timedelta | None) -> timedelta:
    ceiling = min(FIRST[kind] * float(1 << min(attempt - 1, 20)), LONGEST[kind])
    # Full jitter for what comes over many policies at once. A denial concerns one policy, and people who fix it can
    # reckon with a regular time.
    wait = max(SHORTEST, ceiling * _unit_hash(seed, attempt)) if kind == "transient" else ceiling
    if left is not None and left > timedelta(0):
        # Half of what is left, and half of that: however late it is, there is one more try before the expiry.
        wait = min(wait, max(SHORTEST, left / 2))
    return max(wait, retry_after or SHORTEST)


def _wait_of_refused(attempt: int, seed: str, left: timedelta | None, retry_after: timedelta | None) -> timedelta:
    """Return when to ask a circuit again that was open; it has the policy woken sooner, unless it is forgotten.

    Where the life ends before that, somewhere in its middle: all that share an expiry must not come at once.
    """
    spread = _unit_hash(seed, attempt)
    # Long, since this is only the precaution: the circuit has it woken within a second of the recovery. Thousands of
    # short ones would be the load that the circuit is there to keep away.
    wait = LONGEST["transient"] * (0.5 + 0.5 * spread)
    if left is not None and LAST_OWN_TRY < left <= wait + LAST_OWN_TRY:
        wait = left * (0.3 + 0.5 * spread)
    return max(wait, retry_after or SHORTEST)


def _unit_hash(seed: str, attempt: int) -> float:
    return int.from_bytes(hashlib.sha256(f"{seed}#{attempt}".encode()).digest()[:8]) / 2**64
