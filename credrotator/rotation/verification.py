"""Whether a new credential is good enough to take a good one's place, where somebody wants that seen first.

Owns what follows from an answer: a rejection is final for that credential, and an answer that says nothing of it holds
it back only while what is published has time. Must not know how a credential is verified: each provider does.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from credrotator.core.errors import Rejected, RotationError

if TYPE_CHECKING:
    from credrotator.core.model import Credential, ObjectKey, Rotatable, RotatablePolicy

log = logging.getLogger(__name__)


class Verify(Protocol):
    """See ``ports.Exchange.verify``."""

    def __call__(self, policy: ObjectKey, source: Rotatable, credential: Credential) -> None:
        """Verify a credential."""


def verify(ask: Verify, policy: RotatablePolicy, credential: Credential, *, may_wait: bool) -> str:
    """Have a new credential verified; return a warning where it is to be published without, empty if it is good.

    Args:
        ask: Verifies it.
        policy: Whose.
        credential: What the exchange gave.
        may_wait: What is published is good for long enough to ask again.

    Raises:
        Rejected: It is not good.
        RotationError: It could not be seen, and there is time to ask again.
    """
    try:
        ask(policy.key, policy.source, credential)
    except Rejected:
        raise
    except RotationError as error:
        if may_wait:
            message = f"the new credential is not published yet, since it could not be verified: {error.message}"
            raise error.anew(message=message) from None
        warning = f"published without having been verified, since nothing published is good for long: {error.message}"
        log.warning("%s: %s: %s", policy.key, error.reason, warning)
        return warning
    return ""
