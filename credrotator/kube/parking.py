"""Parking: the gateway's single worker is kept from a policy's issuer for as long as that fails.

Its rotator goes by an annotation of the Secret, which is put off; the true expiry stands in one of ours. If we die, the
gateway's comes back a quarter of an hour later. Can never fail a rotation.
Source: Envoy AI Gateway, ``internal/controller``; reliability.md 38.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from credrotator.core.errors import Conflict, RotationError
from credrotator.core.secretdata import park, parked_until

if TYPE_CHECKING:
    from credrotator.core.audit_log import AuditLog
    from credrotator.core.model import Failure, RotatablePolicy
    from credrotator.core.ports import Clock, SecretStore

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
        """Put the annotation off, unless it is far enough ahead.

        With a Retry-After it is counted from its end: no attempt comes before that could park the policy again.
        """
        now = self._clock() + (failure.retry_after or timedelta(0))
        try:
            stored = self._store.read(policy.secret)
            until = parked_until(stored.document if stored else None)
            if until is not None and until > now + PARK_AGAIN:
                return
            document = park(stored.document if stored else None, policy.secret, policy.owner, now + PARKING)
            self._store.publish(document, stored.version if stored else None)
        except (RotationError, Conflict) as error:
            log.warning("%s: not parked: %s", policy.key, error)
        else:
            self._audit.parked(policy, failure.reason, now + PARKING)
