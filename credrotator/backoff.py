"""When to try again after a failure: by what kind it is, how often it happened, and how much life is left. Pure.

Jitter is a hash of the policy and the attempt: reproducible, and different for each policy. Source: faults.md I7, 1, 8.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from credrotator.errors import Kind

SHORTEST = timedelta(seconds=1)
LONGEST = {"transient": timedelta(minutes=5), "denied": timedelta(minutes=8), "policy": timedelta(minutes=8)}
"""Ceilings; 8 min lets a parked Secret be parked again well before the gateway's rotator would wake."""
FIRST = {"transient": timedelta(seconds=1), "denied": timedelta(minutes=1), "policy": timedelta(minutes=1)}
PROBES = (0.5, 0.9)
"""Shares of the remaining life at which a wish for patience is overridden, if it would outlast the credential."""


def next_try(
    kind: Kind, attempt: int, *, seed: str, now: datetime, expires_at: datetime | None, retry_after: timedelta | None
) -> datetime:
    """Return when to try again after the ``attempt``-th failure in a row (counted from 1).

    The wait doubles with each attempt up to a ceiling, with full jitter, but is never longer than half of the life that
    is left: a try a moment before the expiry is one too late. It is never below a second or the server's own
    Retry-After. Only where that would outlast the published credential, a probe comes earlier.
    """
    ceiling = min(FIRST[kind] * float(1 << min(attempt - 1, 20)), LONGEST[kind])
    wait = max(SHORTEST, ceiling * _unit_hash(seed, attempt)) if kind == "transient" else ceiling
    if expires_at is not None and expires_at > now:
        wait = min(wait, max(SHORTEST, (expires_at - now) / 2))
    due = now + max(wait, retry_after or SHORTEST)
    if expires_at is None or due < expires_at:
        return due
    left = expires_at - now
    probes = (now + left * share for share in PROBES)
    return next((probe for probe in probes if probe >= now + SHORTEST), due)


def _unit_hash(seed: str, attempt: int) -> float:
    return int.from_bytes(hashlib.sha256(f"{seed}#{attempt}".encode()).digest()[:8]) / 2**64
