"""Where a policy's subject token comes from: ``oidcExchangeToken``, or what an annotation puts in its place. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from credrotator.core.errors import printable
from credrotator.core.model import (
    ClientAssertion,
    ClientKey,
    OidcClient,
    SecretKeyRef,
    ServiceAccountToken,
    TokenFile,
    TokenSource,
)
from credrotator.policies import schema
from credrotator.policies.annotations import (
    CLIENT_ASSERTION,
    SERVICE_ACCOUNT,
    SUBJECT_TOKEN,
    TOKEN_SOURCE,
    annotation_path,
)
from credrotator.policies.messages import missing

if TYPE_CHECKING:
    from collections.abc import Mapping

ROUTED = "routes through Envoy, which credrotator does not use; remove it, and set tokenEndpoint if the issuer needs it"
ASSERTIONS = ("service-account", "token-file", "secret")
"""What can stand before the slash of a client assertion."""
IN_PLACE = (TOKEN_SOURCE, SERVICE_ACCOUNT)
"""Annotations that name another place for the subject token than an issuer."""


class PolicyReading(Protocol):
    """The reading of one policy, as far as its token source needs it; see ``reader.Reading``."""

    @property
    def managed(self) -> bool:
        """Tell whether the gateway does not see the policy like this."""

    @property
    def annotations(self) -> Mapping[str, str]:
        """All of the policy's annotations."""

    def wrong(self, path: str, message: str) -> None:
        """Take note of something that is wrong with a field."""

    def secret_key(self, ref: schema.SecretRef, key: str, path: str) -> SecretKeyRef:
        """Make a reference to a key of a Secret, by default of the policy's namespace."""


def read_token_source(
    reading: PolicyReading, exchange: schema.OidcExchange, path: str, default_audience: str
) -> TokenSource:
    """Read where the subject token comes from.

    Args:
        reading: Is told what is wrong.
        exchange: The policy's ``oidcExchangeToken``.
        path: Where that stands.
        default_audience: Whom the vendor wants the token for, where the policy does not say.
    """
    if exchange.grant_type not in {None, "", "client_credentials"}:
        shown = printable(exchange.grant_type, 80)
        reading.wrong(f"{path}.grantType", f"only client_credentials is supported, got {shown}; remove the field")
    named = [name for name in IN_PLACE if name in reading.annotations]
    if named:
        _check_alone(reading, named, exchange, path)
    if TOKEN_SOURCE in named:
        return _token_file(reading, exchange)
    if SERVICE_ACCOUNT in named:
        return _service_account(reading, exchange, path, default_audience)
    if exchange.oidc is None:
        reading.wrong(f"{path}.oidc", missing("oidc", exchange.model_extra))
        # Never read: the reading has a problem by now, but a provider's reader goes on to find further ones.
        return TokenFile("")
    return _oidc_client(reading, exchange, exchange.oidc, path)


def _check_alone(reading: PolicyReading, named: list[str], exchange: schema.OidcExchange, path: str) -> None:
    """Of all that could give the token, one may be named."""
    name = named[0]
    if not reading.managed:
        reading.wrong(
            annotation_path(name),
            "applies to the managed form only: the gateway's rotator needs a client secret; remove it",
        )
    if len(named) > 1:
        reading.wrong(annotation_path(named[1]), f"must not be set beside {name}: remove one of them")
    if SUBJECT_TOKEN in reading.annotations:
        what = "a file" if name == TOKEN_SOURCE else "a service account"
        message = f"is about an issuer's response, {name} about {what}; remove one"
        reading.wrong(annotation_path(SUBJECT_TOKEN), message)
    if exchange.oidc is not None:
        reading.wrong(f"{path}.oidc", f"must not be set beside {name}: remove one of them")


def _token_file(reading: PolicyReading, exchange: schema.OidcExchange) -> TokenFile:
    name = reading.annotations[TOKEN_SOURCE]
    # As ``--token-file`` names them: a label, so that NAMESPACE/NAME has one slash.
    if not schema.NAMESPACE.fullmatch(name):
        message = f"expected the name of a token file that the operator allows, got {printable(name, 80)}"
        reading.wrong(annotation_path(TOKEN_SOURCE), message)
    return TokenFile(name, exchange.aud or None)


