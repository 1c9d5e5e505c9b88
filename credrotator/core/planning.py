"""When to rotate, and why: the rules of time. Pure: the clock is an argument, jitter is a hash.

The chain of reasons is ordered and the first hit wins; the same chain decides, explains (``status``) and previews
(``--dry-run``). Times are aware UTC.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from credrotator.core.secret_document import Published, Unreadable

# As cert-manager's renewal: a third of the life is left for outages and retries.
FRACTION = 2 / 3
# With few minutes, a third is less than a back-off and an exchange take.
SHORT_FRACTION = 1 / 2
SHORT_LIFE = timedelta(minutes=10)
"""Up to here a credential is renewed at half of its life."""
JITTER = 0.05
"""Share of the life by which a renewal may come earlier, never later."""
WORTH = 0.05
"""Share of its life that a credential must still have ahead to be worth publishing."""
UNVERIFIED = 1 / 4
"""Share of its life that a published credential must have left for a new one to wait until it could be verified."""
MARGIN = timedelta(minutes=6)
"""Distance to expiry kept where the life exceeds MARGIN_LIFE: the gateway's own rotator wakes at 5 min."""
MARGIN_LIFE = timedelta(minutes=20)
TINY_LIFE = timedelta(seconds=60)
"""Below this a credential is worth a warning."""
TINY_PAUSE = timedelta(seconds=10)
"""Never renew sooner than this after issue, however short the life."""
LONGEST_LIFE = timedelta(hours=24)
"""No vendor issues longer ones; an expiry further ahead is an error, or somebody's hand."""
ASSUMED_LIFE = timedelta(hours=1)
"""Life of an adopted credential whose issue nobody recorded: the vendors' common default."""


class Reason(StrEnum):
    """Why a policy is due; the order is the order of the chain."""

    MISSING = "Missing"
    UNREADABLE = "Unreadable"
    SPEC_CHANGED = "SpecChanged"
    REQUESTED = "Requested"
    EXPIRING = "Expiring"
    FORCED = "Forced"


@dataclass(frozen=True, slots=True)
class Keep:
    """The published credential is good; the next attempt is at ``until``."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Rotate:
    """A new credential is due, and why."""

    reason: Reason
    detail: str = ""


Plan = Keep | Rotate


def plan(
    published: Published | Unreadable | None,
    *,
    fingerprint: str,
    seed: str,
    now: datetime,
    request: str = "",
    within: timedelta = timedelta(0),
    force: bool = False,
) -> Plan:
    """Decide what to do for one policy.

    Args:
        published: What the store holds for it.
        fingerprint: Of the policy as it is now; a different published one means that it was edited.
        seed: The policy's UID, which spreads renewals deterministically.
        now: The present moment.
        request: The policy's latest request for a renewal; one that the published credential has seen is done.
        within: Also rotate what would become due in this span (cron: the time to the next run).
        force: Rotate whatever the state is.
    """
    match published:
        case None:
            return Rotate(Reason.MISSING)
        case Unreadable(why=why):
            return Rotate(Reason.UNREADABLE, why)
        case _:
            pass
    # Before all else: with such an expiry every later rule would say that there is time.
    if published.expires_at > now + LONGEST_LIFE:
        return Rotate(Reason.UNREADABLE, f"expires more than {LONGEST_LIFE.total_seconds() / 3600:.0f} h ahead")
    # Unknown (None) is no difference: what the gateway's rotator has issued is adopted, or an installation would rotate
    # everything in its first minute.
    if published.fingerprint is not None and published.fingerprint != fingerprint:
        return Rotate(Reason.SPEC_CHANGED)
    if request and published.request != request:
        return Rotate(Reason.REQUESTED, "a renewal was requested")
    due = renewal_time(published, seed)
    if due <= now + within:
        return Rotate(Reason.EXPIRING)
    if force:
        return Rotate(Reason.FORCED)
    return Keep(due)


def renewal_time(published: Published, seed: str) -> datetime:
    """Return when a published credential is to be renewed: a function of its own times and the policy's seed."""
    expires_at, life = published.expires_at, _life(published)
    issued_at = expires_at - life
    fraction = SHORT_FRACTION if life <= SHORT_LIFE else FRACTION
    # Only earlier: a jitter in both directions would take time for retries away. The expiry is part of the hash, so
    # that the same policies do not meet again at each renewal.
    due = issued_at + life * (fraction - JITTER * _unit_hash(seed, expires_at))
    if life > MARGIN_LIFE:
        # The gateway's own rotator begins five minutes before the expiry; a minute before that we have renewed.
        due = min(due, expires_at - MARGIN)
    # Such lives come from misconfigured issuers. Without the pause, each renewal would be due as soon as it is
    # published.
    if life < TINY_LIFE:
        due = max(due, issued_at + TINY_PAUSE)
    return due


def times(published: Published | Unreadable | None, seed: str) -> tuple[datetime | None, datetime | None]:
    """Return when a published credential expires and when it is renewed, as far as either is known."""
    if not isinstance(published, Published):
        return published.expires_at if published else None, None
    return published.expires_at, renewal_time(published, seed)


def can_wait(published: Published | Unreadable | None, now: datetime) -> bool:
    """Tell whether what is published is good for so long that a new credential may be held back until it is verified.

    Less than a quarter of its life is too little: the gateway would soon have none, for want of an answer that says
    nothing of the new one. A renewal is due before that (``FRACTION``), so that there is time for several tries.
    """
    if not isinstance(published, Published) or published.expires_at > now + LONGEST_LIFE:
        return False
    return published.expires_at - now > _life(published) * UNVERIFIED


def _life(published: Published) -> timedelta:
    """Return for how long a credential was issued.

    NOTE: an annotation that somebody garbled must not put the renewal off; it counts as not recorded.
    """
    issued_at = published.issued_at
    if issued_at is None or issued_at >= published.expires_at:
        return ASSUMED_LIFE
    return published.expires_at - issued_at


def refusal(
    candidate: Published, published: Published | Unreadable | None, *, now: datetime, replace: bool
) -> str | None:
    """Say why a new credential must not replace the published one, or None if it may.

    It must outlive now by 60 s or 5 % of its life, whichever is more, and what is published, unless ``replace``
    (forced, or the policy's identity changed). Half of its life is enough in any case: a life of little more than
    60 s could else never be published, because the exchange takes a moment too. A published expiry further ahead than
    LONGEST_LIFE is not to be outlived, it is to be repaired.
    """
    life = candidate.expires_at - (candidate.issued_at or now)
    floor = min(life / 2, max(TINY_LIFE, life * WORTH))
    # NOTE: a life of exactly the floor is still usable; only what is shorter is refused.
    if candidate.expires_at <= now or candidate.expires_at < now + floor:
        return f"it expires at {candidate.expires_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}, which is too soon"
    if replace or not isinstance(published, Published) or published.expires_at > now + LONGEST_LIFE:
        return None
    # A vendor that answers from a cache gives the old token again. Published, it would have us renew in a loop.
    if candidate.expires_at <= published.expires_at:
        return "it would expire no later than the one that is published"
    return None


def _unit_hash(seed: str, expires_at: datetime) -> float:
    """Hash into [0, 1): the same for the same credential, on every machine and after every restart."""
    text = f"{seed}@{expires_at.timestamp():.0f}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
