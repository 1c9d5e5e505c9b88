"""Clients of a real Keycloak that prove themselves without a secret: by a key, and by a service account's token.

The token is of a real API server. Keycloak's federated client authentication takes each assertion once unless it is
told otherwise, and it is not.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from joserfc.jwk import ECKey, RSAKey

from credrotator.core.errors import Denied
from credrotator.core.model import ClientKey, ObjectKey, OidcClient, SecretKeyRef, ServiceAccountToken
from credrotator.core.sensitive import Sensitive
from credrotator.exchange.exchanger import Exchanger, ExchangeSettings
from credrotator.exchange.issuers.allowed import AllowedIssuers
from credrotator.kube.account_tokens import ClusterAccountTokens
from credrotator.kube.client.api import KubeApi
from credrotator.kube.client.connection import find_connection
from credrotator.providers import PROVIDERS
from tests.e2e import realms
from tests.support.parts.control_plane import ISSUER as CLUSTER_ISSUER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credrotator.core.model import ClientAssertion
    from tests.support.parts.cluster import Cluster
    from tests.support.parts.keycloak import Keycloak

POLICY = ObjectKey("team-a", "bedrock")
SUBJECT = "system:serviceaccount:team-a:gateway"
KEYS: dict[str, RSAKey | ECKey] = {"rsa": RSAKey.generate_key(2048), "ec": ECKey.generate_key("P-256")}


@pytest.fixture(scope="module")
def account_tokens(kubernetes: Cluster) -> Iterator[ClusterAccountTokens]:
    """Return the API server's TokenRequest, and make the accounts."""
    metadata: dict[str, str] = {"name": POLICY.namespace}
    kubernetes.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    for name in ("gateway", "other"):
        metadata = {"namespace": POLICY.namespace, "name": name}
        kubernetes.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    with KubeApi(find_connection(str(kubernetes.admin), None)) as api:
        yield ClusterAccountTokens(api)


@pytest.fixture(scope="module")
def realm(identity: Keycloak, kubernetes: Cluster) -> str:
    """Make a realm whose clients have no secret and which trusts the cluster, and return its issuer."""
    public = (kubernetes.directory / "pki" / "service-accounts.pub").read_text()
    identity.create(realms.secretless_realm(issuer=CLUSTER_ISSUER, public_key=public, subject=SUBJECT, keys=KEYS))
    return identity.issuer(realms.SECRETLESS)


def token(
    realm: str,
    account_tokens: ClusterAccountTokens,
    client_id: str,
    assertion: ClientAssertion,
    scopes: tuple[str, ...],
) -> str:
    """Get the issuer's token for a client without a secret; return whom it is about."""

    def secrets(ref: SecretKeyRef) -> Sensitive:
        kept = KEYS[ref.secret.name]
        return Sensitive(kept.as_pem(private=True).decode() if ref.key == "private-key" else kept.thumbprint())

    settings = ExchangeSettings(AllowedIssuers((realm,)))
    exchanger = Exchanger(settings, lambda: datetime.now(UTC), PROVIDERS, {}, account_tokens=account_tokens)
    client = OidcClient(realm, client_id, None, scopes=scopes, assertion=assertion)
    found = exchanger.issuers.subject_token(exchanger.token_request(POLICY, client, secrets))
    return str(found.claims["azp"])


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_of_the_clients_own_at_keycloak(realm: str, account_tokens: ClusterAccountTokens, kind: str) -> None:
    """``private_key_jwt``, by RSA and by an elliptic curve, as often as wanted."""
    secret = ObjectKey(POLICY.namespace, kind)
    key = ClientKey(SecretKeyRef(secret, "private-key", "x"), SecretKeyRef(secret, "key-id", "x"))
    for scopes in ((), ("openid",)):
        assert token(realm, account_tokens, f"by-{kind}", key, scopes) == f"by-{kind}"
    with pytest.raises(Denied) as caught:
        token(realm, account_tokens, "by-account", key, ())
    assert caught.value.reason == "InvalidClient"


def test_a_service_account_at_keycloak(realm: str, account_tokens: ClusterAccountTokens) -> None:
    """Federated client authentication: for the realm's own address, with a new token each time."""
    account = ServiceAccountToken("gateway", realm)
    for scopes in ((), ("openid",)):
        assert token(realm, account_tokens, "by-account", account, scopes) == "by-account"
    with pytest.raises(Denied) as caught:
        token(realm, account_tokens, "by-account", ServiceAccountToken("other", realm), ())
    assert "service account team-a/other" in caught.value.hint
