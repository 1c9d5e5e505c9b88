"""What STS gives, as a credential; and how a session is named. Pure.

Source: https://docs.aws.amazon.com/STS/latest/APIReference/API_Credentials.html
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from botocore.parsers import ResponseParserError

from credrotator.core.durations import show_duration
from credrotator.core.errors import Outage
from credrotator.core.sensitive import Sensitive
from credrotator.providers.aws.source import AwsCredential, AwsOidc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credrotator.core.model import ObjectKey

SESSION_NAME_LIMIT = 64
UNREADABLE = (ResponseParserError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ArithmeticError)
"""What the SDK's parser stumbles with over an answer that is none of STS: all but the first are its accidents."""
SKEW_LIMIT = timedelta(minutes=1)
_NOT_IN_SESSION_NAME = re.compile(r"[^\w+=,.@-]", re.ASCII)


def session_name(policy: ObjectKey) -> str:
    """Name the role session after the policy, as the gateway does; what AWS does not take is told apart by a hash."""
    full_name = f"ai-gateway-{policy.name}"
    name = _NOT_IN_SESSION_NAME.sub("-", full_name)
    if name == full_name and len(name) <= SESSION_NAME_LIMIT:
        return name
    digest = hashlib.sha256(str(policy).encode()).hexdigest()[:10]
    return f"{name[: SESSION_NAME_LIMIT - len(digest) - 1]}-{digest}"


def credential_in(
    answer: Mapping[str, Any],
    source: AwsOidc,
    issued_at: datetime,
    now: datetime,
) -> AwsCredential:
    """Read the credential in an answer of the SDK's parser.

    Raises:
        Outage: InvalidResponse: it is incomplete, or could not stand in a file. CredentialExpired: it has ended.
    """
    credentials = answer.get("Credentials")
    parts = credentials if isinstance(credentials, dict) else {}
    keys = [parts.get(name) for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")]
    expires_at = parts.get("Expiration")
    if not all(isinstance(key, str) and key for key in keys) or not isinstance(expires_at, datetime):
        raise unreadable("came without complete credentials")
    if expires_at.tzinfo is None:
        raise unreadable("has an expiry without a time zone")
    access_key_id, secret_access_key, session_token = map(str, keys)
    together = access_key_id + secret_access_key + session_token
    if " " in together or not together.isprintable():
        # Such a value would break the shared-credentials file, or add a line of its own to it.
        raise unreadable("has a credential with white space or control characters in it")
    metadata = answer.get("ResponseMetadata", {})
    if expires_at <= now:
        skew = _skew(metadata.get("HTTPHeaders", {}).get("date", ""), now)
        raise Outage(
            "CredentialExpired",
            f"AWS STS gave a credential that expired at {expires_at:%Y-%m-%dT%H:%M:%SZ}",
            hint="set the clock of this machine: " + skew if skew else "compare the clock of this machine with AWS's",
        )
    return AwsCredential(
        access_key_id,
        Sensitive(secret_access_key),
        Sensitive(session_token),
        source.region,
        issued_at,
        expires_at.astimezone(UTC),
        metadata.get("RequestId"),
    )


def _skew(date: str, now: datetime) -> str:
    """Say by how much this machine's clock differs from a Date header; nothing where that is little or unknown."""
    try:
        behind = parsedate_to_datetime(date) - now
    except (TypeError, ValueError):
        return ""
    if abs(behind) < SKEW_LIMIT:
        return ""
    return f"it is {show_duration(abs(behind))} {'behind' if behind > timedelta(0) else 'ahead of'} AWS's"


def unreadable(what: str) -> Outage:
    """Say what is wrong with an answer."""
    hint = "see whether AWS_ENDPOINT_URL_STS names an STS"
    return Outage("InvalidResponse", f"the answer of AWS STS {what}", hint=hint)
