"""A published credential, taken apart: what templates and programs beside the gateway need of it. Pure.

Which fields a credential has is asked of its source; nothing here knows a vendor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from credrotator.core.secret_document import Published
from credrotator.core.secretdata import parse, published_value

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from credrotator.core.model import ObjectKey, RotatablePolicy
    from credrotator.core.secret_document import SecretDocument
    from credrotator.core.sensitive import Sensitive


@dataclass(frozen=True, slots=True)
class PublishedCredential:
    """A credential as it is published. Times are aware UTC; ``issued_at`` is None where nobody recorded it.

    Attributes:
        fields: The parts by their names: ``token``, or ``access_key_id`` and so on.
        environment: The parts by the variables in which the vendor's programs expect them.
    """

    policy: ObjectKey
    provider: str
    secret: ObjectKey
    fields: Mapping[str, Sensitive]
    environment: Mapping[str, Sensitive]
    expires_at: datetime
    issued_at: datetime | None


def published_credential(policy: RotatablePolicy, document: SecretDocument | None) -> PublishedCredential | None:
    """Take the credential apart that a policy's Secret holds; None where it holds none that can be used."""
    how = policy.source, policy.data_key, policy.shape
    published = parse(document, *how)
    value = published_value(document.data, *how) if document else None
    if value is None or not isinstance(published, Published):
        return None
    kind, fields = policy.source.kind, policy.source.fields(value)
    # A Google service account has no project in its source, so that variable is left out, not empty.
    environment = {variable: fields[name] for name, variable in kind.variables if name in fields}
    return PublishedCredential(
        policy.key, kind.provider, policy.secret, fields, environment, published.expires_at, published.issued_at
    )
