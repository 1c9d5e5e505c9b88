"""The sandbox's Bedrock, as far as short-term API keys go: who a key stands for.

Owns the reading of a key. Specification: Amazon Bedrock user guide, "API keys"; AWS "Signature Version 4", query form.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from credrotator.sandbox.answers import Refused
from credrotator.sandbox.sigv4 import Session, verify_presigned

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

PREFIX = "bedrock-api-key-"
HOST = "bedrock.amazonaws.com"
VERSION = "&Version=1"


def holder(key: str, session_of: Callable[[str], Session | None], now: datetime) -> Session:
    """Return the session that a key was made with; ``Refused`` with AWS's code if none is known, or it has ended."""
    try:
        url = base64.b64decode(key.removeprefix(PREFIX), validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise Refused("AccessDeniedException", "Invalid API Key format") from error
    if not key.startswith(PREFIX) or not url.startswith(f"{HOST}/?") or not url.endswith(VERSION):
        raise Refused("AccessDeniedException", "Invalid API Key format")
    request = f"https://{url.removesuffix(VERSION)}"
    if "Action=CallWithBearerToken" not in request:
        raise Refused("AccessDeniedException", "Invalid API Key format")
    return verify_presigned(request, "bedrock", session_of, now)
