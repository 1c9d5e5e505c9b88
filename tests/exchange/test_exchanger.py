"""The port as a whole: one deadline, vendors on demand, nothing secret in any failure (reliability.md 2, I5, I9)."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from credrotator.core.errors import RotationError, Transient
from credrotator.sandbox import Answer, Drip, Hang, Latency, Override, Refuse, ServiceError
from tests.exchange.every_endpoint import ASKS, everywhere
from tests.support.exchanging import DISCOVERY, ENTRA_TOKEN, POLICY, TOKEN, Backend, check_showable, refused
from tests.support.waiting import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from credrotator.core.model import Rotatable
    from credrotator.exchange.exchanger import Exchanger
    from credrotator.sandbox import Fault

DEADLINE_S = 1.0
SLACK_S = 10.0
"""Far less than the read timeout, which is what would end them without a deadline."""
# Made anew for each test: a Hang that was lifted once hangs no more.
SLOW: dict[str, Callable[[], Fault]] = {
    "head by bytes": lambda: Drip(0.05, body=False),
    "body by bytes": lambda: Drip(0.05, head=False),
    "silence": Hang,
    "silence in the body": lambda: Hang(after_bytes=5),
}


@everywhere
@pytest.mark.parametrize("kind", SLOW)
def test_fault_02_one_total_deadline(world: Backend, name: str, kind: str) -> None:
    """Fault 2: a drip restarts no clock; the exchange ends with its deadline, and the connection is not used again."""
    _, ask = ASKS["Sts" if name == "Issuer" else name]
    exchanger = world.exchanger(timeout_s=DEADLINE_S)
    service = ASKS[name][0](world)
    warm(world, exchanger)
    rule = service.faults.add(SLOW[kind]())
    began = time.monotonic()
    with refused(Transient, f"{name}Timeout"):
        ask(world, exchanger)
    assert time.monotonic() - began < DEADLINE_S + SLACK_S
    assert service.requests.wait_for(lambda log: log.in_flight == 0), "the connection was kept"
    rule.remove()


def test_fault_02_in_the_clear(world: Backend) -> None:
    """Fault 2: a drip ends with the deadline on a connection without TLS too."""
    clear = world.sandbox.add_issuer(scheme="http")
    exchanger = world.exchanger(clear.url, timeout_s=DEADLINE_S)
    warm(world, exchanger)
    clear.faults.add(Drip(0.05))
    began = time.monotonic()
    with refused(Transient, "IssuerTimeout") as caught:
        world.exchange_aws(exchanger, oidc=world.oidc(issuer=clear.url))
    assert time.monotonic() - began < DEADLINE_S + SLACK_S
    assert caught.value.hangs


def warm(world: Backend, exchanger: Exchanger) -> None:
    """Import the vendors, and make the SDK's client, before the clock starts."""
    for source in (world.aws(), world.azure(), world.gcp()):
        exchanger.endpoint(source)


def test_fault_02_token_and_exchange_share_the_deadline(world: Backend) -> None:
    """Fault 2: each request within its own read timeout, all of them together beyond the deadline: ended."""
    exchanger = world.exchanger(timeout_s=DEADLINE_S)
    warm(world, exchanger)
    for service in (world.issuer, world.sandbox.sts):
        service.faults.add(Latency(0.6 * DEADLINE_S))
    began = time.monotonic()
    with pytest.raises(Transient) as caught:
        world.exchange_aws(exchanger)
    assert caught.value.reason.endswith("Timeout")
    assert time.monotonic() - began < DEADLINE_S + SLACK_S


@everywhere
def test_fault_02_behind_a_silent_proxy(world: Backend, name: str) -> None:
    """Fault 2: a proxy that says nothing is under the deadline too."""
    _, ask = ASKS["Sts" if name == "Issuer" else name]
    with world.sandbox.sts.faults.add(Hang()):
        # Not a proxy, but something that takes the connection and stays silent.
        silent = f"http://localhost:{world.sandbox.sts.port}"
        exchanger = world.exchanger(timeout_s=DEADLINE_S, environment={"HTTPS_PROXY": silent})
        warm(world, exchanger)
        began = time.monotonic()
        with pytest.raises(Transient) as caught:
            ask(world, exchanger)
    check_showable(caught.value)
    assert time.monotonic() - began < DEADLINE_S + SLACK_S


def test_i5_a_hanging_issuer_delays_nobody_else(world: Backend) -> None:
    """I5: while every policy of one issuer hangs, those of another are served, and so are those without an issuer."""
    other = world.sandbox.add_issuer()
    exchanger = world.exchanger(timeout_s=3 * LIMIT_S)
    rule = world.issuer.faults.add(Hang())
    with ThreadPoolExecutor(8) as pool:
        stuck = [pool.submit(world.token, exchanger) for _ in range(4)]
        assert world.issuer.requests.wait_for(lambda log: log.in_flight == 1)
        assert pool.submit(world.token, exchanger, issuer=other.url).result(LIMIT_S).claims["iss"] == other.url
        pool.submit(world.exchange_azure, world.azure_secret(), exchanger).result(LIMIT_S)
        assert not any(each.done() for each in stuck)
        rule.remove()
        assert len({each.result(LIMIT_S).token for each in stuck}) == 1


def test_a_worn_out_connection_is_replaced(world: Backend) -> None:
    """A kept connection that the server has closed meanwhile is no failure."""
    exchanger = world.exchanger()
    world.exchange_aws(exchanger)
    for service in (world.issuer, world.sandbox.sts):
        service.drop_connections()
        assert service.requests.wait_for(lambda log: log.in_flight == 0)
    world.values["oidc"] = world.issuer.clients["credrotator"].secret = "another"
    world.exchange_aws(exchanger)


