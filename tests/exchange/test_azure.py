"""Entra by assertion and by secret: the requests, the AADSTS codes, and libraries that never answer by themselves."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from credrotator.core.errors import Denied, RotationError, Transient
from credrotator.exchange.http.circuit import CircuitBreakers
from credrotator.exchange.http.pauses import FAILURES_TO_OPEN
from credrotator.providers.azure.entra import Entra
from credrotator.sandbox import (
    DEFAULT_APP,
    DEFAULT_APP_SECRET,
    DEFAULT_TENANT,
    MISSING,
    Answer,
    CutShort,
    GzipBomb,
    Huge,
    Override,
    Redirect,
    ServiceError,
    garbage,
    hostile,
)
from tests.support.exchanging import ENTRA_TOKEN, SCOPE, TOKEN, Backend, refused

if TYPE_CHECKING:
    from credrotator.providers.azure.source import AzureClientSecret, AzureOidc
    from credrotator.sandbox import Fault

GARBAGE = garbage()
both = pytest.mark.parametrize("way", ["assertion", "secret"])
CALLS = {"assertion": 1, "secret": 2}


def policy(world: Backend, way: str, **app: Any) -> AzureOidc | AzureClientSecret:
    """Describe a policy that authenticates in that way."""
    return world.azure(**app) if way == "assertion" else world.azure_secret(**app)


def goes_wrong(world: Backend, fault: Fault) -> None:
    """Let Entra's token endpoint fail like this."""
    world.sandbox.entra.faults.add(fault, path=ENTRA_TOKEN)


def test_by_assertion_on_the_wire(world: Backend) -> None:
    """RFC 7523 §2.2: one POST with the issuer's token as client assertion, no secret, no discovery."""
    world.exchange_azure()
    (request,) = world.sandbox.entra.requests
    assert request.path == f"/{DEFAULT_TENANT}/oauth2/v2.0/token"
    assert request.form["grant_type"] == "client_credentials"
    assert request.form["client_id"] == DEFAULT_APP
    assert request.form["client_assertion_type"].endswith("jwt-bearer")
    assert request.form["client_assertion"].count(".") == 2
    assert "client_secret" not in request.form
    assert SCOPE in request.form["scope"].split()


@both
def test_the_request_id(world: Backend, way: str) -> None:
    """Security 9: what Entra calls the request comes along for the audit."""
    body = json.dumps({"token_type": "Bearer", "expires_in": 3599, "access_token": "opaque"})
    goes_wrong(world, Answer(body=body, headers={"x-ms-request-id": "4f1c"}))
    assert world.exchange_azure(policy(world, way)).request_id == "4f1c"


def test_by_secret_on_the_wire(world: Backend) -> None:
    """RFC 6749 §4.4: the tenant's configuration, then one POST with the secret."""
    world.exchange_azure(world.azure_secret())
    first, second = world.sandbox.entra.requests
    assert first.path == f"/{DEFAULT_TENANT}/v2.0/.well-known/openid-configuration"
    assert second.form["client_secret"] == DEFAULT_APP_SECRET
    assert "client_assertion" not in second.form
    assert SCOPE in second.form["scope"].split()
    assert world.issuer.requests.total == 0


@both
def test_the_token_is_entras(world: Backend, way: str) -> None:
    """The credential is the access token as Entra signed it, and its expiry is Entra's, by our clock."""
    world.clock.offset = timedelta(days=3)
    credential = world.exchange_azure(policy(world, way))
    life = credential.expires_at - world.clock()
    assert timedelta(minutes=59) < life <= timedelta(minutes=60)
    assert credential.token.reveal().count(".") == 2
    assert credential.token.reveal() not in repr(credential)


@both
def test_never_from_a_cache(world: Backend, way: str) -> None:
    """Each exchange asks Entra, with the requests it needs and none besides; two tokens are two."""
    exchanger = world.exchanger()
    tokens = {world.exchange_azure(policy(world, way), exchanger).token for _ in range(3)}
    assert len(tokens) == 3
    assert world.sandbox.entra.requests.total == 3 * CALLS[way]


