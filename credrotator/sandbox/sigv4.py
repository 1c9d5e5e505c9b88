"""Verification of AWS Signature Version 4.

Owns the judgement whether a request was signed with a secret that the verifier knows. Must not decide what the signer
may do. Specification: AWS "Signature Version 4 signing process" (header form); the canonical form itself is
botocore's, so that signer and verifier are not the same code of ours.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from botocore.auth import SIGV4_TIMESTAMP, UNSIGNED_PAYLOAD, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from credrotator.sandbox.answers import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_CLOCK_DIFFERENCE = timedelta(minutes=5)
LONGEST_PRESIGNED = timedelta(hours=12)
SCOPE_PARTS = 5
AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=([^/, ]+)/(\d{8})/([^/, ]+)/([^/, ]+)/aws4_request, *"
    r"SignedHeaders=([^, ]+), *Signature=([0-9a-f]{64})"
)


@dataclass(frozen=True)
class Session:
    """Temporary credentials that were handed out. ``expires`` is aware UTC, ``arn`` the assumed role's session."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expires: datetime
    arn: str
    role_id: str
    account: str
    tags: Mapping[str, str] = field(default_factory=dict)
    source_identity: str = ""
    policy: str = ""


@dataclass(frozen=True)
class SignedRequest:
    """What a signature covers. ``url`` is absolute and as sent (path and query still percent-encoded)."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class _Claim:
    access_key_id: str
    date: str
    region: str
    service: str
    signed_headers: list[str]
    signature: str = field(repr=False)


def verify(request: SignedRequest, session_of: Callable[[str], Session | None], now: datetime) -> Session:
    """Return the session that signed ``request``.

    Args:
        request: The request as it arrived.
        session_of: Returns the session of an access key id, or None.
        now: The verifier's time, aware UTC.

    Raises:
        Refused: With AWS's code: ``MissingAuthenticationToken``, ``IncompleteSignature``, ``InvalidClientTokenId``
            (unknown key or another session's token), ``SignatureDoesNotMatch`` (also for a time too far off), or
            ``ExpiredToken``.
    """
    headers = {name.lower(): value for name, value in request.headers.items()}
    claim = _claim(headers)
    session = session_of(claim.access_key_id)
    token = headers.get("x-amz-security-token", "")
    if session is None or not hmac.compare_digest(token.encode(), session.session_token.encode()):
        raise Refused("InvalidClientTokenId")
    timestamp = _timestamp(headers, claim, now)
    expected = _signature(request, headers, claim, session, timestamp)
    if not hmac.compare_digest(expected, claim.signature):
        raise Refused("SignatureDoesNotMatch")
    if now >= session.expires:
        raise Refused("ExpiredToken")
    return session


def verify_presigned(url: str, service: str, session_of: Callable[[str], Session | None], now: datetime) -> Session:
    """Return the session that presigned a POST without a body.

    Args:
        url: As it was signed, the signature in it.
        service: Which service it has to be for.
        session_of: Returns the session of an access key id, or None.
        now: The verifier's time, aware UTC.

    Raises:
        Refused: With AWS's code, as for ``verify``.
    """
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    signature = query.pop("X-Amz-Signature", "")
    scope = query.get("X-Amz-Credential", "").split("/")
    if len(scope) != SCOPE_PARTS or scope[3] != service or query.get("X-Amz-SignedHeaders") != "host":
        raise Refused("IncompleteSignature", "the request is not presigned for this service")
    session = session_of(scope[0])
    token = query.get("X-Amz-Security-Token", "")
    if session is None or not hmac.compare_digest(token.encode(), session.session_token.encode()):
        raise Refused("InvalidClientTokenId")
    try:
        timestamp = query["X-Amz-Date"]
        signed_at = datetime.strptime(timestamp, SIGV4_TIMESTAMP).replace(tzinfo=UTC)
        life = timedelta(seconds=int(query["X-Amz-Expires"]))
    except (KeyError, ValueError) as error:
        raise Refused("IncompleteSignature", "date or life is missing or malformed") from error
    signer = SigV4Auth(Credentials(session.access_key_id, session.secret_access_key), service, scope[2])
    request = AWSRequest("POST", f"https://{parts.netloc}{parts.path}", headers={"host": parts.netloc}, params=query)
    request.context["timestamp"] = timestamp
    text = signer.string_to_sign(request, signer.canonical_request(request))
    if not hmac.compare_digest(str(signer.signature(text, request)), signature):
        raise Refused("SignatureDoesNotMatch")
    if life > LONGEST_PRESIGNED or signed_at > now + MAX_CLOCK_DIFFERENCE:
        raise Refused("SignatureDoesNotMatch", "the life of the signature is too long, or it is not yet current")
    if now >= min(signed_at + life, session.expires):
        raise Refused("ExpiredToken")
    return session


def _claim(headers: Mapping[str, str]) -> _Claim:
    if "authorization" not in headers:
        raise Refused("MissingAuthenticationToken")
    match = AUTHORIZATION.fullmatch(headers["authorization"].strip())
    if match is None:
        raise Refused("IncompleteSignature", "the Authorization header is no AWS4-HMAC-SHA256 one")
    key, date, region, service, signed, signature = match.groups()
    names = signed.split(";")
    if "host" not in names or not {"x-amz-date", "date"} & set(names):
        raise Refused("IncompleteSignature", "host and date must be signed")
    return _Claim(key, date, region, service, names, signature)


def _timestamp(headers: Mapping[str, str], claim: _Claim, now: datetime) -> str:
    timestamp = headers.get("x-amz-date", "")
    try:
        signed_at = datetime.strptime(timestamp, SIGV4_TIMESTAMP).replace(tzinfo=UTC)
    except ValueError as error:
        raise Refused("IncompleteSignature", "X-Amz-Date is missing or malformed") from error
    if not timestamp.startswith(claim.date):
        raise Refused("SignatureDoesNotMatch", "the date of the credential scope is not that of the request")
    if signed_at < now - MAX_CLOCK_DIFFERENCE:
        limit = (now - MAX_CLOCK_DIFFERENCE).strftime(SIGV4_TIMESTAMP)
        raise Refused("SignatureDoesNotMatch", f"Signature expired: {timestamp} is now earlier than {limit}")
    if signed_at > now + MAX_CLOCK_DIFFERENCE:
        limit = (now + MAX_CLOCK_DIFFERENCE).strftime(SIGV4_TIMESTAMP)
        raise Refused("SignatureDoesNotMatch", f"Signature not yet current: {timestamp} is still later than {limit}")
    return timestamp


def _signature(
    request: SignedRequest, headers: Mapping[str, str], claim: _Claim, session: Session, timestamp: str
) -> str:
    signed = {name: headers.get(name, "") for name in claim.signed_headers}
    payload = headers.get("x-amz-content-sha256", "")
    if payload != UNSIGNED_PAYLOAD:
        # Over the bytes that arrived, whatever the sender says of them: a body changed on the way must not pass.
        payload = hashlib.sha256(request.body).hexdigest()
    signed_payload = "x-amz-content-sha256" in signed
    canonical = AWSRequest(request.method, request.url, headers=signed, data=request.body)
    canonical.context["timestamp"] = timestamp
    if signed_payload:
        canonical.headers.replace_header("x-amz-content-sha256", payload)
    signer = SigV4Auth(Credentials(session.access_key_id, session.secret_access_key), claim.service, claim.region)
    text = signer.string_to_sign(canonical, signer.canonical_request(canonical))
    return str(signer.signature(text, canonical))
