"""What a refusal of AWS STS means: by its code, and by AWS's words where one code has several causes. Pure.

Source: https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from credrotator.core.claims import audiences
from credrotator.core.durations import show_duration
from credrotator.core.errors import Denied, Outage, RotationError, Settling, StaleToken, Throttled, Transient
from credrotator.exchange.http.foreign import foreign_text
from credrotator.exchange.http.transport import RATE_LIMITED, SERVER_ERROR, TOO_MANY_REQUESTS, retry_after, text
from credrotator.policies.annotations import DURATION

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from credrotator.core.model import SubjectToken
    from credrotator.providers.aws.source import AwsOidc, ChainedRole

THROTTLED = {"Throttling", "ThrottlingException", "SlowDown", "RequestLimitExceeded", "TooManyRequestsException"}

TRUST_HINT = "run credrotator check, which prints the trust policy that fits the token"
HINTS = {
    "AccessDenied": f"let the role's trust policy accept this issuer, audience and subject, if the role is there; "
    f"{TRUST_HINT}",
    "IDPRejectedClaim": "see the issuer's log: it told AWS that the token is not valid any more",
    "InvalidIdentityToken": f"see that IAM has an identity provider for this issuer and audience; {TRUST_HINT}",
    "PackedPolicyTooLarge": "have the issuer put fewer or shorter session tags into the token (its claim "
    "https://aws.amazon.com/tags)",
    "RegionDisabledException": "activate STS in this region in the account's IAM settings",
    "ExpiredToken": "compare the clocks of the issuer and this machine",
    "ExpiredTokenException": "compare the clocks of the issuer and this machine",
    "ValidationError": "correct what AWS names here: awsRoleArn, region, or the annotation of the duration",
}
# AWS says the first of these too while it cannot read the issuer's keys.
STALE = {"InvalidIdentityToken": Settling(tries=3), "ExpiredTokenException": None, "ExpiredToken": None}
"""Codes for which a fresh token is worth one more try, and how long each is not believed."""
UNUSUAL = "look the code up among the STS API's common errors; see whether AWS_ENDPOINT_URL_STS names an STS"
NO_AUDIENCE = (
    "have the issuer put an audience (aud) into this client's access tokens: AWS takes none without, and the client id "
    "alone is none (Amazon Cognito: a pre token generation trigger adds it)"
)
WORDS = {
    "No OpenIDConnect provider found": (
        f"make an IAM identity provider for the token's issuer in the role's account; {TRUST_HINT}"
    ),
    "Incorrect token audience": (
        f"add the token's audience to the client ids of the IAM identity provider and to the role; {TRUST_HINT}"
    ),
    "verification key": (
        "see that AWS can read the issuer's keys (jwks_uri of its discovery) from the internet, and that the token is "
        "signed with one of them"
    ),
    "thumbprint": (
        "set the thumbprint of the IAM identity provider to that of the CA which signs the issuer's certificate now "
        "(aws iam update-open-id-connect-provider-thumbprint)"
    ),
    "not a valid JWT": "have the issuer give JWT access tokens to this client",
    "required claim": "have the issuer put the claim that AWS names into this client's tokens",
    "explicit deny": "have the policy that denies it (service control policy, permissions boundary) let this call pass",
    "sts:TagSession": "allow sts:TagSession too in the role's trust policy: the token carries session tags",
    "sts:SetSourceIdentity": "allow sts:SetSourceIdentity too in the role's trust policy: the token carries one",
    "algorithm": "have the issuer sign this client's tokens with RS256 or ES256",
    "valid URL": "have the issuer name itself by its https address in its tokens (iss)",
}
"""What AWS says in words where one code has several causes."""
CHAIN_HINTS = {
    "AccessDenied": "let the trust policy of {role} accept {caller} (with its external id, session tags and source "
    "identity), and the policy of {caller} call sts:AssumeRole on it; run credrotator check, which prints both",
    "PackedPolicyTooLarge": "use fewer or shorter session tags, or a shorter session policy",
    "MalformedPolicyDocument": "correct sessionPolicy in the policy's annotation",
    "RegionDisabledException": HINTS["RegionDisabledException"],
    "SignatureDoesNotMatch": "set the clock of this machine; AWS takes signatures for five minutes",
    "ExpiredToken": "compare the clock of this machine with AWS's",
}


def refusal(response: Mapping[str, Any], source: AwsOidc, token: SubjectToken, now: datetime) -> RotationError:
    """Class an error of AssumeRoleWithWebIdentity.

    Args:
        response: The SDK's reading of the error.
        source: What was asked for.
        token: By which; what AWS says comes along without it, escaped and cut.
        now: The present moment.
    """
    answer = Answer(response, [token.token.reveal()], f"role {source.role_arn}, region {source.region}")
    if passing := answer.passing(now):
        return passing
    # A chain's duration is asked for with its last role.
    if source.duration and not source.chain and "DurationSeconds" in answer.description:
        return _too_long(answer, source)
    hint = _hint(answer.code, answer.description, token)
    if answer.code in STALE:
        return StaleToken(answer.code, answer.message, hint=hint, settling=STALE[answer.code])
    return Denied(answer.reason, answer.message, hint=hint)


def chain_refusal(
    response: Mapping[str, Any], source: AwsOidc, role: ChainedRole, caller: str, now: datetime
) -> RotationError:
    """Class an error of AssumeRole for a role of the chain; ``caller``: the role before it."""
    answer = Answer(response, [], f"role {role.arn} by {caller}, region {source.region}")
    if passing := answer.passing(now):
        return passing
    if source.duration and "DurationSeconds" in answer.description:
        return _too_long(answer, source)
    hint = CHAIN_HINTS.get(answer.code, UNUSUAL).format(role=role.arn, caller=caller)
    return Denied(answer.reason, answer.message, hint=hint)


class Answer:
    """An error response, read."""

    def __init__(self, response: Mapping[str, Any], proofs: list[str], about: str) -> None:
        answered = response.get("Error")
        stated: Mapping[str, object] = answered if isinstance(answered, dict) else {}
        self.code = foreign_text(text(stated, "Code") or "Unknown", proofs, 60)
        self.description = foreign_text(text(stated, "Message"), proofs)
        self.message = f"AWS STS answered {self.code}: {self.description} ({about})"
        metadata = response.get("ResponseMetadata", {})
        self._status, self._headers = metadata.get("HTTPStatusCode", 0), metadata.get("HTTPHeaders", {})

    @property
    def reason(self) -> str:
        """AWS's code, where it is fit for a reason."""
        return self.code if _CODE.fullmatch(self.code) else "StsRefused"

    def passing(self, now: datetime) -> Transient | None:
        """Return the error for what passes by itself; None for a refusal."""
        wait = retry_after({"Retry-After": self._headers.get("retry-after", "")}, now)
        if self.code in THROTTLED or self._status == TOO_MANY_REQUESTS:
            return Throttled("StsThrottled", self.message, hint=RATE_LIMITED, retry_after=wait)
        if self.code == "IDPCommunicationError":
            hint = "AWS could not reach the issuer's JWKS; see whether it is public and up"
            return Transient(self.code, self.message, hint=hint)
        if self._status >= SERVER_ERROR:
            return Outage("StsFailed", self.message, hint="see the AWS Health Dashboard", retry_after=wait)
        return None


def _too_long(answer: Answer, source: AwsOidc) -> Denied:
    asked = show_duration(source.duration) if source.duration else ""
    hint = f"the role allows less than {asked}: lower {DURATION} to its MaxSessionDuration, or raise that"
    return Denied("DurationTooLong", answer.message, hint=hint)


_CODE = re.compile(r"[A-Z][A-Za-z]{2,59}")
"""A code that is fit for a reason."""


def _hint(code: str, description: str, token: SubjectToken) -> str:
    """Return the advice for a refusal, by what AWS says in words, and by what the token lacks."""
    if "audience" in description and not audiences(token.claims):
        return NO_AUDIENCE
    return next((advice for words, advice in WORDS.items() if words in description), HINTS.get(code, UNUSUAL))
