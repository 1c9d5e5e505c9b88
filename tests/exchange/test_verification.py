"""New credentials before they are published: each provider's own way to see that one is good, and what that tells."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from credrotator.core.errors import Denied, NoConnection, NotAsked, Rejected, RotationError, Transient
from credrotator.core.sensitive import Sensitive
from credrotator.exchange.grants import AccessToken
from credrotator.providers.anthropic.source import AnthropicFederation
from credrotator.providers.aws.source import AwsCredential, ChainedRole
from credrotator.providers.azure.source import AzureToken
from credrotator.providers.bedrock.source import BedrockApiKey
from credrotator.providers.client_credentials.source import ClientCredentials
from credrotator.providers.gcp.source import GcpToken
from credrotator.providers.openai.source import OpenAiWorkloadIdentity
from credrotator.providers.token_exchange.source import TokenExchange
from credrotator.sandbox import (
    DEFAULT_ACCOUNT,
    DEFAULT_ACCOUNT_ID,
    DEFAULT_APP,
    DEFAULT_IDENTITY_PROVIDER,
    DEFAULT_ORGANIZATION,
    DEFAULT_ROLE,
    DEFAULT_RULE,
    DEFAULT_SERVICE_ACCOUNT,
    DEFAULT_TENANT,
    Answer,
    Hang,
    Redirect,
    Refuse,
    Role,
    ServiceError,
)
from tests.support.exchanging import POLICY, Backend, check_showable
from tests.support.waiting import LIMIT_S

if TYPE_CHECKING:
    from credrotator.core.model import Credential, Rotatable
    from credrotator.exchange.exchanger import Exchanger
    from credrotator.sandbox.service import Service

SCOPE = "https://cognitiveservices.azure.com"
CALLS = {
    "aws": ("sts", "/"),
    "bedrock": ("sts", "/"),
    "gcp": ("google", "/tokeninfo"),
    "gcp-key": ("google", "/tokeninfo"),
    "anthropic": ("anthropic", "/v1/models"),
    "openai": ("openai", "/v1/models"),
}
"""Whose call proves a credential, and where."""
LOCAL = ("azure", "azure-secret", "token-exchange", "client-credentials", "gcp-pool")
"""Whose credentials are looked at without a call, or not at all."""


def source_of(world: Backend, name: str) -> Rotatable:
    """Describe a policy that the sandbox serves."""
    exchange = world.sandbox.exchange.url + "/token"
    audience = {"anthropic": "https://api.anthropic.com", "openai": "https://api.openai.com/v1"}.get(name)
    anthropic = DEFAULT_RULE, DEFAULT_ORGANIZATION, DEFAULT_SERVICE_ACCOUNT
    made: dict[str, Rotatable] = {
        "aws": world.aws(),
        "bedrock": BedrockApiKey(world.oidc(), DEFAULT_ROLE, "eu-central-1"),
        "gcp": world.gcp(),
        "gcp-pool": world.gcp(service_account=None),
        "gcp-key": world.gcp_key(),
        "azure": world.azure(),
        "azure-secret": world.azure_secret(),
        "anthropic": AnthropicFederation(world.oidc(audience=audience), *anthropic),
        "openai": OpenAiWorkloadIdentity(world.oidc(audience=audience), DEFAULT_IDENTITY_PROVIDER, DEFAULT_ACCOUNT_ID),
        "token-exchange": TokenExchange(
            world.oidc(audience="https://exchange.example"), exchange, "token-exchange", "form"
        ),
        "client-credentials": ClientCredentials(world.oidc(audience="https://mcp.example")),
    }
    return made[name]


@pytest.fixture
def through(world: Backend) -> Exchanger:
    """An exchanger that finds all of the sandbox's vendors."""
    return exchanger(world)


def exchanger(world: Backend, timeout_s: float = LIMIT_S) -> Exchanger:
    """Make one, with this limit for an exchange."""
    allowed = world.issuer.url, f"{world.sandbox.exchange.url}/*"
    return world.exchanger(*allowed, environment=world.sandbox.environment(), timeout_s=timeout_s)


def get(world: Backend, through: Exchanger, name: str) -> tuple[Rotatable, Credential]:
    """Get a credential; what was asked for it is forgotten."""
    source = source_of(world, name)
    credential = through(POLICY, source, world.secrets)
    for server in (world.issuer, *world.sandbox.vendors):
        server.requests.clear()
    return source, credential


def revoke(world: Backend) -> None:
    """Let the vendor know nothing of what it gave."""
    sandbox = world.sandbox
    for known in (sandbox.sts.sessions, sandbox.google.grants, sandbox.anthropic.grants, sandbox.openai.grants):
        known.clear()