def _service_account(
    reading: PolicyReading, exchange: schema.OidcExchange, path: str, default_audience: str
) -> ServiceAccountToken:
    name, audience = reading.annotations[SERVICE_ACCOUNT], exchange.aud or default_audience
    if not schema.NAME.fullmatch(name):
        message = f"expected the name of a service account in the policy's namespace, got {printable(name, 80)}"
        reading.wrong(annotation_path(SERVICE_ACCOUNT), message)
    if not audience:
        reading.wrong(f"{path}.aud", f"required beside {SERVICE_ACCOUNT}: the audience that the vendor wants")
    return ServiceAccountToken(name, audience)


def _oidc_client(reading: PolicyReading, exchange: schema.OidcExchange, oidc: schema.Oidc, path: str) -> OidcClient:
    provider = oidc.provider
    for name in ("backend_ref", "backend_refs", "backend_settings"):
        if getattr(provider, name):
            alias = schema.OidcProvider.model_fields[name].alias
            reading.wrong(f"{path}.oidc.provider.{alias}", ROUTED)
    assertion = _client_assertion(reading, provider, f"{path}.oidc.provider")
    return OidcClient(
        issuer=provider.issuer,
        client_id=_client_id(reading, oidc, f"{path}.oidc"),
        client_secret=_client_secret(reading, oidc, f"{path}.oidc.clientSecret", asserts=assertion is not None),
        token_endpoint=provider.token_endpoint,
        scopes=tuple(oidc.scopes),
        resources=tuple(oidc.resources),
        audience=exchange.aud or None,
        subject_token="id_token" if _asks_for_id_token(reading) else "access_token",
        assertion=assertion,
    )


def _client_secret(reading: PolicyReading, oidc: schema.Oidc, path: str, *, asserts: bool) -> SecretKeyRef | None:
    """Only the managed form can do without: the gateway's own definition of a policy requires the field."""
    if ref := oidc.client_secret:
        return None if asserts else reading.secret_key(ref, "client-secret", path)
    if not (asserts and reading.managed):
        reading.wrong(path, missing("clientSecret", oidc.model_extra))
    return None


def _client_assertion(reading: PolicyReading, provider: schema.OidcProvider, path: str) -> ClientAssertion | None:
    """Read by what the client proves who it is; tokens for that are for the issuer, as OpenID Connect names it."""
    text = reading.annotations.get(CLIENT_ASSERTION)
    if text is None:
        return None
    where = annotation_path(CLIENT_ASSERTION)
    kind, _, name = text.partition("/")
    if kind not in ASSERTIONS or not schema.NAME.fullmatch(name):
        expected = " or ".join(f"{each}/NAME" for each in ASSERTIONS)
        reading.wrong(where, f"expected {expected}, got {printable(text, 80)}")
        return None
    if kind == "service-account":
        # OpenID Connect Core §9: the audience of a client assertion is the authorization server.
        return ServiceAccountToken(name, provider.issuer)
    if kind == "token-file":
        if provider.token_endpoint and _origin(provider.token_endpoint) != _origin(provider.issuer):
            # Or whoever writes a policy could have the operator's token sent to a server of his own.
            message = f"must be of the issuer's own host beside {CLIENT_ASSERTION}: {kind}/{name}; remove it"
            reading.wrong(f"{path}.tokenEndpoint", message)
        return TokenFile(name, provider.issuer)
    ref = schema.SecretRef(name=name)
    return ClientKey(reading.secret_key(ref, "private-key", where), reading.secret_key(ref, "key-id", where))


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme.lower(), parts.netloc.lower()


def _client_id(reading: PolicyReading, oidc: schema.Oidc, path: str) -> str | SecretKeyRef:
    if ref := oidc.client_id_ref:
        return reading.secret_key(ref, "client-id", f"{path}.clientIDRef")
    return oidc.client_id or ""


def _asks_for_id_token(reading: PolicyReading) -> bool:
    value = reading.annotations.get(SUBJECT_TOKEN, "access_token")
    if value not in {"access_token", "id_token"}:
        reading.wrong(annotation_path(SUBJECT_TOKEN), f"expected access_token or id_token, got {printable(value, 80)}")
    return value == "id_token"
