"""What the API server's refusals mean for a rotation: the client's errors, classed by what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.core.errors import Conflict, Denied, Forbidden, RotationError, StoreAway, Transient
from credrotator.kube.client.api_errors import SERVER_ERROR

if TYPE_CHECKING:
    from credrotator.kube.client.api_errors import ApiError


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
        # A ResourceQuota is an admission plug-in, so it answers 403 as RBAC does; only its words tell.
        case 403 if "exceeded quota" in error.message:
            return Denied("QuotaExceeded", sentence, hint="raise the namespace's ResourceQuota, or make room in it")
        case 403:
            hint = "grant the verb to credrotator's service account; `credrotator check` lists what it needs"
            return Forbidden("ApiServerForbidden", sentence, hint=hint)
        case 404:
            hint = "see whether namespace, object and resource definition exist"
            return Denied("ObjectNotFound", sentence, hint=hint)
        case 422:
            hint = "see whether the object is immutable, or an admission policy is in the way"
            return Denied("ApiServerInvalid", sentence, hint=hint)
        case 429:
            hint = "wait, and see the API server's priority and fairness metrics"
            return Transient("ApiServerThrottled", sentence, hint=hint, retry_after=error.retry_after)
        # No status: there was no answer (see ``api_errors``).
        case 0:
            hint = "see whether the API server's address, port and certificate are right from here"
            return StoreAway(f"ApiServer{error.reason}", sentence, hint=hint)
        # The request timed out there, or a list's continue token has expired: a new request is another one.
        case 408 | 410:
            return StoreAway("ApiServerFailed", sentence, hint="it passes when asked anew")
        case status if status >= SERVER_ERROR:
            hint = "see the health of the API server and etcd"
            return StoreAway("ApiServerFailed", sentence, hint=hint, retry_after=error.retry_after)
        case _:
            return Denied("ApiServerRefused", sentence, hint="see the API server's audit log")
