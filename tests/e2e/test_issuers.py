"""One table of expectations for the issuers that people run: what is published, and what a refusal says.

All policies of an issuer are rotated by one command, so that a client that is refused costs no other a credential.
"""

import json
import string
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import issuers, minio, policies, realms
from tests.e2e.command import Credrotator, Outcome
from tests.e2e.issuers import PUBLISHED, SCOPE, UNHELD_SCOPE, Expected, RealIssuer
from tests.support.parts import envoy, hydra, keycloak, oidc_provider, zitadel_oidc
from tests.support.parts.cache import Cache
from tests.support.parts.oidc_clients import Client
from tests.support.waiting import eventually

# RFC 6749 appendix A: %x20-7E. A blank at either end is lost by people before any program sees it.
SECRET = "a " + "".join(sorted(string.digits + string.ascii_letters + string.punctuation))
AUDIENCE = realms.AWS_AUDIENCE
OTHER_AUDIENCE = "other.example.com"
RETRY_AFTER_S = 77


def _client(name: str, **settings: Any) -> Client:
    return Client(name, **{"secret": SECRET, "audiences": (AUDIENCE,), "scopes": (SCOPE,), **settings})


@dataclass(frozen=True)
class Case:
    """A client as the issuer registers it, what a policy asks for as that client, and how that ends."""

    client: Client
    expected: Expected = PUBLISHED
    audience: str = AUDIENCE
    scopes: tuple[str, ...] = (SCOPE,)
    secret: str = SECRET
    registered: bool = True
    name: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.client.id)

    def __str__(self) -> str:
        return self.name


_COMPARE = Expected("InvalidClient", "compare client id and")
# A place for clients that prove themselves by an assertion of their own: those are told from `other-method`, whose
# policy has a secret all the same.
CASES = (
    Case(_client("basic", method="client_secret_basic")),
    Case(_client("post", method="client_secret_post")),
    Case(_client("several-audiences", audiences=(AUDIENCE, "api.example.com"))),
    Case(_client("wrong-secret-basic"), _COMPARE, secret="not-" + SECRET),
    Case(_client("wrong-secret-post", method="client_secret_post"), _COMPARE, secret="not-" + SECRET),
    Case(_client("unknown"), _COMPARE, registered=False),
    Case(
        _client("other-method", method="private_key_jwt"),
        Expected("ClientAuthUnsupported", "set this client to authenticate by a client secret"),
    ),
    Case(_client("no-grant", grant=False), Expected("GrantNotAllowed", "allow the client-credentials grant")),
    Case(
        _client("audience-refused"),
        Expected("AudienceRefused", "allow this audience for the client at the issuer"),
        audience=OTHER_AUDIENCE,
    ),
    Case(_client("scope-refused"), Expected("InvalidScope", "remove the scope"), scopes=(SCOPE, UNHELD_SCOPE)),
    Case(_client("scope-missing"), Expected("InvalidParameterValue", ""), scopes=()),
    Case(_client("opaque", jwt=False), Expected("OpaqueToken", "have the issuer give JWT access tokens")),
)
REGISTERED = [case.client for case in CASES if case.registered]

_Start = Callable[[], AbstractContextManager[RealIssuer]]


@pytest.fixture(scope="module")
def starts(parts: Cache, request: pytest.FixtureRequest, run_directory: Path) -> dict[str, _Start]:
    """How each issuer is started; its part is built when it is asked for."""

    def on_keycloak() -> AbstractContextManager[RealIssuer]:
        server: keycloak.Keycloak = request.getfixturevalue("identity")
        return issuers.OnKeycloak.serving(server, REGISTERED)

    return {
        "keycloak": on_keycloak,
        "hydra": lambda: issuers.OnHydra.serving(hydra.executable(parts), REGISTERED, run_directory),
        "oidc-provider": lambda: issuers.OnOidcProvider.serving(
            oidc_provider.package(parts), REGISTERED, run_directory
        ),
        "zitadel-oidc": lambda: issuers.OnZitadelOidc.serving(
            zitadel_oidc.executable(parts), REGISTERED, run_directory
        ),
    }


@pytest.fixture(scope="module", params=["keycloak", "hydra", "oidc-provider", "zitadel-oidc"])
def real_issuer(request: pytest.FixtureRequest, starts: dict[str, _Start]) -> Iterator[RealIssuer]:
    """An issuer with the clients of the table."""
    with starts[request.param]() as issuer:
        yield issuer


