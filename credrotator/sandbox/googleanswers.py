"""The JSON errors that Google Cloud gives.

Owns their two shapes, OAuth's and that of Google's APIs, and per code the status and the usual wording. Must not decide
which of them to give. Specification: RFC 6749 §5.2 and RFC 8693 §2.2.2 (STS, token endpoint); AIP-193 (APIs).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from credrotator.sandbox.answers import json_answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from werkzeug import Response


@dataclass(frozen=True)
class GoogleError:
    """One code: the HTTP status, the usual text, and for errors of the APIs the reason in their ErrorInfo."""

    status: int
    text: str
    reason: str = ""


OAUTH: Mapping[str, GoogleError] = {
    "invalid_grant": GoogleError(400, "Invalid JWT Signature."),
    "invalid_request": GoogleError(400, "Request contains an invalid argument."),
    "invalid_scope": GoogleError(400, "Invalid OAuth scope or ID token audience provided."),
    "invalid_target": GoogleError(
        400,
        'The target service indicated by the "audience" parameters is invalid. This might either be because the pool '
        "or provider is disabled or deleted or because it doesn't exist.",
    ),
    "unauthorized_client": GoogleError(401, "The given credential is rejected by the attribute condition."),
    "unsupported_grant_type": GoogleError(400, "Invalid grant_type."),
    "internal_failure": GoogleError(500, "Internal failure."),
    "temporarily_unavailable": GoogleError(503, "The service is currently unavailable."),
}
APIS: Mapping[str, GoogleError] = {
    "INVALID_ARGUMENT": GoogleError(400, "Request contains an invalid argument."),
    "UNAUTHENTICATED": GoogleError(
        401, "Request had invalid authentication credentials. Expected OAuth 2 access token.", "ACCESS_TOKEN_EXPIRED"
    ),
    "PERMISSION_DENIED": GoogleError(
        403,
        "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).",
        "IAM_PERMISSION_DENIED",
    ),
    "NOT_FOUND": GoogleError(404, "Not found; Gaia id not found for email"),
    "RESOURCE_EXHAUSTED": GoogleError(429, "Quota exceeded for quota metric 'Generate credentials request'."),
    "INTERNAL": GoogleError(500, "Internal error encountered."),
    "UNAVAILABLE": GoogleError(503, "The service is currently unavailable."),
}
DISABLED = "IAM Service Account Credentials API has not been used in project 123456789012 before or it is disabled."


def error_answer(code: str, description: str | None = None) -> Response:
    """Return Google's answer for a code: OAuth's in small letters, an API's status in capitals.

    ``SERVICE_DISABLED`` is a reason of PERMISSION_DENIED. A code that is not known gets status 400.
    """
    if not code.isupper():
        oauth = OAUTH.get(code, GoogleError(400, "Bad Request"))
        text = oauth.text if description is None else description
        return json_answer({"error": code, "error_description": text}, oauth.status, {"Cache-Control": "no-store"})
    status, known = code, APIS.get(code, GoogleError(400, code))
    if code == "SERVICE_DISABLED":
        status, known = "PERMISSION_DENIED", GoogleError(403, DISABLED, code)
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": known.reason, "domain": "googleapis.com"}
    error = {
        "code": known.status,
        "message": known.text if description is None else description,
        "status": status,
        **({"details": [info]} if known.reason else {}),
    }
    return json_answer({"error": error}, known.status)
