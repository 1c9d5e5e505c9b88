"""What AWS policies ask for, and the credentials that AWS gives. Pure.

Owns the bytes of the Secret: an AWS shared-credentials file of one profile, as Envoy AI Gateway's
``internal/controller/rotators`` writes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from credrotator.core.model import Credential, Rotatable, SourceKind
from credrotator.core.profiles import read_own_profile
from credrotator.core.sensitive import Sensitive
from credrotator.core.shapes import Part, Shape

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from credrotator.core.model import SecretKeyRef, TokenSource

DATA_KEY = "credentials"
OPTIONS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
OIDC = SourceKind(
    provider="aws-oidc",
    data_key=DATA_KEY,
    heard_by_name=True,
    # The filter loads the file through the SDK's default chain, in which these come first.
    overriding_variables=("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY", "AWS_WEB_IDENTITY_TOKEN_FILE"),
    variables=(
        ("access_key_id", "AWS_ACCESS_KEY_ID"),
        ("secret_access_key", "AWS_SECRET_ACCESS_KEY"),
        ("session_token", "AWS_SESSION_TOKEN"),
        ("region", "AWS_REGION"),
    ),
)
FIELDS = {
    "access_key_id": "aws_access_key_id",
    "secret_access_key": "aws_secret_access_key",
    "session_token": "aws_session_token",
    "region": "region",
}
"""Each field, and the option of the credentials file that has it."""
KEYS_SHAPE = Shape(
    "aws-keys",
    (
        Part("accessKey", "access_key_id"),
        Part("secretKey", "secret_access_key"),
        Part("sessionToken", "session_token"),
    ),
)
"""As kgateway and agentgateway read them."""
SHAPES: Mapping[str, Shape | None] = {"gateway": None, KEYS_SHAPE.name: KEYS_SHAPE}


@dataclass(frozen=True, slots=True)
class ChainedRole:
    """A role that is assumed with the credential of the one before it.

    Attributes:
        tags: Session tags, by key.
        policy: A session policy as JSON, which narrows what the role may do; empty for none.
    """

    arn: str
    external_id: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    policy: str = ""
    source_identity: str | None = None

    @property
    def account(self) -> str:
        """The twelve digits of the role's account."""
        return self.arn.split(":", 5)[4]


@dataclass(frozen=True, slots=True)
class AwsOidc(Rotatable):
    """AWS STS AssumeRoleWithWebIdentity with the issuer's token, then AssumeRole for each role of the chain."""

    oidc: TokenSource
    role_arn: str
    region: str
    duration: timedelta | None = None
    chain: tuple[ChainedRole, ...] = ()

    @property
    def kind(self) -> SourceKind:
        """See ``Rotatable``."""
        return OIDC

    @property
    def token_source(self) -> TokenSource:
        """See ``Rotatable``."""
        return self.oidc

    @property
    def own_references(self) -> tuple[SecretKeyRef, ...]:
        """See ``Rotatable``."""
        return ()

    @property
    def identity(self) -> str:
        """See ``Rotatable``: the role, of several the last."""
        return self.chain[-1].arn if self.chain else self.role_arn

    @property
    def account(self) -> str:
        """The twelve digits of the role's account; its quota is what STS throttles by."""
        return self.role_arn.split(":", 5)[4]

    @property
    def asked(self) -> str:
        """See ``Rotatable``: STS of the region, for the role's account."""
        return f"sts {self.region} {self.account}"

    def asked_for(self, role: ChainedRole) -> str:
        """Name who is asked for a role of the chain: STS of the region, for that role's account."""
        return f"sts {self.region} {role.account}"

    def unusable(self, value: Sensitive) -> str | None:
        """See ``Rotatable``: the file has to be whole."""
        profile = read_own_profile(value.reveal(), "default") or {}
        missing = ", ".join(option for option in OPTIONS if not profile.get(option))
        return f"its credentials file lacks {missing} in profile default" if missing else None

    def own_expiry(self, value: Sensitive) -> datetime | None:  # noqa: ARG002 - the file does not say
        """See ``Rotatable``."""
        return None

    def fields(self, value: Sensitive) -> Mapping[str, Sensitive]:
        """See ``Rotatable``: the keys, and the region."""
        profile = read_own_profile(value.reveal(), "default") or {}
        return {name: Sensitive(profile[option]) for name, option in FIELDS.items() if option in profile}

    def value_of(self, fields: Mapping[str, Sensitive]) -> Sensitive:
        """See ``Rotatable``: the file; the region is the policy's."""
        parts = {"region": Sensitive(self.region), **fields}
        return _file({option: parts[name].reveal() for name, option in FIELDS.items() if name in parts})


@dataclass(frozen=True, slots=True)
class AwsCredential(Credential):
    """Temporary security credentials of AWS STS."""

    access_key_id: str
    secret_access_key: Sensitive
    session_token: Sensitive
    region: str
    issued_at: datetime
    expires_at: datetime
    request_id: str | None = None

    @property
    def summary(self) -> str:
        """See ``Credential``; the first letters tell the kind of key, and no more."""
        return f"access key {self.access_key_id[:4]}…"

    def secret_data(self, data_key: str | None) -> Mapping[str, Sensitive]:
        """See ``Credential``."""
        values = (self.access_key_id, self.secret_access_key.reveal(), self.session_token.reveal(), self.region)
        return {data_key or DATA_KEY: _file(dict(zip(FIELDS.values(), values, strict=True)))}


def _file(options: Mapping[str, str]) -> Sensitive:
    """Write a shared-credentials file of one profile."""
    lines = ("[default]", *(f"{option} = {value}" for option, value in options.items()))
    return Sensitive("".join(f"{line}\n" for line in lines))