@both
@pytest.mark.parametrize(
    "fault",
    [
        ServiceError("90033", status=503),
        ServiceError("7000215"),
        Answer(429, retry_after=1),
        Answer(500),
        Answer(503),
    ],
    ids=["90033", "7000215", "429", "500", "503"],
)
def test_no_retries_and_no_memory_of_failures(world: Backend, way: str, fault: Fault) -> None:
    """Retries live in one layer: neither library repeats a request, nor answers from a failure that it remembers."""
    goes_wrong(world, fault)
    exchanger = world.exchanger()
    for attempt in (1, 2):
        with pytest.raises(RotationError):
            world.exchange_azure(policy(world, way), exchanger)
        assert world.sandbox.entra.requests.count(ENTRA_TOKEN) == attempt
        exchanger.circuits = CircuitBreakers()  # our own memory of a throttled endpoint is another matter
    world.sandbox.entra.faults.clear()
    world.exchange_azure(policy(world, way), exchanger)


@both
def test_the_public_cloud_is_never_called(world: Backend, way: str) -> None:
    """A sovereign or private authority is not announced to the public cloud: a proxy for all sees one host only."""
    proxy = world.sandbox.add_proxy()
    environment = {"AI_GATEWAY_AZURE_PROXY_URL": proxy.url}
    world.exchange_azure(policy(world, way), world.exchanger(environment=environment))
    assert set(proxy.targets) == {f"localhost:{world.sandbox.entra.port}"}


@both
def test_g28_scope_and_authority(world: Backend, way: str) -> None:
    """G28: scope and authority are the policy's, as they are in a sovereign cloud."""
    scope = "https://cognitiveservices.azure.us/.default"
    credential = world.exchange_azure(policy(world, way, scope=scope))
    assert scope in world.sandbox.entra.requests[-1].form["scope"].split()
    claims = world.sandbox.entra._own(credential.token.reveal())
    assert claims["aud"] == scope.removesuffix("/.default")


CODES = [
    (7000215, Denied, "value (not its id)"),
    (7000222, Denied, "new client secret"),
    (700016, Denied, "clientID"),
    (90002, Denied, "tenantID"),
    (700024, Denied, "clocks"),
    (700027, Denied, "keys"),
    (70021, Denied, "credrotator check"),
    (700211, Denied, "credrotator check"),
    (7002137, Denied, "by case too"),
    (7002138, Denied, "by case too"),
    (700222, Denied, "outside Entra"),
    (7000112, Denied, "enable the application"),
    (50027, Denied, "JWTs that Entra can read"),
    (700212, Denied, "credrotator check"),
    (700213, Denied, "credrotator check"),
    (70011, Denied, "azure-scope"),
    (1002012, Denied, "azure-scope"),
    (500011, Denied, "azure-scope"),
    (7000229, Denied, "service principal"),
    (53003, Denied, "AADSTS"),
    (50001, Transient, "again"),
    (50196, Transient, "again"),
    (90006, Transient, "again"),
    (90012, Transient, "again"),
    (90024, Transient, "again"),
    (90033, Transient, "again"),
    (90055, Transient, "again"),
    (90061, Transient, "again"),
]


@both
@pytest.mark.parametrize(("code", "kind", "hint"), CODES, ids=[str(code[0]) for code in CODES])
def test_fault_22_by_code(world: Backend, way: str, code: int, kind: type[RotationError], hint: str) -> None:
    """Fault 22: each AADSTS code has its class and a hint; the code is the reason."""
    goes_wrong(world, ServiceError(str(code)))
    with refused(kind, f"AADSTS{code}") as caught:
        world.exchange_azure(policy(world, way))
    assert hint in caught.value.hint
    assert "correlation" in caught.value.message


