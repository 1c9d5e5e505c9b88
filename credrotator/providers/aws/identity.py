"""What GetCallerIdentity says of a new credential. Pure.

Source: AWS STS API reference 2011-06-15, GetCallerIdentity; IAM user guide, "IAM identifiers" (a session's ARN has the
role's name without its path).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from credrotator.core.errors import Denied, Settling, printable
from credrotator.exchange.credential_checks import rejected
from credrotator.providers.aws.sts_errors import CHAIN_HINTS, UNUSUAL, Answer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from credrotator.core.errors import RotationError
    from credrotator.providers.aws.source import AwsOidc

UNKNOWN = "InvalidClientTokenId"
REJECTING = frozenset({UNKNOWN, "AccessDenied", "AccessDeniedException", "ExpiredToken", "ExpiredTokenException"})
"""What STS says of a session. Any other code is of the request: its time, its region, its form."""
SETTLES = Settling(tries=3)
"""IAM is eventually consistent: a session of a moment ago may not be known everywhere yet."""
HINT = "see whether sessions of the role were revoked, or a service control policy or the region stands in the way"
_SESSION = re.compile(r"arn:([^:]+):sts::([0-9]{12}):assumed-role/([^/]+)/.+", re.DOTALL)


def identity_refusal(response: Mapping[str, Any], source: AwsOidc, now: datetime) -> RotationError:
    """Class an error of GetCallerIdentity."""
    answer = Answer(response, [], f"role {source.identity}, region {source.region}")
    if passing := answer.passing(now):
        return passing
    if answer.code in REJECTING:
        return rejected(answer.message, HINT, SETTLES if answer.code == UNKNOWN else None)
    hint = CHAIN_HINTS.get(answer.code, UNUSUAL).format(role=source.identity, caller=source.role_arn)
    return Denied(answer.reason, answer.message, hint=hint)


def check_identity(arn: object, source: AwsOidc) -> None:
    """See whether a session is of the role that the policy names.

    Raises:
        Rejected: It is of another role or account.
    """
    session = _SESSION.fullmatch(arn) if isinstance(arn, str) else None
    _, partition, _, _, account, role = source.identity.split(":", 5)
    if session is None or session.groups() != (partition, account, role.rpartition("/")[2]):
        hint = "see what answers as STS: AWS_ENDPOINT_URL_STS, a proxy"
        raise rejected(f"AWS STS says that it is of {printable(arn, 120)}, not of role {source.identity}", hint)
