"""What the API server's refusals mean.

Owns :class:`ApiError`, and the translation to credrotator's errors at this border. Messages are the server's own, made
printable and cut; a refused body never gets into one. Source: Kubernetes API conventions, "Response Status Kind".
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from credrotator.core.errors import Conflict, Denied, RotationError, Transient, printable

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


class ApiError(Exception):
    """The API server said no, or nothing.

    Attributes:
        status: The HTTP status; 0 without an answer (a write may have been applied all the same).
        reason: The Status object's reason (``Forbidden``, ``AlreadyExists``, …), or ours for what never was an answer:
            ``Timeout``, ``Unreachable``, ``Disconnected``, ``TLS``, ``ProxyFailed``, ``InvalidResponse``.
        message: One printable line.
        retry_after: The server's own wish.
    """

    def __init__(self, status: int, reason: str, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(f"{status or 'no answer'} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


def from_answer(status: int, headers: Mapping[str, str], body: bytes, *, wrote: bool) -> ApiError:
    """Read a refusal; ``wrote``: the request carried a body."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    error = from_status(found if isinstance(found, dict) else {}, status, wrote=wrote)
    seconds = headers.get("Retry-After", "").strip()
    if seconds.isascii() and seconds.isdigit():
        error.retry_after = min(timedelta(seconds=int(seconds[:9])), LONGEST_RETRY_AFTER)
    return error


def from_status(found: Mapping[str, Any], status: int | None = None, *, wrote: bool = False) -> ApiError:
    """Read a Status object, as an answer's body or as the object of a watch's ERROR event."""
    code = status or found.get("code")
    code = code if isinstance(code, int) else SERVER_ERROR
    message = found.get("message") or "no message"
    if wrote and code == BAD_REQUEST:
        # NOTE: decoding errors may quote what they stumbled over, and that may be a Secret's data.
        message = "the object was not understood"
    details = found.get("details")
    seconds = details.get("retryAfterSeconds") if isinstance(details, dict) else None
    wait = timedelta(seconds=seconds) if isinstance(seconds, int) and 0 < seconds < 10**6 else None
    return ApiError(
        code,
        printable(found.get("reason") or f"Status{code}", 60),
        printable(message),
        retry_after=min(wait, LONGEST_RETRY_AFTER) if wait else None,
    )


def as_rotation_error(error: ApiError, what: str) -> RotationError | Conflict:  # noqa: C901 - a table
    """Class an error by what to do next. ``what`` completes "cannot …": ``"write Secret ns/name"``.

    A :class:`Conflict` says: somebody else wrote in the meantime; read again, decide again.
    """
    sentence = f"cannot {what}: {error.message}"
    match error.status:
        case 409:
            return Conflict(sentence)
        case 401:
            hint = "see whether the token is valid for this cluster, and not expired"
            return Denied("ApiServerUnauthorized", sentence, hint=hint)
        case 403 if "exceeded quota" in error.message:
            return Denied("QuotaExceeded", sentence, hint="raise the namespace's ResourceQuota, or make room in it")
        case 403:
            hint = "grant the verb to credrotator's service account; `credrotator check` lists what it needs"
            return Denied("ApiServerForbidden", sentence, hint=hint)
        case 404:
            hint = "see whether namespace, object and resource definition exist"
            return Denied("ObjectNotFound", sentence, hint=hint)
        case 422:
            hint = "see whether the object is immutable, or an admission policy is in the way"
            return Denied("ApiServerInvalid", sentence, hint=hint)
        case 429:
            hint = "it asks for patience; see the API server's priority and fairness metrics"
            return Transient("ApiServerThrottled", sentence, hint=hint, retry_after=error.retry_after)
        case 0:
            hint = "see whether the API server's address, port and certificate are right from here"
            return Transient(f"ApiServer{error.reason}", sentence, hint=hint)
        case 408 | 410:
            return Transient("ApiServerFailed", sentence, hint="it passes when asked anew")
        case status if status >= SERVER_ERROR:
            hint = "see the health of the API server and etcd"
            return Transient("ApiServerFailed", sentence, hint=hint, retry_after=error.retry_after)
        case _:
            return Denied("ApiServerRefused", sentence, hint="see the API server's audit log")
