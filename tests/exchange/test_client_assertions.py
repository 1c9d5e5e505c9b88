"""Clients without a secret: what is sent in its place, that each assertion serves once, and which keys will not do."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

from credrotator.core.claims import read_claims
from credrotator.core.errors import Denied, PolicyError, StoreAway
from credrotator.core.model import ClientKey, ObjectKey, ServiceAccountToken, SubjectToken, TokenFile
from credrotator.core.sensitive import Sensitive
from credrotator.exchange.exchanger import Exchanger, ExchangeSettings
from credrotator.exchange.issuers.allowed import AllowedIssuers
from credrotator.providers import PROVIDERS
from credrotator.sandbox import DEFAULT_CLIENT, DEFAULT_CLIENT_SECRET, Echo, TrustedAssertions
from credrotator.sandbox.keys import SigningKeys
from tests.support.exchanging import POLICY, TOKEN, Backend, key_ref, refused

if TYPE_CHECKING:
    from pathlib import Path

    from credrotator.core.model import ClientAssertion

KEYS: dict[str, RSAKey | ECKey | OKPKey] = {
    "RS256": RSAKey.generate_key(2048),
    "ES256": ECKey.generate_key("P-256"),
    "ES384": ECKey.generate_key("P-384"),
    "Ed25519": OKPKey.generate_key("Ed25519"),
}
CLIENT_KEY = ClientKey(key_ref("key", "private-key"), key_ref("id", "key-id"))
CLUSTER = "https://oidc.example.com/id/1"


class Client:
    """A client of the sandbox's issuer that is registered with a public key, or with another party's subject."""

    def __init__(self, world: Backend) -> None:
        self.world = world
        self.cluster = SigningKeys("ES256")
        self.given: list[tuple[ObjectKey, str]] = []
        world.values["id"] = "key-1"

    def register(self, key: RSAKey | ECKey | OKPKey) -> None:
        """Have the issuer know a public key, and the policy's Secret the private one."""
        self.world.values["key"] = key.as_pem(private=True).decode()
        public = type(key).import_key({**key.as_dict(private=False), "kid": "key-1"})
        self.trusted = TrustedAssertions(lambda: KeySet([public]))

    @property
    def trusted(self) -> TrustedAssertions | None:
        """What the issuer takes from the client."""
        return self.world.issuer.clients[DEFAULT_CLIENT].assertions

    @trusted.setter
    def trusted(self, trusted: TrustedAssertions) -> None:
        self.world.issuer.clients[DEFAULT_CLIENT].assertions = trusted

    def federate(self, subject: str) -> None:
        """Have the issuer take another party's tokens about a subject."""
        self.trusted = TrustedAssertions(self.cluster.public, CLUSTER, subject)

    def signed(self, audience: str, subject: str = "system:serviceaccount:team-a:gateway") -> str:
        """Return a token of the other party."""
        now = self.world.clock()
        times = {"iat": int(now.timestamp()), "exp": int((now + timedelta(hours=1)).timestamp())}
        claims = {"iss": CLUSTER, "sub": subject, "aud": [audience], "jti": str(len(self.given)), **times}
        return self.cluster.sign(claims)

    def __call__(self, account: ObjectKey, audience: str) -> SubjectToken:
        """See ``ports.AccountTokens``."""
        self.given.append((account, audience))
        token = Sensitive(self.signed(audience, f"system:serviceaccount:{account.namespace}:{account.name}"))
        return SubjectToken(token, self.world.clock() + timedelta(hours=1), read_claims(token) or {})

    def exchanger(self, path: Path | None = None) -> Exchanger:
        """Return an exchanger whose API server is this."""
        files = {ObjectKey("", "pod"): path} if path else {}
        allowed = AllowedIssuers((self.world.issuer.url,))
        settings = ExchangeSettings(allowed, str(self.world.sandbox.ca_file), token_files=files)
        environment = self.world.exchanger()._environment
        return Exchanger(settings, self.world.clock, PROVIDERS, environment, account_tokens=self)

    def exchange(
        self, assertion: ClientAssertion = CLIENT_KEY, exchanger: Exchanger | None = None, **changes: Any
    ) -> object:
        """Get a credential by a client that has no secret."""
        client = replace(self.world.oidc(**changes), client_secret=None, assertion=assertion)
        return self.world.exchange(self.world.aws(oidc=client), exchanger or self.exchanger())

    def sent(self) -> list[dict[str, str]]:
        """Return the forms of all token requests."""
        return [request.form.to_dict() for request in self.world.issuer.requests if request.path == TOKEN]


