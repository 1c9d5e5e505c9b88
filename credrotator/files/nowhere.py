"""The store of who named no directory: nothing is published, as far as anybody knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.core.errors import UsageError

if TYPE_CHECKING:
    from credrotator.core.model import ObjectKey
    from credrotator.core.secret_document import SecretDocument, StoredSecret


class Nowhere:
    """A SecretStore to plan with, not to publish in."""

    def read(self, _key: ObjectKey) -> StoredSecret | None:
        """See ``SecretStore``: there is none."""
        return None

    def publish(self, _document: SecretDocument, _expected: str | None) -> None:
        """See ``SecretStore``.

        Raises:
            UsageError: Always.
        """
        raise UsageError("name a directory for the credentials with --out DIR")