@pytest.mark.parametrize("variable", ["MSAL_FORCE_REGION", "AZURE_REGIONAL_AUTHORITY_NAME", "REGION_NAME"])
@both
def test_no_variable_moves_one_way_and_not_the_other(
    world: Backend, way: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both libraries ask the authority that the policy or the operator names, whatever their own variables say."""
    monkeypatch.setenv(variable, "westus")
    world.exchange_azure(policy(world, way))


def test_fault_22_the_code_in_words(world: Backend) -> None:
    """Where only the description has the code, it is read there."""
    body = {"error": "invalid_client", "error_description": "AADSTS70021: No matching federated identity record found"}
    goes_wrong(world, Answer(401, json.dumps(body | {"error_codes": []})))
    with refused(Denied, "AADSTS70021") as caught:
        world.exchange_azure()
    assert caught.value.settling is not None


@pytest.mark.parametrize("code", [70021, 700211, 700212, 700213, 7002137, 7002138])
def test_fault_22_federated_credentials_settle(world: Backend, code: int) -> None:
    """A credential that was just made, or mended, is not known everywhere for some minutes, by whatever code."""
    goes_wrong(world, ServiceError(str(code)))
    with refused(Denied, f"AADSTS{code}") as caught:
        world.exchange_azure()
    assert caught.value.settling is not None
    assert caught.value.settling.span == timedelta(minutes=10)


def test_fault_22_a_wrong_secret(world: Backend) -> None:
    """Fault 22: a secret that is none of the application's is denied, and not shown."""
    world.values["entra"] = "canary-of-entra"
    with refused(Denied, "AADSTS7000215") as caught:
        world.exchange_azure(world.azure_secret())
    assert "canary" not in f"{caught.value!r} {caught.value}"


@pytest.mark.parametrize(
    ("way", "changes", "reason"),
    [
        ("assertion", {"client_id": "00000000-0000-0000-0000-000000000000"}, "AADSTS700016"),
        ("secret", {"client_id": "00000000-0000-0000-0000-000000000000"}, "AADSTS700016"),
        ("assertion", {"tenant_id": "99999999-0000-0000-0000-000000000000"}, "AADSTS90002"),
        ("secret", {"tenant_id": "99999999-0000-0000-0000-000000000000"}, "AADSTS90002"),
        ("assertion", {"scope": "https://cognitiveservices.azure.com/x"}, "AADSTS1002012"),
        ("secret", {"scope": "https://cognitiveservices.azure.com/x"}, "AADSTS1002012"),
    ],
)
def test_what_entra_itself_finds_wrong(world: Backend, way: str, changes: dict[str, Any], reason: str) -> None:
    """A wrong client, tenant (found in discovery already, by secret) or scope is denied by Entra's own code."""
    with refused(Denied, reason):
        world.exchange_azure(policy(world, way, **changes))


def test_fault_10_patience_under_an_aadsts_code(world: Backend) -> None:
    """Retry-After is the endpoint's, whatever code stands in the body: nobody else asks before it is over."""
    exchanger = world.exchanger()
    goes_wrong(world, Answer(429, json.dumps({"error_codes": [90055], "error": "x"}), retry_after=60))
    for source, reason in ((world.azure(), "AADSTS90055"), (world.azure_secret(), "EntraThrottled")):
        with refused(Transient, reason) as caught:
            world.exchange_azure(source, exchanger)
        assert caught.value.retry_after is not None
        assert timedelta(seconds=50) < caught.value.retry_after <= timedelta(seconds=60)
    assert world.sandbox.entra.requests.count(ENTRA_TOKEN) == 1


@pytest.mark.parametrize(
    ("fault", "closes"),
    [
        (ServiceError("90033"), True),
        (ServiceError("90033", status=503), True),
        (Answer(500, json.dumps({"error_codes": [1], "error": "server_error"})), True),
        # One issuer that Entra cannot reach, and one application that asks in a loop, are no fault of Entra's.
        (ServiceError("90061", status=503), False),
        (ServiceError("50196"), False),
    ],
    ids=["90033", "90033-503", "500", "90061", "50196"],
)
def test_fault_22_an_outage_closes_the_gate(world: Backend, fault: Fault, closes: bool) -> None:  # noqa: FBT001
    """Codes by which Entra speaks of itself count as its failures, without Retry-After as well: it is left alone."""
    exchanger = world.exchanger()
    goes_wrong(world, fault)
    for _ in range(FAILURES_TO_OPEN + 2):
        with pytest.raises(Transient):
            world.exchange_azure(exchanger=exchanger)
    assert world.sandbox.entra.requests.count(ENTRA_TOKEN) == (FAILURES_TO_OPEN if closes else FAILURES_TO_OPEN + 2)


def test_fault_22_a_fresh_assertion_once(world: Backend) -> None:
    """Fault 22: 700024 drops the cached assertion and gets a fresh one, once, in the same attempt."""
    exchanger = world.exchanger()
    world.sandbox.entra.faults.add(ServiceError("700024"), times=1)
    world.exchange_azure(exchanger=exchanger)
    shown = [request.form["client_assertion"] for request in world.sandbox.entra.requests]
    assert len(set(shown)) == 2
    assert world.issuer.requests.count(TOKEN) == 2
    goes_wrong(world, ServiceError("700024"))
    with refused(Denied, "AADSTS700024"):
        world.exchange_azure(exchanger=exchanger)
    assert len(world.sandbox.entra.requests) == 4


@pytest.mark.parametrize("code", ["700211", "700213", "7000215", "90061"])
def test_no_fresh_assertion_for_other_refusals(world: Backend, code: str) -> None:
    """Fault 22: what a fresh assertion would not change is not tried again."""
    goes_wrong(world, ServiceError(code))
    with pytest.raises(RotationError):
        world.exchange_azure()
    assert world.sandbox.entra.requests.total == 1


@pytest.mark.parametrize(
    ("status", "body", "kind", "reason"),
    [
        (429, {"error_codes": [7000215], "error": "x", "error_description": "busy"}, Transient, "AADSTS7000215"),
        (503, {"error_codes": [1]}, Transient, "AADSTS1"),
        (429, {"error": "x"}, Transient, "EntraThrottled"),
        (400, {"error_codes": [], "error": "x", "error_description": ""}, Denied, "EntraRefused"),
        (400, {"error_codes": None}, Denied, "EntraRefused"),
        (400, {"error_codes": 5, "error": None, "error_description": None}, Denied, "EntraRefused"),
        (400, {"error_codes": ["7000215"]}, Denied, "EntraRefused"),
        (400, {"error_codes": [-7]}, Denied, "EntraRefused"),
        (400, {"error_codes": [10**30]}, Denied, "EntraRefused"),
        (400, {"error": "invalid_client"}, Denied, "EntraRefused"),
    ],
)
def test_odd_refusals(
    world: Backend, status: int, body: dict[str, Any], kind: type[RotationError], reason: str
) -> None:
    """Faults 10 and 22: the status wins where it asks for patience; odd codes are a refusal, never a crash."""
    goes_wrong(world, Answer(status, json.dumps(body), retry_after=7))
    for source in (world.azure(), world.azure_secret()):
        with refused(kind, reason) as caught:
            world.exchange_azure(source)
        if kind is Transient:
            assert caught.value.retry_after == timedelta(seconds=7)


@both
@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"access_token": ""}, "InvalidResponse"),
        ({"access_token": MISSING}, "InvalidResponse"),
        ({"access_token": 7}, "InvalidResponse"),
        ({"access_token": "tök"}, "InvalidResponse"),
        ({"access_token": "e30.e30.\nevil: 1"}, "InvalidResponse"),
        ({"access_token": "e30.e30.\r\nSet-Cookie: x"}, "InvalidResponse"),
        ({"access_token": "e30\x1b[31m.e30."}, "InvalidResponse"),
        ({"access_token": "e30.e30.\x00"}, "InvalidResponse"),
        ({"access_token": "e30 e30"}, "InvalidResponse"),
        ({"access_token": "e30\te30"}, "InvalidResponse"),
        ({"access_token": "e30\u2028e30"}, "InvalidResponse"),
        ({"access_token": "e30\x85e30"}, "InvalidResponse"),
        ({"expires_in": float("inf")}, "InvalidResponse"),
        ({"expires_in": "Infinity"}, "InvalidResponse"),
        ({"token_type": "pop"}, "InvalidResponse"),
        ({"token_type": MISSING}, "InvalidResponse"),
        ({"expires_in": 0}, "InvalidResponse"),
        ({"expires_in": -1}, "InvalidResponse"),
        ({"expires_in": "soon"}, "InvalidResponse"),
        ({"expires_in": float("nan")}, "InvalidResponse"),
        ({"access_token": "e30.e30." + "\n"}, None),
        ({"expires_in": "3599"}, None),
        ({"expires_in": "3599.5"}, None),
        ({"expires_in": MISSING}, None),
        ({"expires_in": None}, None),
        ({"expires_in": 1e12}, None),
    ],
)
def test_faults_13_14_the_token_response(world: Backend, way: str, members: dict[str, Any], reason: str | None) -> None:
    """Faults 13 and 14: no token, another type, a life that is none: refused; odd forms that can be read: read."""
    goes_wrong(world, Override(members))
    if reason is None:
        credential = world.exchange_azure(policy(world, way))
        assert timedelta(0) < credential.expires_at - world.clock() <= timedelta(hours=24)
        assert credential.token.reveal() == credential.token.reveal().strip()
    else:
        with refused(Transient, reason):
            world.exchange_azure(policy(world, way))


