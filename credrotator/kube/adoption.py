"""Adoption: a Secret that the gateway's rotator made becomes ours, so that it is watched; its credential stays.

Can never fail a rotation: what is not adopted now is at the next attempt.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from credrotator.core.errors import Conflict, RotationError
from credrotator.core.secretdata import EXPIRY, adopt, read_time

if TYPE_CHECKING:
    from credrotator.core.audit_log import AuditLog
    from credrotator.core.model import RotatablePolicy
    from credrotator.core.ports import SecretStore
    from credrotator.kube.policy_events import PolicyEvents

log = logging.getLogger(__name__)


class Adoption:
    """Adopts Secrets, one at a time.

    Args:
        store: Where they are.
        events: Tells people.
        audit: Told of each.
    """

    def __init__(self, store: SecretStore, events: PolicyEvents, audit: AuditLog) -> None:
        self._store = store
        self._events = events
        self._audit = audit

    def adopt(self, policy: RotatablePolicy) -> None:
        """Write the same data with our labels and notes, unless that is done already."""
        try:
            stored = self._store.read(policy.secret)
            # Without that annotation it is not the gateway's work, and nothing is known of its expiry.
            if stored is None or EXPIRY not in stored.document.annotations:
                return
            adopted = adopt(stored.document, policy.fingerprint, policy.owner)
            # Adopted already: a second write of the same would wake everybody who watches Secrets.
            if adopted.annotations.items() <= stored.document.annotations.items():
                return
            self._store.publish(adopted, stored.version)
        except (RotationError, Conflict) as error:
            log.info("%s: not adopted yet: %s", policy.key, error)
        else:
            self._audit.adopted(policy, adopted, read_time(adopted.annotations[EXPIRY]))
            text = f"Secret {policy.secret.name} of the gateway is kept fresh from now on"
            self._events.emit(policy.key, "Adopted", text)
