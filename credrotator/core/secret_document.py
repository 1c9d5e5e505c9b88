"""What a store holds for a policy: the Secret's document, whose it is, its version, and the credential in it.

Frozen data, no I/O. How a document is made of a credential and read back is in ``secretdata``.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from credrotator.core.model import ObjectKey, Owner
    from credrotator.core.sensitive import Sensitive


@dataclass(frozen=True, slots=True)
class SecretDocument:
    """What a Secret holds, whoever stores it: data, and the annotations that describe it. Written as a whole."""

    key: ObjectKey
    data: Mapping[str, Sensitive]
    annotations: Mapping[str, str]
    owner: Owner | None = None


class Absent(enum.Enum):
    """What is known of a Secret of which nothing was heard, where it would have been."""

    ABSENT = enum.auto()


@dataclass(frozen=True, slots=True)
class Ownership:
    """Whose a stored Secret is, by its metadata; all of it has to be right, or it is lost and nobody notices.

    Attributes:
        labelled: It is among those that are watched.
        policy: Name of the policy that it leads back to.
        uids: Of its owners, with the last of which it is deleted.
        asking: Its own UID, where it asks for itself; else empty.
    """

    labelled: bool
    policy: str
    uids: frozenset[str]
    asking: str = ""

    def is_of(self, owner: Owner) -> bool:
        """Tell whether it is a policy's in every respect."""
        if owner.is_the_secret:
            return self.policy == owner.name and self.asking == owner.uid
        return self.labelled and self.policy == owner.name and owner.uid in self.uids


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """A Secret as read, with the version that a later write must name (optimistic concurrency).

    ``ownership``: None where the store keeps none.
    """

    document: SecretDocument
    version: str
    ownership: Ownership | None = None

    def is_of(self, owner: Owner) -> bool:
        """Tell whether nothing is wrong with whose it is."""
        # A directory knows no owners; a Secret there belongs to whom its name says.
        return self.ownership is None or self.ownership.is_of(owner)


@dataclass(frozen=True, slots=True)
class Published:
    """A published credential, as far as planning cares. ``issued_at`` and ``fingerprint`` are None when adopted.

    ``request``: the request for a renewal that was the policy's latest when it was issued; empty: none was.
    """

    expires_at: datetime
    issued_at: datetime | None
    fingerprint: str | None
    request: str = ""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A published Secret that cannot be used as it is, and why; ``expires_at``: its credential's, where it is known."""

    why: str
    expires_at: datetime | None = None
