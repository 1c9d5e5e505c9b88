"""Names of our annotations that are no provider's, and how a message names one. No state."""

from __future__ import annotations

from typing import Final

from credrotator.core.errors import printable

PREFIX: Final = "credrotator.io/"
DURATION: Final = PREFIX + "duration"
SUBJECT_TOKEN: Final = PREFIX + "subject-token"
TOKEN_SOURCE: Final = PREFIX + "token-source"
SERVICE_ACCOUNT: Final = PREFIX + "service-account"
CLIENT_ASSERTION: Final = PREFIX + "client-assertion"
SHAPE: Final = PREFIX + "shape"
ASKS: Final = PREFIX + "managed"
"""The label by which a Secret asks for itself."""
RENEW: Final = PREFIX + "renew-requested-at"
VERIFY: Final = PREFIX + "verify"
SWITCH: Final = {"true": True, "false": False}
"""What an annotation may hold that switches something on or off."""


def annotation_path(name: str) -> str:
    """Return the field path of an annotation."""
    return f"metadata.annotations[{printable(name, 80)}]"
