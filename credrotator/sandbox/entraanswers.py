"""The JSON errors that Microsoft Entra gives.

Owns their shape and, per AADSTS code, status, OAuth error and wording. Must not decide which of them to give.
Specification: Microsoft identity platform "Authentication and authorization error codes" and "Get a token" (error
response).
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from credrotator.sandbox.answers import json_answer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from werkzeug import Response

CHECK = "Check your federated identity credential Subject, Audience and Issuer against the presented assertion."


@dataclass(frozen=True)
class EntraError:
    """One AADSTS code: the HTTP status, OAuth's ``error``, and the usual text."""

    status: int
    error: str
    text: str


ERRORS: Mapping[str, EntraError] = {
    "50013": EntraError(400, "invalid_grant", "Assertion failed signature validation."),
    "50196": EntraError(
        400, "invalid_grant", "The server terminated an operation because it encountered a client request loop."
    ),
    "70011": EntraError(400, "invalid_scope", "The provided value for the input parameter 'scope' is not valid."),
    "90002": EntraError(400, "invalid_request", "Tenant not found. Check to make sure you have the correct tenant ID."),
    "90033": EntraError(503, "temporarily_unavailable", "A transient error has occurred. Please try again."),
    "90061": EntraError(400, "invalid_request", "Request to External OIDC endpoint failed."),
    "500011": EntraError(
        400, "invalid_resource", "The resource principal was not found in the tenant named by the request."
    ),
    "700016": EntraError(400, "unauthorized_client", "Application was not found in the directory."),
    "700024": EntraError(401, "invalid_client", "Client assertion is not within its valid time range."),
    "700027": EntraError(401, "invalid_client", "Client assertion failed signature validation."),
    "700211": EntraError(
        401, "invalid_client", f"No matching federated identity record found for presented assertion issuer. {CHECK}"
    ),
    "700212": EntraError(
        401, "invalid_client", f"No matching federated identity record found for presented assertion audience. {CHECK}"
    ),
    "700213": EntraError(
        401, "invalid_client", f"No matching federated identity record found for presented assertion subject. {CHECK}"
    ),
    "900144": EntraError(400, "invalid_request", "The request body must contain a required parameter."),
    "1002012": EntraError(
        400,
        "invalid_scope",
        "The provided value for scope is not valid. Client credential flows must have a scope value with /.default "
        "suffixed to the resource identifier (application ID URI).",
    ),
    "7000215": EntraError(
        401,
        "invalid_client",
        "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, "
        "not the client secret ID, for a secret added to app.",
    ),
    "7000218": EntraError(
        401,
        "invalid_client",
        "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
    ),
    "7000222": EntraError(401, "invalid_client", "The provided client secret keys for app are expired."),
    "7000229": EntraError(401, "invalid_client", "The client application is missing service principal in the tenant."),
    "70003": EntraError(400, "unsupported_grant_type", "The app requested an unsupported grant type."),
}
# An answer without an AADSTS code, for codes that the table does not know.
UNKNOWN = EntraError(400, "invalid_request", "The request is invalid.")


def error_answer(code: str, description: str | None, now: datetime) -> Response:
    """Return Entra's answer for a code, given as "7000215" or "AADSTS7000215".

    Args:
        code: Of ``ERRORS``; another number gets status 400 and ``invalid_request``.
        description: Replaces the usual text.
        now: For the timestamp, aware UTC.
    """
    number = code.removeprefix("AADSTS")
    known = ERRORS.get(number, UNKNOWN)
    trace, correlation = str(uuid.uuid4()), str(uuid.uuid4())
    timestamp = now.strftime("%Y-%m-%d %H:%M:%SZ")
    text = known.text if description is None else description
    body = {
        "error": known.error,
        "error_description": f"AADSTS{number}: {text} Trace ID: {trace} Correlation ID: {correlation} "
        f"Timestamp: {timestamp}",
        "error_codes": [int(number)],
        "timestamp": timestamp,
        "trace_id": trace,
        "correlation_id": correlation,
        "error_uri": f"https://login.microsoftonline.com/error?code={number}",
    }
    return json_answer(body, known.status, {"Cache-Control": "no-store", "x-ms-request-id": trace})
