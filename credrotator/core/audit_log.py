"""The record of each decision about a credential, as the work keeps it.

Owns the port and the one that keeps nothing. Says nothing about where the records go (``observability.audit``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datetime import datetime

    from credrotator.core.model import Credential, InvalidPolicy, Policy
    from credrotator.core.outcome import Outcome
    from credrotator.core.secret_document import SecretDocument


class AuditLog(Protocol):
    """Told, from any thread, of each decision; must be quick and never raise. Moments are aware UTC."""

    def published(
        self, policy: Policy, reason: str, old: datetime | None, document: SecretDocument, credential: Credential
    ) -> None:
        """A new credential took the place of what was there (``old``: its expiry), if there was anything."""

    def refused(self, policy: Policy, reason: str, why: str, old: datetime | None, credential: Credential) -> None:
        """A new credential was there and is not published; what is there stays."""

    def failed(self, policy: Policy | InvalidPolicy, outcome: Outcome) -> None:
        """An attempt ended; what is there stays if that was a failure, else there is nothing to record."""

    def adopted(self, policy: Policy, document: SecretDocument, expires_at: datetime | None) -> None:
        """A Secret that another program wrote is kept fresh from now on; its credential stays."""

    def parked(self, policy: Policy, reason: str, until: datetime) -> None:
        """The gateway's own rotator is kept away from a policy that fails; the credential stays."""


# For status and check, which decide nothing that is done.
class _NoAudit:
    def published(
        self, policy: Policy, reason: str, old: datetime | None, document: SecretDocument, credential: Credential
    ) -> None:
        pass

    def refused(self, policy: Policy, reason: str, why: str, old: datetime | None, credential: Credential) -> None:
        pass

    def failed(self, policy: Policy | InvalidPolicy, outcome: Outcome) -> None:
        pass

    def adopted(self, policy: Policy, document: SecretDocument, expires_at: datetime | None) -> None:
        pass

    def parked(self, policy: Policy, reason: str, until: datetime) -> None:
        pass


NO_AUDIT: AuditLog = _NoAudit()