def test_connections_are_kept(world: Backend) -> None:
    """A connection serves many exchanges: TLS handshakes are what a token request costs most."""
    exchanger = world.exchanger()
    for _ in range(3):
        world.exchange_aws(exchanger)
    pools = exchanger.endpoint(world.aws()).transport.adapter.poolmanager.pools
    (key,) = pools.keys()
    assert pools[key].num_connections == 1
    assert pools[key].num_requests == 3


def test_threads_at_once(world: Backend) -> None:
    """The exchanger is safe to share: sixteen threads, three providers, a credential for each, one token per client."""
    world.issuer.faults.add(Latency(0.05), path=TOKEN)
    exchanger = world.exchanger(timeout_s=20)
    sources: list[Rotatable] = [world.aws(), world.azure(), world.azure_secret()]
    start = threading.Barrier(16)

    def one(number: int) -> object:
        start.wait(LIMIT_S)
        return world.exchange(sources[number % 3], exchanger)

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(one, range(16)))
    assert len({repr(getattr(each, "access_key_id", None)) for each in found}) == 7
    assert world.issuer.requests.count(TOKEN) == 2
    assert world.issuer.requests.count(DISCOVERY) == 1
    assert world.sandbox.sts.requests.total == 6
    assert world.sandbox.entra.requests.count(ENTRA_TOKEN) == 10


SCRIPT = """
import sys
from datetime import UTC, datetime
from credrotator.exchange.exchanger import Exchanger, ExchangeSettings
from credrotator.exchange.issuers.allowed import AllowedIssuers
from credrotator.core.model import *
from credrotator.providers import PROVIDERS
from credrotator.providers.aws.source import AwsOidc
from credrotator.providers.azure.source import AzureClientSecret, EntraApp
def found():
    return {name for name in ("boto3", "botocore", "msal", "azure.identity", "google.auth") if name in sys.modules}
issuer, entra, ca_file, kind = sys.argv[1:]
ref = SecretKeyRef(ObjectKey("a", "b"), "client-secret", "x")
oidc = OidcClient(issuer, "credrotator", ref)
app = EntraApp("11111111-2222-3333-4444-555555555555", "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", entra,
               "https://cognitiveservices.azure.com/.default")
source = {"aws": AwsOidc(oidc, "arn:aws:iam::123456789012:role/bedrock", "eu-central-1"),
          "azure": AzureClientSecret(app, ref)}[kind]
secret = {"aws": "sandbox-client-secret", "azure": "sandbox-entra-secret"}[kind]
exchanger = Exchanger(ExchangeSettings(AllowedIssuers((issuer,)), ca_file), lambda: datetime.now(UTC), PROVIDERS, {})
assert not found(), found()
exchanger(ObjectKey("a", "b"), source, lambda ref: Sensitive(secret))
print(*sorted(found()))
"""


@pytest.mark.parametrize(("kind", "wanted"), [("aws", "botocore"), ("azure", "azure.identity msal")])
def test_vendors_are_imported_on_demand(world: Backend, kind: str, wanted: str) -> None:
    """An SDK costs 0.1..0.2 s and tens of MiB: what no policy needs is not imported, nor boto3 for unsigned calls."""
    arguments = [world.issuer.url, world.sandbox.entra.url, str(world.sandbox.ca_file), kind]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == wanted


FAILURES: list[tuple[str, Fault]] = [
    ("issuer", ServiceError("invalid_client")),
    ("issuer", Answer(500)),
    ("issuer", Override({"access_token": "opaque-canary"})),
    ("issuer", Refuse()),
    ("google", ServiceError("invalid_grant")),
    ("google", ServiceError("PERMISSION_DENIED")),
    ("google", Answer(503)),
    ("google", Override({"access_token": "canary with space"})),
    ("google", Override({"expireTime": "canary"})),
    ("sts", ServiceError("AccessDenied")),
    ("sts", ServiceError("Throttling")),
    ("sts", Answer(body="<html>")),
    ("sts", Override({"SessionToken": "canary with space"})),
    ("entra", ServiceError("7000215")),
    ("entra", Answer(429)),
    ("entra", Override({"expires_in": "soon"})),
    ("entra", Answer(body="[]")),
]


@pytest.mark.parametrize(("server", "fault"), FAILURES, ids=lambda value: getattr(value, "kind", value))
def test_i9_no_secret_in_any_failure(
    world: Backend, server: str, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    """I9: neither an error's text, its traceback, nor a log line at INFO shows a secret or a token."""
    caplog.set_level(logging.INFO)
    sandbox = world.sandbox
    service = {"issuer": world.issuer, "sts": sandbox.sts, "entra": sandbox.entra, "google": sandbox.google}[server]
    exchanger = world.exchanger()
    failures = 0
    path = {"issuer": TOKEN, "entra": ENTRA_TOKEN}.get(server)
    with service.faults.add(fault, path=path):
        for source in (world.aws(), world.azure(), world.azure_secret(), world.gcp(), world.gcp_key()):
            try:
                world.exchange(source, exchanger)
            except RotationError as error:
                failures += 1
                check_showable(error, "canary")
    assert failures
    written = io.StringIO(caplog.text).read()
    assert "eyJ" not in written
    assert "sandbox-client-secret" not in written
    assert "sandbox-entra-secret" not in written


def test_a_secret_is_read_anew_for_each_exchange(world: Backend) -> None:
    """Fault 42: the reader is asked at each exchange, within its deadline; a new value is used at once."""
    exchanger = world.exchanger()
    for secret in ("first", "second"):
        world.values["entra"] = secret
        world.sandbox.entra.tenants = {
            tenant: {name: type(app)({secret: None}) for name, app in apps.items()}
            for tenant, apps in world.sandbox.entra.tenants.items()
        }
        exchanger(POLICY, world.azure_secret(), world.secrets)
