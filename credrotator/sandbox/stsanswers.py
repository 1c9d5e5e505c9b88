"""The XML that AWS STS speaks.

Owns the shape of its answers and errors, and AWS's own wording. Must not decide which of them to give.
Specification: AWS STS API reference 2011-06-15 (AssumeRoleWithWebIdentity, GetCallerIdentity, Common Errors).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeAlias
from xml.sax.saxutils import escape

from werkzeug import Response

NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
Tree: TypeAlias = Mapping[str, "str | Tree"]


@dataclass(frozen=True)
class StsError:
    """One of AWS's errors: its HTTP status and usual message."""

    status: int
    message: str


ERRORS: Mapping[str, StsError] = {
    "AccessDenied": StsError(403, "Not authorized to perform sts:AssumeRoleWithWebIdentity"),
    "ExpiredToken": StsError(403, "The security token included in the request is expired"),
    "ExpiredTokenException": StsError(400, "Token expired: the current time must be before the expiration time"),
    "IDPCommunicationError": StsError(
        400,
        "The request could not be fulfilled because the identity provider (IDP) that was asked to verify the "
        "incoming identity token could not be reached",
    ),
    "IDPRejectedClaim": StsError(403, "The identity provider (IdP) reported that authentication failed"),
    "IncompleteSignature": StsError(400, "The request signature does not conform to AWS standards"),
    "InternalFailure": StsError(500, "The request processing has failed because of an unknown error"),
    "InvalidAction": StsError(400, "Could not find operation for version 2011-06-15"),
    "InvalidClientTokenId": StsError(403, "The security token included in the request is invalid"),
    "InvalidIdentityToken": StsError(
        400,
        "Couldn't retrieve verification key from your identity provider, please reference "
        "AssumeRoleWithWebIdentity documentation for requirements",
    ),
    "MalformedPolicyDocument": StsError(400, "The policy is not in the valid JSON format."),
    "MissingAuthenticationToken": StsError(403, "Request is missing Authentication Token"),
    "MissingParameter": StsError(400, "The request must contain the parameter"),
    "RegionDisabledException": StsError(
        403,
        "STS is not activated in this region for account:123456789012. Your account administrator can activate "
        "STS in this region using the IAM Console.",
    ),
    "ServiceUnavailable": StsError(503, "The request has failed due to a temporary failure of the server"),
    "SignatureDoesNotMatch": StsError(
        403,
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
        "Access Key and signing method. Consult the service documentation for details.",
    ),
    "SlowDown": StsError(503, "Please reduce your request rate."),
    "Throttling": StsError(400, "Rate exceeded"),
    "ValidationError": StsError(400, "The input fails to satisfy the constraints specified by an AWS service"),
}


def answer(action: str, result: Tree) -> Response:
    """Return a successful answer to ``action``."""
    request_id = str(uuid.uuid4())
    tree: Tree = {f"{action}Result": result, "ResponseMetadata": {"RequestId": request_id}}
    return _response(f"{action}Response", tree, 200, request_id)


def error_answer(code: str, message: str | None = None) -> Response:
    """Return an error; a code that is not in ``ERRORS`` comes with status 400."""
    request_id = str(uuid.uuid4())
    known = ERRORS.get(code, StsError(400, code))
    kind = "Receiver" if known.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "Sender"
    error: Tree = {"Type": kind, "Code": code, "Message": known.message if message is None else message}
    return _response("ErrorResponse", {"Error": error, "RequestId": request_id}, known.status, request_id)


def _response(root: str, tree: Tree, status: int, request_id: str) -> Response:
    body = f'<{root} xmlns="{NAMESPACE}">{_xml(tree)}</{root}>'
    return Response(body, status, headers={"x-amzn-RequestId": request_id}, content_type="text/xml")


def _xml(tree: Tree) -> str:
    return "".join(
        f"<{name}>{escape(value) if isinstance(value, str) else _xml(value)}</{name}>" for name, value in tree.items()
    )
