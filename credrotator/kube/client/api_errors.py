"""What the API server's refusals mean.

Owns :class:`ApiError`. Messages are the server's own, made printable and cut; a refused body never gets into one.
Source: Kubernetes API conventions, "Response Status Kind".
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from credrotator.core.errors import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

NO_ANSWER = 0
BAD_REQUEST = 400
UNAUTHORIZED = 401
FORBIDDEN = 403
NOT_FOUND = 404
REQUEST_TIMEOUT = 408
CONFLICT = 409
GONE = 410
UNPROCESSABLE = 422
TOO_MANY_REQUESTS = 429
SERVER_ERROR = 500
LONGEST_RETRY_AFTER = timedelta(minutes=5)


class ConfigurationError(Exception):
    """There is no cluster to talk to, or its configuration cannot be used as it is; the message is printable."""


class ClusterNotNamed(ConfigurationError):
    """There is neither a kubeconfig nor a pod's service account."""


class ApiError(Exception):
    """The API server said no, or nothing.

    Attributes:
        status: The HTTP status; 0 without an answer (a write may have been applied all the same).
        reason: The Status object's reason (``Forbidden``, ``AlreadyExists``, …), or ours for what never was an answer:
            ``Timeout``, ``Unreachable``, ``Disconnected``, ``TLS``, ``ProxyFailed``, ``InvalidResponse``.
        message: One printable line.
        retry_after: What the server asks for (Retry-After).
    """

    def __init__(self, status: int, reason: str, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(f"{status or 'no answer'} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


class BodyTooLong(ApiError):
    """An answer of more bytes than are read; a smaller page of a list may fit."""


def from_answer(status: int, headers: Mapping[str, str], body: bytes, *, wrote: bool) -> ApiError:
    """Read a refusal; ``wrote``: the request carried a body."""
    try:
        status_object = json.loads(body)
    except (ValueError, RecursionError):
        status_object = None
    error = from_status(status_object if isinstance(status_object, dict) else {}, status, wrote=wrote)
    seconds = headers.get("Retry-After", "").strip()
    if seconds.isascii() and seconds.isdigit():
        error.retry_after = min(timedelta(seconds=int(seconds[:9])), LONGEST_RETRY_AFTER)
    return error


def from_status(status_object: Mapping[str, Any], status: int | None = None, *, wrote: bool = False) -> ApiError:
    """Read a Status object, as an answer's body or as the object of a watch's ERROR event."""
    code = status or status_object.get("code")
    code = code if isinstance(code, int) else SERVER_ERROR
    message = status_object.get("message") or "no message"
    if wrote and code == BAD_REQUEST:
        # NOTE: decoding errors may quote what they stumbled over, and that may be a Secret's data.
        message = "the object was not understood"
    details = status_object.get("details")
    seconds = details.get("retryAfterSeconds") if isinstance(details, dict) else None
    wait = timedelta(seconds=seconds) if isinstance(seconds, int) and 0 < seconds < 10**6 else None
    return ApiError(
        code,
        printable(status_object.get("reason") or f"Status{code}", 60),
        printable(message),
        retry_after=min(wait, LONGEST_RETRY_AFTER) if wait else None,
    )