@pytest.fixture
def client(world: Backend) -> Client:
    """Return a client that is registered for nothing yet."""
    return Client(world)


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_key_of_the_clients_own(world: Backend, client: Client, algorithm: str) -> None:
    """RFC 7523 §3: signed by the algorithm that fits the key, for the token endpoint, for one minute."""
    client.register(KEYS[algorithm])
    client.exchange()
    (form,) = client.sent()
    assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    assert "client_secret" not in form
    assert all("Authorization" not in request.headers for request in world.issuer.requests)
    assertion = form["client_assertion"]
    header, claims = jws.extract_compact(assertion.encode()).headers(), read_claims(Sensitive(assertion)) or {}
    assert (header["alg"], header["kid"]) == (algorithm, "key-1")
    assert claims["iss"] == claims["sub"] == DEFAULT_CLIENT == form["client_id"]
    assert claims["aud"] == world.issuer.url + TOKEN
    assert claims["exp"] - claims["iat"] == 60


def test_an_issuer_that_wants_its_name(world: Backend, client: Client) -> None:
    """By FAPI 2.0 the audience is the issuer; what it takes is found out once, and comes first from then on."""
    client.register(KEYS["ES256"])
    world.issuer.assertions.audiences = [""]
    exchanger = client.exchanger()
    client.exchange(exchanger=exchanger)
    client.exchange(exchanger=exchanger, scopes=("gateway",))
    audiences = [(read_claims(Sensitive(form["client_assertion"])) or {})["aud"] for form in client.sent()]
    assert audiences == [world.issuer.url + TOKEN, world.issuer.url, world.issuer.url]


def test_an_issuer_that_takes_pss_only(world: Backend, client: Client) -> None:
    """Of those that fit the key, the algorithm is one that discovery lists."""
    client.register(KEYS["RS256"])
    world.issuer.assertions.algorithms = ["PS256", "ES256"]
    client.exchange()
    (form,) = client.sent()
    assert jws.extract_compact(form["client_assertion"].encode()).headers()["alg"] == "PS256"
    client.register(KEYS["ES384"])
    with refused(PolicyError, "ClientKeyInvalid") as caught:
        client.exchange()
    assert "the issuer takes PS256, ES256" in caught.value.message


def test_a_replaced_key_is_used_at_once(client: Client) -> None:
    """The next token request is signed with what the Secret holds by then; no token of the old key's answers for it."""
    exchanger = client.exchanger()
    for algorithm in ("ES256", "RS256"):
        client.register(KEYS[algorithm])
        client.exchange(exchanger=exchanger)
    assert len(client.sent()) == 2


def test_a_service_account(world: Backend, client: Client) -> None:
    """The account is of the policy's namespace, the token for the issuer; each token request has a new one (jti)."""
    client.federate("system:serviceaccount:team-a:gateway")
    exchanger = client.exchanger()
    for scope in ("gateway", "bedrock"):
        client.exchange(ServiceAccountToken("gateway", world.issuer.url), exchanger, scopes=(scope,))
    assert client.given == [(ObjectKey(POLICY.namespace, "gateway"), world.issuer.url)] * 2
    assert len({form["client_assertion"] for form in client.sent()}) == 2


def test_a_token_file(world: Backend, client: Client, tmp_path: Path) -> None:
    """For the issuer and for nobody else: a policy's author chooses where it is sent."""
    client.federate("system:serviceaccount:team-a:gateway")
    path = tmp_path / "token"
    path.write_text(client.signed(world.issuer.url))
    client.exchange(TokenFile("pod", world.issuer.url), client.exchanger(path))
    path.write_text(client.signed("sts.amazonaws.com"))
    with refused(Denied, "TokenFileAudience"):
        client.exchange(TokenFile("pod", world.issuer.url), client.exchanger(path))
    assert len(client.sent()) == 1


