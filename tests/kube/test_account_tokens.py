"""Tokens of service accounts from the API server: what is asked for, what is refused, and what comes of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from credrotator.core.errors import Denied, Outage, PolicyError, StoreAway, Transient
from credrotator.core.model import ObjectKey
from credrotator.kube.account_tokens import LIFE, ClusterAccountTokens
from credrotator.sandbox.keys import SigningKeys
from tests.support.exchanging import refused
from tests.support.kube.accounts import API_AUDIENCE
from tests.support.kube.simulator import ApiServer

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCOUNT = ObjectKey("team-a", "bedrock")
STS = "sts.amazonaws.com"


@pytest.fixture
def server() -> Iterator[ApiServer]:
    """Run an API server with one service account, whose issuer is public."""
    with ApiServer() as running:
        running.account_tokens.issuer = "https://oidc.example.com/id/1"
        running.account_tokens.sign = SigningKeys("ES256").sign
        running.create("serviceaccounts", {"metadata": {"name": ACCOUNT.name, "namespace": ACCOUNT.namespace}})
        yield running


def tokens(server: ApiServer, user: str = "tester") -> ClusterAccountTokens:
    """Return what gets tokens, as a user."""
    return ClusterAccountTokens(server.api(user))


def test_what_is_asked_for(server: ApiServer) -> None:
    """One audience, an hour, the account that is named; the token comes back with its claims and its end."""
    token = tokens(server)(ACCOUNT, STS)
    (request,) = server.seen("create", "serviceaccounts/token")
    assert request.path == "/api/v1/namespaces/team-a/serviceaccounts/bedrock/token"
    assert request.body["spec"] == {"audiences": [STS], "expirationSeconds": 3600}
    assert (token.claims["sub"], token.claims["aud"]) == ("system:serviceaccount:team-a:bedrock", [STS])
    assert token.token.reveal() not in repr(token)
    assert timedelta(0) < token.expires_at - datetime.now(UTC) <= LIFE


def test_a_server_that_gives_less(server: ApiServer) -> None:
    """An API server may cap the life; the token's own end counts."""
    server.account_tokens.longest = timedelta(minutes=10)
    assert tokens(server)(ACCOUNT, STS).expires_at - datetime.now(UTC) <= timedelta(minutes=10)


def test_without_the_right(server: ApiServer) -> None:
    """The hint is the rule that is missing, with namespace and name."""
    server.forbid("create", "serviceaccounts/token")
    with refused(Denied, "ServiceAccountForbidden") as caught:
        tokens(server)(ACCOUNT, STS)
    assert "resourceNames [bedrock], in namespace team-a" in caught.value.hint


def test_an_account_that_is_not_there(server: ApiServer) -> None:
    """It is named, and waited for: a chart may make it a moment later."""
    with refused(Denied, "ServiceAccountMissing") as caught:
        tokens(server)(ObjectKey("team-a", "typo"), STS)
    assert "team-a/typo" in caught.value.message
    assert caught.value.settling


@pytest.mark.parametrize("status", [400, 403, 422])
def test_an_admission_policy(server: ApiServer, status: int) -> None:
    """A cluster may allow some audiences only; its words are shown, and the audience is what is to be changed."""
    server.fail(status, resource="serviceaccounts/token", reason="Invalid", message="admission webhook x denied it")
    with refused(Denied, "ServiceAccountAudience") as caught:
        tokens(server)(ACCOUNT, "who-knows")
    assert "who-knows" in caught.value.message


@pytest.mark.parametrize(
    "audience", ["https://kubernetes.default.svc", "kubernetes", "https://kubernetes.default.svc.cluster.local"]
)
def test_security_12_a_token_for_the_api_server(server: ApiServer, audience: str) -> None:
    """Security 12: a policy's author chooses the audience, and must not get hold of what opens the API server."""
    with refused(PolicyError, "ServiceAccountForApiServer"):
        tokens(server)(ACCOUNT, audience)
    assert not server.seen("create", "serviceaccounts/token")


def test_security_12_by_the_audience_of_the_own_token(server: ApiServer) -> None:
    """Security 12: whatever name the API server goes by, credrotator's own token has it."""
    own = SigningKeys("ES256").sign({"aud": [API_AUDIENCE], "iss": "x"})
    with refused(PolicyError, "ServiceAccountForApiServer"):
        tokens(server, own)(ACCOUNT, API_AUDIENCE)
    assert not server.seen("create", "serviceaccounts/token")


def test_security_12_by_the_issuer(server: ApiServer) -> None:
    """Security 12: an API server without further names takes tokens that are for its issuer."""
    with refused(PolicyError, "ServiceAccountForApiServer"):
        tokens(server)(ACCOUNT, server.account_tokens.issuer)


def test_what_is_no_token(server: ApiServer) -> None:
    """Whatever else answers there gives nothing that is sent on."""
    server.account_tokens.sign = lambda _: "opaque"
    with refused(Outage, "InvalidResponse"):
        tokens(server)(ACCOUNT, STS)


def test_a_token_for_somebody_else(server: ApiServer) -> None:
    """A token without the audience that was asked for is shown to nobody."""
    keys = SigningKeys("ES256")
    server.account_tokens.sign = lambda claims: keys.sign({**claims, "aud": ["x"]})
    with refused(Denied, "ServiceAccountAudience"):
        tokens(server)(ACCOUNT, STS)


@pytest.mark.parametrize(("status", "kind"), [(409, Transient), (429, Transient), (500, StoreAway)])
def test_what_passes(server: ApiServer, status: int, kind: type[Transient]) -> None:
    """Nothing is wrong with the policy then."""
    server.fail(status, resource="serviceaccounts/token")
    with pytest.raises(kind):
        tokens(server)(ACCOUNT, STS)
