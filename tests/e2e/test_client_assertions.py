"""Clients of a real Keycloak that prove themselves without a secret: by a key, and by a service account's token.

Keycloak's federated client authentication takes each assertion once unless it is told otherwise, and it is not.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from credrotator.core.claims import read_claims
from credrotator.core.errors import Denied
from credrotator.core.model import ClientKey, ObjectKey, OidcClient, SecretKeyRef, ServiceAccountToken, SubjectToken
from credrotator.core.sensitive import Sensitive
from credrotator.exchange.exchanger import Exchanger, ExchangeSettings
from credrotator.exchange.issuers.allowed import AllowedIssuers
from credrotator.providers import PROVIDERS
from tests.e2e import realms

if TYPE_CHECKING:
    from credrotator.core.model import ClientAssertion
    from tests.support.parts.keycloak import Keycloak

CLUSTER = "https://oidc.example.com/id/1"
POLICY = ObjectKey("team-a", "bedrock")
SUBJECT = "system:serviceaccount:team-a:gateway"
KEYS: dict[str, RSAKey | ECKey] = {"rsa": RSAKey.generate_key(2048), "ec": ECKey.generate_key("P-256")}


@dataclass
class ApiServer:
    """Stands for the cluster that signs for service accounts."""

    key: RSAKey
    given: int = 0

    def __call__(self, account: ObjectKey, audience: str) -> SubjectToken:
        """See ``ports.AccountTokens``."""
        self.given += 1
        now = datetime.now(UTC)
        claims = {
            "iss": CLUSTER,
            "sub": f"system:serviceaccount:{account.namespace}:{account.name}",
            "aud": [audience],
            "jti": str(uuid.uuid4()),
            "iat": int(now.timestamp()),
            "exp": int((now + timedelta(minutes=5)).timestamp()),
        }
        token = Sensitive(jwt.encode({"alg": "RS256", "kid": self.key.thumbprint()}, claims, self.key))
        return SubjectToken(token, now + timedelta(minutes=5), read_claims(token) or {})


@pytest.fixture(scope="module")
def cluster() -> ApiServer:
    """Return a cluster with a key of its own."""
    return ApiServer(RSAKey.generate_key(2048))


@pytest.fixture(scope="module")
def realm(identity: Keycloak, cluster: ApiServer) -> str:
    """Make a realm whose clients have no secret, and return its issuer."""
    public = cluster.key.as_pem(private=False).decode()
    identity.create(realms.secretless_realm(issuer=CLUSTER, public_key=public, subject=SUBJECT, keys=KEYS))
    return identity.issuer(realms.SECRETLESS)


def token(realm: str, cluster: ApiServer, client_id: str, assertion: ClientAssertion, scopes: tuple[str, ...]) -> str:
    """Get the issuer's token for a client without a secret; return whom it is about."""

    def secrets(ref: SecretKeyRef) -> Sensitive:
        kept = KEYS[ref.secret.name]
        return Sensitive(kept.as_pem(private=True).decode() if ref.key == "private-key" else kept.thumbprint())

    settings = ExchangeSettings(AllowedIssuers((realm,)))
    exchanger = Exchanger(settings, lambda: datetime.now(UTC), PROVIDERS, {}, account_tokens=cluster)
    client = OidcClient(realm, client_id, None, scopes=scopes, assertion=assertion)
    found = exchanger.issuers.subject_token(exchanger.token_request(POLICY, client, secrets))
    return str(found.claims["azp"])


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_of_the_clients_own_at_keycloak(realm: str, cluster: ApiServer, kind: str) -> None:
    """``private_key_jwt``, by RSA and by an elliptic curve, as often as wanted."""
    secret = ObjectKey(POLICY.namespace, kind)
    key = ClientKey(SecretKeyRef(secret, "private-key", "x"), SecretKeyRef(secret, "key-id", "x"))
    for scopes in ((), ("openid",)):
        assert token(realm, cluster, f"by-{kind}", key, scopes) == f"by-{kind}"
    with pytest.raises(Denied) as caught:
        token(realm, cluster, "by-account", key, ())
    assert caught.value.reason == "InvalidClient"


def test_a_service_account_at_keycloak(realm: str, cluster: ApiServer) -> None:
    """Federated client authentication: for the realm's own address, with a new token each time."""
    account = ServiceAccountToken("gateway", realm)
    for scopes in ((), ("openid",)):
        assert token(realm, cluster, "by-account", account, scopes) == "by-account"
    assert cluster.given == 2
    with pytest.raises(Denied) as caught:
        token(realm, cluster, "by-account", ServiceAccountToken("other", realm), ())
    assert "service account team-a/other" in caught.value.hint