def test_what_the_issuer_has_to_know(world: Backend, client: Client) -> None:
    """A refusal says whose token it was, and not that a secret is wrong."""
    client.federate("system:serviceaccount:other:gateway")
    with refused(Denied, "InvalidClient") as caught:
        client.exchange(ServiceAccountToken("gateway", world.issuer.url))
    assert "service account team-a/gateway" in caught.value.hint
    client.register(KEYS["ES256"])
    client.register(ECKey.generate_key("P-256"))
    world.values["key"] = KEYS["ES256"].as_pem(private=True).decode()
    with refused(Denied, "InvalidClient") as caught:
        client.exchange()
    assert "register the public key of team-a/key" in caught.value.hint


def test_an_api_server_that_is_away_is_not_the_issuers_fault(world: Backend, client: Client) -> None:
    """I5: no assertion, no request; the issuer's circuit breaker knows nothing of it."""

    def away(account: ObjectKey, audience: str) -> SubjectToken:
        raise StoreAway("ApiServerUnreachable", "x", hint="x")

    settings = ExchangeSettings(AllowedIssuers((world.issuer.url,)), str(world.sandbox.ca_file))
    environment = world.exchanger()._environment
    exchanger = Exchanger(settings, world.clock, PROVIDERS, environment, account_tokens=away)
    for _ in range(20):
        world.clock.offset += timedelta(minutes=1)
        with refused(StoreAway, "ApiServerUnreachable"):
            client.exchange(ServiceAccountToken("gateway", world.issuer.url), exchanger)
    assert not client.sent()


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("", "no PEM"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "no private key"),
        ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----", "encrypted"),
        ("-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----", "cannot|can be read"),
        (ECKey.generate_key("secp256k1").as_pem(private=True).decode(), "curve secp256k1"),
        (OKPKey.generate_key("X25519").as_pem(private=True).decode(), "X25519"),
        ("-----BEGIN PRIVATE KEY-----" + "x" * 9000, "more than 8192 characters"),
    ],
)
def test_a_key_that_will_not_do(world: Backend, client: Client, key: str, what: str) -> None:
    """What is wrong is said with field, Secret and key, and nothing of the key; nothing is sent."""
    client.register(KEYS["ES256"])
    world.values["key"] = key
    with refused(PolicyError, "ClientKeyInvalid") as caught:
        client.exchange()
    assert any(each in caught.value.message for each in what.split("|"))
    assert "private-key of Secret team-a/key" in caught.value.message
    assert "canary" not in caught.value.message
    assert not client.sent()


def test_i9_no_key_and_no_assertion_in_a_failure(world: Backend, client: Client) -> None:
    """I9: an issuer that repeats the request gets neither into a message."""
    client.register(KEYS["ES256"])
    world.issuer.faults.add(Echo(), path=TOKEN)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever the class
        client.exchange()
    (form, *_) = client.sent()
    assert form["client_assertion"] not in str(caught.value)
    request = client.exchanger().token_request(
        POLICY, replace(world.oidc(), client_secret=None, assertion=CLIENT_KEY), world.secrets
    )
    assert "PRIVATE KEY" not in f"{request!r} {request.key!r}"


def test_a_secret_in_place_of_an_assertion(world: Backend, client: Client) -> None:
    """A client that is registered for assertions is not let in by its old secret, as with real issuers."""
    client.register(KEYS["ES256"])
    world.values["oidc"] = DEFAULT_CLIENT_SECRET
    with refused(Denied, "InvalidClient"):
        world.exchange_aws()


def test_used_twice(world: Backend, client: Client) -> None:
    """The sandbox's issuer takes each assertion once, so that a test would see one that is sent again."""
    client.register(KEYS["ES256"])
    client.exchange()
    (form,) = client.sent()
    judge, trusted = world.issuer.assertions, client.trusted
    assert trusted
    request: Any = type("Request", (), {"form": form})()
    with pytest.raises(Exception, match="used before"):
        judge.judge(request, DEFAULT_CLIENT, trusted)
    assert json.dumps(form)
