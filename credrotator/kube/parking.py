"""Parking: the gateway's single worker is kept from an issuer that does not answer, where it would hang for good.

Its rotator goes by an annotation of the Secret, which is put off; the true expiry stands in one of ours. If we die, the
gateway's comes back a quarter of an hour later; a minute before the credential expires it comes back in any case: what
keeps us from an issuer need not keep the gateway. Can never fail a rotation.
Source: Envoy AI Gateway, ``internal/controller``; reliability.md I17, 38.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from credrotator.core.errors import Conflict, RotationError
from credrotator.core.secretdata import GATEWAY_WAKES, latest_parking, park, parked_until

if TYPE_CHECKING:
    from datetime import datetime

    from credrotator.core.audit_log import AuditLog
    from credrotator.core.model import RotatablePolicy
    from credrotator.core.outcome import Failure
    from credrotator.core.ports import Clock, SecretStore
    from credrotator.core.secret_document import SecretDocument

log = logging.getLogger(__name__)

PARKING = timedelta(minutes=15)
PARK_AGAIN = timedelta(minutes=14)
"""The gateway's rotator wakes 5 min before the annotation; the next failure may come 8 min and an exchange later."""


class Parking:
    """Parks policies, one at a time.

    Args:
        store: Where their Secrets are.
        clock: The present moment; others read what is written by it, and their clocks may be right.
        audit: Told of each.
    """

    def __init__(self, store: SecretStore, clock: Clock, audit: AuditLog) -> None:
        self._store = store
        self._clock = clock
        self._audit = audit

    def park(self, policy: RotatablePolicy, failure: Failure) -> None:
        """Put the annotation off, unless it is far enough ahead, or must not be any further.

        With a Retry-After it is counted from its end: no attempt comes before that could park the policy again.
        """
        now = self._clock()
        try:
            stored = self._store.read(policy.secret)
            document = stored.document if stored else None
            until = _until(document, now, now + (failure.retry_after or timedelta(0)))
            if until is None:
                return
            parked = park(document, policy.secret, policy.owner, until, since=now)
            # With the version: if the gateway has renewed it meanwhile, the conflict leaves its write alone.
            self._store.publish(parked, stored.version if stored else None)
        except (RotationError, Conflict) as error:
            log.warning("%s: not parked: %s", policy.key, error)
        else:
            self._audit.parked(policy, failure.reason, until)


def _until(document: SecretDocument | None, now: datetime, next_try: datetime) -> datetime | None:
    """Return what the annotation is to be put off to; None to leave it as it is."""
    until = min(next_try + PARKING, latest_parking(document, now)).replace(microsecond=0)
    annotated = parked_until(document)
    # The gateway's rotator would be awake with this value as well: the write would change nothing.
    if until - GATEWAY_WAKES <= now:
        return None
    if annotated is not None and (annotated > next_try + PARK_AGAIN or annotated >= until):
        return None
    return until