def secrets_of(credential: Credential) -> list[str]:
    """List what no message may repeat."""
    if isinstance(credential, AwsCredential):
        return [credential.secret_access_key.reveal(), credential.session_token.reveal()]
    assert isinstance(credential, AccessToken | GcpToken | AzureToken)
    return [credential.token.reveal()]


@pytest.mark.parametrize("name", CALLS)
def test_a_good_one(world: Backend, through: Exchanger, name: str) -> None:
    """One call to the vendor, and nobody else is asked."""
    source, credential = get(world, through, name)
    through.verify(POLICY, source, credential)
    server, path = CALLS[name]
    asked = {each.name: len(each.requests) for each in (world.issuer, *world.sandbox.vendors) if len(each.requests)}
    assert asked == {server: 1}
    (request,) = _server(world, server).requests.matching(path)
    assert all(secret not in str(request.query) for secret in secrets_of(credential))


@pytest.mark.parametrize("name", LOCAL)
def test_a_good_one_that_needs_no_call(world: Backend, through: Exchanger, name: str) -> None:
    """What a token says of itself is enough, or all that there is."""
    source, credential = get(world, through, name)
    through.verify(POLICY, source, credential)
    assert not any(len(server.requests) for server in (world.issuer, *world.sandbox.vendors))


@pytest.mark.parametrize("name", CALLS)
def test_fault_74_one_that_the_vendor_does_not_take(world: Backend, through: Exchanger, name: str) -> None:
    """It is rejected, by a reason of its own, and no message repeats it."""
    source, credential = get(world, through, name)
    revoke(world)
    with pytest.raises(Rejected) as caught:
        through.verify(POLICY, source, credential)
    assert (caught.value.reason, caught.value.kind) == ("CredentialRejected", "denied")
    check_showable(caught.value)
    assert not [secret for secret in secrets_of(credential) if secret in caught.value.message + caught.value.hint]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    "fault", [Answer(status=503), Answer(status=429), Refuse(), Answer(body="<html>"), Redirect("https://elsewhere")]
)
def test_fault_74_answers_that_say_nothing_of_it(world: Backend, through: Exchanger, name: str, fault: Answer) -> None:
    """An outage, a rate limit, garbage or a redirect is no rejection."""
    source, credential = get(world, through, name)
    server, _ = CALLS[name]
    with _server(world, server).faults.add(fault), pytest.raises(RotationError) as caught:
        through.verify(POLICY, source, credential)
    assert not isinstance(caught.value, Rejected)


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_fault_74_a_vendor_that_times_out(world: Backend, through: Exchanger, name: str) -> None:
    """It is given up after the limit, as an outage, which says nothing of the credential."""
    source, credential = get(world, through, name)
    impatient = exchanger(world, timeout_s=1)
    with _server(world, CALLS[name][0]).faults.add(Hang()), pytest.raises(Transient) as caught:
        impatient.verify(POLICY, source, credential)
    assert not isinstance(caught.value, Rejected)


def test_circuits_hold(world: Backend, through: Exchanger) -> None:
    """Row 4: a vendor that is away is not asked in vain by verifications either."""
    source, credential = get(world, through, "openai")
    with world.sandbox.openai.faults.add(Refuse()):
        seen: list[RotationError] = []
        for _ in range(30):
            try:
                through.verify(POLICY, source, credential)
            except RotationError as error:
                seen.append(error)
    assert isinstance(seen[0], NoConnection)
    assert isinstance(seen[-1], NotAsked)


class TestAws:
    """GetCallerIdentity."""

    def test_of_a_chain_the_last(self, world: Backend, through: Exchanger) -> None:
        """The session has to be of the role that is published."""
        other = "arn:aws:iam::210987654321:role/path/app"
        world.sandbox.sts.roles[other] = Role(world.issuer.url, callers={DEFAULT_ROLE: ""})
        source = world.aws(chain=(ChainedRole(other),))
        through.verify(POLICY, source, through(POLICY, source, world.secrets))

    @pytest.mark.parametrize("arn", ["arn:aws:iam::123456789012:role/other", "arn:aws:iam::210987654321:role/bedrock"])
    def test_of_another_role_or_account(self, world: Backend, through: Exchanger, arn: str) -> None:
        """The answer names both."""
        _, credential = get(world, through, "aws")
        with pytest.raises(Rejected, match=f"assumed-role/bedrock/.* not of role {arn}"):
            through.verify(POLICY, replace(world.aws(), role_arn=arn), credential)

    def test_a_session_that_is_not_known_yet(self, world: Backend, through: Exchanger) -> None:
        """IAM is eventually consistent: the first three times count as passing."""
        source, credential = get(world, through, "aws")
        revoke(world)
        with pytest.raises(Rejected) as caught:
            through.verify(POLICY, source, credential)
        assert caught.value.settling is not None
        assert caught.value.settling.tries == 3

    @pytest.mark.parametrize("code", ["SignatureDoesNotMatch", "RegionDisabledException", "ValidationError"])
    def test_refusals_of_the_request(self, world: Backend, through: Exchanger, code: str) -> None:
        """What STS says of a clock, a region or a form is not said of the credential."""
        source, credential = get(world, through, "aws")
        with world.sandbox.sts.faults.add(ServiceError(code)), pytest.raises(Denied) as caught:
            through.verify(POLICY, source, credential)
        assert not isinstance(caught.value, Rejected)
        assert caught.value.reason == code