@pytest.fixture(scope="module")
def verifying(parts: Cache, real_issuer: RealIssuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[minio.MinIO]:
    """An STS that trusts the issuer, and lets a session do what the token's claim says."""
    discovery = f"{real_issuer.issuer.rstrip('/')}/.well-known/openid-configuration"
    trust = minio.Trust(discovery, AUDIENCE, claim=real_issuer.claim)
    with minio.serving(minio.executable(parts), trust, directory=tmp_path_factory.mktemp("sts")) as server:
        yield server


@pytest.fixture(scope="module")
def credrotator(verifying: minio.MinIO, tmp_path_factory: pytest.TempPathFactory) -> Credrotator:
    """A credrotator with nothing published yet."""
    return Credrotator(tmp_path_factory.mktemp("credrotator"), {"AWS_ENDPOINT_URL_STS": verifying.url})


@pytest.fixture(scope="module")
def rotated(credrotator: Credrotator, real_issuer: RealIssuer) -> Outcome:
    """One pass over a policy for each case."""
    policies.write(credrotator.manifests, *(_manifests(case, real_issuer) for case in CASES))
    return credrotator.rotate()


@pytest.fixture(scope="module")
def checked(rotated: Outcome, credrotator: Credrotator) -> dict[str, Any]:
    """What `check` says of each policy."""
    return {policy["policy"]: policy for policy in credrotator.check().document["policies"]}


def _manifests(case: Case, issuer: RealIssuer, **provider: str) -> list[dict[str, Any]]:
    oidc = {"scopes": list(case.scopes), "provider": {"issuer": issuer.issuer, **provider}}
    asked = {**oidc, **issuer.asking_for(case.audience)}
    return policies.aws_with(case.name, asked, client=case.client.id, secret=case.secret, audience=case.audience)


def _expected(case: Case, issuer: RealIssuer) -> Expected:
    difference = issuer.differs.get(case.name)
    return difference.expected if difference else case.expected


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_rotation(
    case: Case, rotated: Outcome, credrotator: Credrotator, real_issuer: RealIssuer, verifying: minio.MinIO
) -> None:
    """What is published is accepted; what is refused has its own reason and advice, and publishes nothing."""
    expected = _expected(case, real_issuer)
    if not expected.reason:
        assert rotated.result(case.name)["action"] == "rotated", rotated.result(case.name)
        verifying.list_buckets(credrotator.published.aws(case.name))
        return
    error = rotated.error(case.name)
    assert (error["reason"], error["kind"]) == (expected.reason, expected.kind), error
    assert expected.hint in error["hint"], error
    assert not credrotator.published.file(case.name, "credentials").exists()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_check(case: Case, rotated: Outcome, checked: dict[str, Any], real_issuer: RealIssuer) -> None:
    """`check` says of each policy what its rotation does: the same reason and the same advice."""
    verdict = checked[f"default/{case.name}"]
    expected = _expected(case, real_issuer)
    assert verdict["result"] == ("failed" if expected.reason else "ok"), verdict
    if expected.reason:
        (step,) = [step for step in verdict["steps"] if step["result"] == "failed"]
        assert step["error"]["hint"] == rotated.error(case.name)["hint"]


def test_no_output_has_a_secret(rotated: Outcome, checked: dict[str, Any]) -> None:
    """However an issuer words its refusal: not the secret, as it is, or as JSON or a form writes it."""
    told = rotated.stderr + json.dumps(rotated.document) + json.dumps(checked)
    assert SECRET not in told
    assert json.dumps(SECRET)[1:-1] not in told


def test_new_keys(rotated: Outcome, credrotator: Credrotator, real_issuer: RealIssuer, verifying: minio.MinIO) -> None:
    """After the issuer has changed its key the next rotation is like any other."""
    before = credrotator.published.aws("basic")
    known = set(issuers.published_keys(real_issuer))
    real_issuer.rotate_keys()
    eventually(lambda: set(issuers.published_keys(real_issuer)) > known)

    assert credrotator.rotate("default/basic", "--force").result("basic")["action"] == "rotated"
    after = credrotator.published.aws("basic")
    assert after != before
    verifying.list_buckets(after)


def test_a_rate_limit_in_front(parts: Cache, credrotator: Credrotator, real_issuer: RealIssuer, tmp_path: Path) -> None:
    """429 with Retry-After is no refusal: the credential stays, and there is nothing to be mended."""
    front = {"issuer_port": real_issuer.port, "retry_after_s": RETRY_AFTER_S}
    limited = Credrotator(tmp_path, credrotator.environment)
    program = envoy.executable(parts)
    with envoy.serving(program, "rate_limit.yaml.j2", directory=tmp_path / "front", **front) as port:
        endpoint = f"http://127.0.0.1:{port}{real_issuer.token_path}"
        policies.write(limited.manifests, _manifests(CASES[0], real_issuer, tokenEndpoint=endpoint))
        assert limited.rotate().result("basic")["action"] == "rotated"
        before = limited.published.aws("basic")
        error = limited.rotate("--force").error("basic")

    assert (error["reason"], error["kind"]) == ("IssuerThrottled", "transient"), error
    assert "rate limit" in error["hint"]
    assert limited.published.aws("basic") == before