@both
@pytest.mark.parametrize("name", GARBAGE)
def test_fault_11_garbage(world: Backend, way: str, name: str) -> None:
    """Fault 11: a 200 that is no answer of Entra, in its discovery or its token response, is InvalidResponse."""
    world.sandbox.entra.faults.add(GARBAGE[name])
    with refused(Transient, "InvalidResponse"):
        world.exchange_azure(policy(world, way))


@both
@pytest.mark.parametrize("fault", [Huge(1 << 40), GzipBomb(1 << 33), CutShort()], ids=["huge", "bomb", "cut"])
def test_fault_12_too_much(world: Backend, way: str, fault: Fault) -> None:
    """Fault 12: no more than 1 MiB is read from Entra either; what is cut cannot be read."""
    goes_wrong(world, fault)
    with refused(Transient, "InvalidResponse"):
        world.exchange_azure(policy(world, way))


@both
@pytest.mark.parametrize("to", ["same-origin", "other-origin", "http"])
def test_fault_07_never_led_on(world: Backend, way: str, to: str) -> None:
    """Fault 7: a redirected request is not sent again, or the secret would go along."""
    goes_wrong(world, Redirect(to, 307))
    with refused(Denied, "RedirectRefused"):
        world.exchange_azure(policy(world, way))
    assert world.sandbox.entra.requests.count(ENTRA_TOKEN) == 1


@both
def test_fault_46_hostile_text(world: Backend, way: str) -> None:
    """Fault 46: what Entra says in words is escaped and cut, and only its first line is shown."""
    goes_wrong(world, hostile("7000215", 500_000))
    with refused(Denied, "AADSTS7000215"):
        world.exchange_azure(policy(world, way))


def test_no_token_of_before(world: Backend) -> None:
    """What one exchange received is never the result of another, whatever a library answers without asking."""
    exchanger = world.exchanger()
    world.exchange_azure(exchanger=exchanger)
    entra = exchanger.vendor(world.azure())
    assert isinstance(entra, Entra)
    with refused(Transient, "InvalidResponse"):
        entra._receive(lambda: None)


def test_a_secret_that_looks_like_something_else(world: Backend) -> None:
    """A secret is sent as it is, whatever msal could take it for."""
    for secret in ("{}", "a b&c=d%", "-----BEGIN CERTIFICATE-----", "ü漢"):
        world.values["entra"] = secret
        world.sandbox.entra.tenants[DEFAULT_TENANT][DEFAULT_APP].secrets[secret] = None
        world.exchange_azure(world.azure_secret())
        assert world.sandbox.entra.requests[-1].form["client_secret"] == secret
