"""One record per decision about a credential: who decided what, on which policy, why, and what changed by it.

Owns the logger's name and the records' fields. No field holds a secret: a credential is known by its expiry, by a hash
of what was published, and by the vendor's id of the request. Source: docs/logs.md; reliability.md, security 9.
"""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, Literal

from credrotator.core.errors import reference
from credrotator.core.secretdata import CONTENT, show_time
from credrotator.observability.logs import AUDIT

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from credrotator.core.model import Credential, InvalidPolicy, ObjectKey, Policy
    from credrotator.core.outcome import Outcome
    from credrotator.core.secret_document import SecretDocument

log = logging.getLogger(AUDIT)

Decision = Literal["published", "refused", "failed", "adopted", "parked"]


class Audit:
    """An ``AuditLog`` by the log of one process; safe to share between threads.

    Args:
        instance: Who decides: a replica's name in the election, or by default the machine's.
        leads: Tells whether it is the leader; None: there is no election.
        failures: Level of failures, for whoever lets none but warnings through.
    """

    def __init__(
        self, instance: str = "", leads: Callable[[], bool] | None = None, *, failures: int = logging.INFO
    ) -> None:
        self._instance = instance
        self._leads = leads
        self._failures = failures

    def published(
        self, policy: Policy, reason: str, old: datetime | None, document: SecretDocument, credential: Credential
    ) -> None:
        """A new credential took the place of what was there, if there was anything."""
        if not log.isEnabledFor(logging.INFO):
            return
        content = document.annotations.get(CONTENT)
        text = "published %s for %s (%s): expiry %s -> %s, content %s, request %s"
        expiries = (show_time(old) if old else "none", show_time(credential.expires_at))
        arguments = (document.key, policy.key, reason, *expiries, content, credential.request_id)
        fields = self._fields("published", policy, reason)
        fields |= _change(document.key, old, credential.expires_at)
        # The vendor's id finds the same exchange in CloudTrail or Entra's sign-in log; the hash tells which Secret
        # holds it.
        fields |= {"content_hash": content, "request_id": credential.request_id}
        log.info(text, *arguments, extra={"fields": fields})

    def refused(self, policy: Policy, reason: str, why: str, old: datetime | None, credential: Credential) -> None:
        """A new credential was there and is not published; what is there stays."""
        if not log.isEnabledFor(logging.INFO):
            return
        fields = self._fields("refused", policy, reason)
        fields |= _change(policy.secret, old, credential.expires_at)
        fields |= {"request_id": credential.request_id}
        log.info("%s: %s: the new credential is not published: %s", policy.key, reason, why, extra={"fields": fields})

    def failed(self, policy: Policy | InvalidPolicy, outcome: Outcome) -> None:
        """A look ended in a failure; what is there stays, until ``old_expiry``."""
        error = outcome.error
        if error is None or not log.isEnabledFor(self._failures):
            return
        fields = self._fields("failed", policy, error.reason)
        fields |= _change(outcome.secret, outcome.expires_at, None)
        fields |= {"kind": error.kind, "hint": error.hint, "see": reference(error.reason)}
        arguments = (outcome.policy, error.reason, error.kind, error.message, error.hint, fields["see"])
        log.log(self._failures, "%s: %s (%s): %s; what to do: %s; see %s", *arguments, extra={"fields": fields})

    def adopted(self, policy: Policy, document: SecretDocument, expires_at: datetime | None) -> None:
        """A Secret that another program wrote is kept fresh from now on; its credential stays."""
        fields = self._fields("adopted", policy, "Adopted")
        fields |= _change(document.key, expires_at, expires_at)
        fields |= {"content_hash": document.annotations.get(CONTENT)}
        log.info("%s: Secret %s is kept fresh from now on", policy.key, document.key, extra={"fields": fields})

    def parked(self, policy: Policy, reason: str, until: datetime) -> None:
        """The gateway's own rotator is kept away from a policy that fails; the credential stays."""
        fields = self._fields("parked", policy, reason)
        fields |= {"secret": str(policy.secret), "parked_until": show_time(until)}
        log.info(
            "%s: parked until %s, while its issuer does not answer",
            policy.key,
            show_time(until),
            extra={"fields": fields},
        )

    def _fields(self, decision: Decision, policy: Policy | InvalidPolicy, reason: str) -> dict[str, object]:
        return {
            "decision": decision,
            "policy": str(policy.key),
            "provider": policy.provider,
            "reason": str(reason),
            "instance": self._instance or socket.gethostname(),
            # At the moment of the record: what was decided by a process that had lost the Lease shows.
            "leader": self._leads() if self._leads else None,
        }


def _change(secret: ObjectKey | None, old: datetime | None, new: datetime | None) -> dict[str, object]:
    return {
        "secret": str(secret) if secret else None,
        "old_expiry": show_time(old) if old else None,
        "new_expiry": show_time(new) if new else None,
    }