class TestEntra:
    """What a token says of itself."""

    def token(self, world: Backend, **claims: object) -> AzureToken:
        """Make a token of the sandbox's tenant, with some claims changed."""
        now = world.clock()
        whole = {
            "aud": SCOPE,
            "iss": f"https://sts.windows.net/{DEFAULT_TENANT}/",
            "tid": DEFAULT_TENANT,
            "appid": DEFAULT_APP,
            "exp": int((now + timedelta(hours=1)).timestamp()),
            **claims,
        }
        signed = world.sandbox.entra.keys.sign({name: value for name, value in whole.items() if value is not None})
        return AzureToken(Sensitive(signed), now, now + timedelta(hours=1))

    @pytest.mark.parametrize(
        "claims",
        [
            {},
            {"aud": f"{SCOPE}/"},
            {"aud": "7d312290-28c8-473c-a0ed-8e53749b6d6d"},
            {"aud": None, "tid": None, "appid": None},
            {"appid": DEFAULT_APP.upper()},
        ],
    )
    def test_good(self, world: Backend, through: Exchanger, claims: dict[str, object]) -> None:
        """Version 1 names the resource by its URL, version 2 by an id that the scope does not tell."""
        through.verify(POLICY, world.azure(scope=f"{SCOPE}/.default"), self.token(world, **claims))

    @pytest.mark.parametrize(
        ("claims", "said"),
        [
            ({"aud": "https://graph.microsoft.com"}, "aud"),
            ({"tid": "00000000-0000-0000-0000-00000000dead"}, "tid"),
            ({"iss": "https://sts.windows.net/00000000-0000-0000-0000-00000000dead/"}, "tid"),
            ({"appid": "00000000-0000-0000-0000-00000000dead"}, "appid"),
            ({"exp": 1}, "exp"),
        ],
    )
    def test_of_others(self, world: Backend, through: Exchanger, claims: dict[str, object], said: str) -> None:
        """A token for another audience, of another tenant or application, or of the past is rejected."""
        source = world.azure(scope=f"{SCOPE}/.default", tenant_id=DEFAULT_TENANT)
        with pytest.raises(Rejected, match=rf"\({said}\)"):
            through.verify(POLICY, source, self.token(world, **claims))

    def test_unreadable(self, world: Backend, through: Exchanger) -> None:
        """A token that is encrypted for its audience is left to that."""
        found = replace(self.token(world), token=Sensitive("opaque"))
        through.verify(POLICY, world.azure(scope=f"{SCOPE}/.default"), found)


@pytest.mark.parametrize("name", ["token-exchange", "client-credentials"])
def test_a_jwt_for_somebody_else(world: Backend, through: Exchanger, name: str) -> None:
    """What a policy asks for by audience, a token that is a JWT has to be for."""
    wanted = "https://tools.example"
    source = source_of(world, name)
    if isinstance(source, TokenExchange):
        source = replace(source, audience=wanted)
    else:
        source = ClientCredentials(world.oidc(audience=wanted))
    now = world.clock()
    end = now + timedelta(hours=1)
    for audience in (wanted, "https://mcp.example"):
        signed = world.issuer.keys.sign({"aud": [audience], "exp": int(end.timestamp())})
        credential = AccessToken(Sensitive(signed), now, end)
        if audience == wanted:
            through.verify(POLICY, source, credential)
        else:
            with pytest.raises(Rejected, match=r"mcp.example \(aud\), not for https://tools.example"):
                through.verify(POLICY, source, credential)


def test_a_google_token_for_less(world: Backend, through: Exchanger) -> None:
    """A token that does not open Google Cloud's APIs is rejected."""
    source, credential = get(world, through, "gcp")
    assert isinstance(credential, GcpToken)
    grants = world.sandbox.google.grants
    known = grants[credential.token.reveal()]
    grants[credential.token.reveal()] = replace(known, scopes=frozenset({"openid"}))
    with pytest.raises(Rejected, match="is for openid"):
        through.verify(POLICY, source, credential)
    world.sandbox.google.accounts[DEFAULT_ACCOUNT].disabled = True
    with pytest.raises(Rejected, match="invalid_token"):
        through.verify(POLICY, source, credential)


def _server(world: Backend, name: str) -> Service:
    server: Service = getattr(world.sandbox, name)
    return server
