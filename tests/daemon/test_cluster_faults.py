"""``credrotator run`` as a process, while the API server, an issuer, a vendor or another replica does its worst."""

from __future__ import annotations

import base64
import html
import json
import math
import signal
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote_plus, unquote

import pytest

from credrotator.sandbox import Answer, Echo, Hang, Override, ServiceError, SkewedDate
from tests.support.cluster import CLIENT, OTHER_ROLE, SECRET, Cluster, patch_role
from tests.support.manifests import POLICIES, aws, oidc, secret, values
from tests.support.waiting import LIMIT_S, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from credrotator.sandbox import Fault


def test_i4_a_restart_with_everything_fresh(cluster: Cluster) -> None:
    """No token, no exchange, no write."""
    for number in range(5):
        cluster.aws(f"aws-{number}")
    with cluster.daemon() as daemon:
        cluster.new_key(name="aws-4")
        cluster.settled()
        daemon.end()
    before, exchanges = cluster.written(), cluster.exchanges()
    tokens = len(cluster.sandbox.issuer.requests)
    with cluster.daemon() as daemon:
        eventually(lambda: daemon.metric("credential_ready_status", condition="True") == 5)
        cluster.settled()
    assert cluster.written() == before
    assert (cluster.exchanges(), len(cluster.sandbox.issuer.requests)) == (exchanges, tokens)


@pytest.mark.slow
def test_fault_42_a_wrong_client_secret_is_corrected(cluster: Cluster) -> None:
    """Denied is tried again slowly, but a new client secret at once (fault 8)."""
    cluster.server.patch("secrets", CLIENT, secret(CLIENT, client_secret="wrong"))
    cluster.aws()
    with cluster.daemon():
        eventually(lambda: ("RotationFailed", "aws") in cluster.events())
        cluster.settled()
        # An issuer that answers, if only with a refusal, is no reason to keep the gateway's rotator away.
        assert values(cluster.server, SECRET) is None
        assert "Missing" in cluster.run("status")
        cluster.server.patch("secrets", CLIENT, secret(CLIENT, client_secret="sandbox-client-secret"))
        cluster.new_key()
        cluster.settled()
        assert ("Rotated", "aws") in cluster.events()
        assert "Fresh" in cluster.run("status")


@pytest.mark.slow
def test_fault_23_parked_by_the_corrected_clock(cluster: Cluster) -> None:
    """A quarter of an hour of the vendors' time: by a clock that is behind, the gateway would find it over already."""
    sick = cluster.sandbox.add_issuer()
    sick.faults.add(Hang())
    for service in (cluster.sandbox.issuer, cluster.sandbox.sts):
        service.faults.add(SkewedDate(timedelta(minutes=20)))
    cluster.aws()
    with cluster.daemon("--timeout", "3s", "--allowed-issuer", "https://localhost:*"):
        first = cluster.new_key()
        # Said twice, and by an issuer too: against the API server, one vendor's word would not be enough.
        patch_role(cluster.server, "aws", OTHER_ROLE)
        cluster.new_key(first)
        cluster.aws("sick", issuer=sick.url)
        # An empty Secret keeps the gateway's rotator away.
        eventually(lambda: values(cluster.server, "ai-eg-bsp-sick") == {})
        assert "Parked" in cluster.run("status")
    parked = cluster.server.get("secrets", "ai-eg-bsp-sick")
    assert parked
    until = datetime.fromisoformat(parked["metadata"]["annotations"]["rotators/expiration-time"])
    assert until > datetime.now(UTC) + timedelta(minutes=30)


@pytest.mark.slow
def test_failures_are_not_hammered(cluster: Cluster) -> None:
    """The condition's own event and the first list of a watch ask for no further tries (I7); nothing is parked."""
    cluster.sandbox.sts.faults.add(ServiceError("AccessDenied"))
    cluster.aws()
    with cluster.daemon():
        eventually(lambda: ("RotationFailed", "aws") in cluster.events())
        cluster.settled(2.0)
        assert cluster.exchanges() == 1
        assert not [line for line in cluster.written() if line.endswith(f" secrets/{SECRET}")]


def test_a_parked_secret_is_no_reason_to_try(cluster: Cluster) -> None:
    """Its own event comes back from the watch, and is none of a stranger's: it is written once (I7)."""
    cluster.sandbox.sts.faults.add(Hang())
    cluster.aws()
    with cluster.daemon("--timeout", "2s"):
        eventually(lambda: values(cluster.server, SECRET) == {})
        eventually(lambda: cluster.exchanges() > 1)
        assert cluster.written().count(f"create secrets/{SECRET}") == 1
        assert not [line for line in cluster.written() if line == f"update secrets/{SECRET}"]


@pytest.mark.slow
def test_i5_a_hung_issuer(cluster: Cluster) -> None:
    """It delays nobody else, and an end does not wait for it (fault 50)."""
    hung = cluster.sandbox.add_issuer()
    hung.faults.add(Hang())
    for number in range(8):
        cluster.aws(f"hung-{number}", issuer=hung.url)
    with cluster.daemon("--workers", "8", "--timeout", "5m", "--allowed-issuer", "https://localhost:*") as daemon:
        eventually(lambda: hung.requests.in_flight > 0)
        cluster.aws()
        cluster.new_key()
        assert hung.requests.in_flight > 0
        assert daemon.end()[0] == 0
    lease = cluster.server.get("leases", "credrotator")
    assert lease
    assert lease["spec"]["holderIdentity"] == ""


@pytest.mark.slow
def test_fault_70_silent_references(cluster: Cluster) -> None:
    """Forty client Secrets that the API server says nothing of any more: an end does not wait for any of them."""
    server = cluster.server
    names = [f"client-{number}" for number in range(40)]
    for name in names:
        server.create("secrets", secret(name, client_secret="sandbox-client-secret"))
        server.create(POLICIES, aws(f"of-{name}", oidc(cluster.issuer, name)))

    def asked(verb: str) -> set[str]:
        return {request.query.get("fieldSelector", "") for request in server.seen(verb, "secrets")} - {""}

    with cluster.daemon() as daemon:
        eventually(lambda: len(asked("watch")) == len(names))
        server.requests.clear()
        server.delay(math.inf, resource="secrets")
        server.end_watches("dropped")
        eventually(lambda: len(asked("list")) > len(names) // 2)
        code, took_s = daemon.end()
        assert (code, took_s < 10) == (0, True)
        server.heal()


def test_fault_32_the_api_comes_late(cluster: Cluster) -> None:
    """It waits for the gateway's API, alive but not ready, and says so; then it works."""
    served = cluster.server.resources.pop(POLICIES)
    with cluster.daemon(ready=False) as daemon:
        eventually(lambda: "CrdMissing" in daemon.log)
        assert daemon.get("/healthz")[0] == 200
        assert daemon.get("/readyz") == (503, "starting\n")
        cluster.server.resources[POLICIES] = served
        cluster.aws()
        cluster.new_key()
        assert daemon.is_ready()
    cluster.server.resources.pop(POLICIES)
    with cluster.daemon(ready=False) as daemon:
        eventually(lambda: "CrdMissing" in daemon.log)
        code, took_s = daemon.end()
        assert (code, took_s < 10) == (0, True)


def test_fault_32_only_the_old_version(cluster: Cluster) -> None:
    """A cluster with v0.2 serves v1alpha1 only; that is what is spoken then."""
    for plural in (POLICIES, "aiservicebackends", "aigatewayroutes"):
        cluster.server.resources[plural].versions = ["v1alpha1"]
    cluster.aws()
    with cluster.daemon():
        cluster.new_key()
        cluster.settled()
    found = cluster.server.get("secrets", SECRET)
    assert found
    assert found["metadata"]["ownerReferences"][0]["apiVersion"] == "aigateway.envoyproxy.io/v1alpha1"


@pytest.mark.slow
def test_fault_30_watches_that_break(cluster: Cluster) -> None:
    """Dropped, too old, refused: what happened meanwhile is found, and nothing is done twice."""
    cluster.aws()
    with cluster.daemon() as daemon:
        cluster.new_key()
        for number, gone_as_event in enumerate((True, False)):
            cluster.server.gone_as_event = gone_as_event
            cluster.server.end_watches("dropped")
            cluster.server.compact()
            cluster.aws(f"more-{number}")
            cluster.new_key(name=f"more-{number}")
        cluster.settled()
        assert cluster.exchanges() == 3
        assert (daemon.metric("watch_restarts_total") or 0) > 0
        assert cluster.events().count(("Rotated", "aws")) == 1


def test_fault_31_a_token_that_is_replaced(cluster: Cluster, tmp_path: Path) -> None:
    """The token's file is read again when it is refused; nobody notices."""
    token = tmp_path / "token"
    token.write_text("old")
    cluster.server.kubeconfig(cluster.kubeconfig, user={"tokenFile": str(token)})
    cluster.server.tokens = {"old"}
    cluster.aws()
    with cluster.daemon() as daemon:
        first = cluster.new_key()
        token.write_text("new")
        cluster.server.tokens = {"new"}
        cluster.server.end_watches()
        patch_role(cluster.server, "aws", OTHER_ROLE)
        cluster.new_key(first)
        assert daemon.is_ready()


@pytest.mark.slow
def test_i8_of_two_daemons_one_writes(cluster: Cluster) -> None:
    """The standby is ready and shows no policy; when the leader ends, it takes over at once and finds all fresh."""
    cluster.aws()
    with cluster.daemon() as leader:
        first = cluster.new_key()
        cluster.settled()
        with cluster.daemon() as standby:
            assert (leader.leads(), standby.leads()) == (True, False)
            assert standby.metric("credential_ready_status") is None
            exchanges, holder = cluster.exchanges(), cluster.holder()
            leader.end()
            assert cluster.holder() != holder, "it was not released"
            eventually(standby.leads)
            eventually(lambda: standby.metric("credential_ready_status", condition="True") == 1)
            assert cluster.exchanges() == exchanges
            patch_role(cluster.server, "aws", OTHER_ROLE)
            cluster.new_key(first)
    assert cluster.exchanges() == 2


@pytest.mark.slow
def test_fault_35_the_leader_is_killed(cluster: Cluster) -> None:
    """The other writes soon after the Lease has run out, which lasts 15 s: it tries each 2 s, or less often."""
    cluster.aws()
    with cluster.daemon() as leader:
        first = cluster.new_key()
        cluster.settled()
        with cluster.daemon() as standby:
            leader.end(signal.SIGKILL)
            before = len(cluster.server.seen("get", "leases"))
            patch_role(cluster.server, "aws", OTHER_ROLE)
            cluster.new_key(first, within_s=2 * LIMIT_S)
            assert len(cluster.server.seen("get", "leases")) - before <= 15 / 2 + 2
            assert standby.leads()
    assert cluster.exchanges() == 2


def test_nothing_secret_is_said(cluster: Cluster) -> None:
    """I9: neither logs, nor Events, nor status, nor metrics hold a client secret, a token or a key."""
    cluster.aws()
    cluster.azure(secret=True)
    cluster.sandbox.entra.faults.add(ServiceError("AADSTS7000215"), times=1)
    with cluster.daemon() as daemon:
        cluster.new_key()
        eventually(lambda: ("RotationFailed", "azure") in cluster.events())
        metrics = daemon.get("/metrics")[1]
        daemon.end()
    published = (values(cluster.server, SECRET) or {})["credentials"]
    hidden = {line.partition(" = ")[2] for line in published.splitlines() if "secret" in line or "token" in line}
    hidden |= {"sandbox-client-secret", "sandbox-entra-secret"}
    policies = json.dumps(cluster.server.items(POLICIES))
    for text in (daemon.log, metrics, json.dumps(cluster.server.items("events")), policies):
        assert not [word for word in hidden if word in text]


PAGE = Answer(body="<html><body><p>Sign in</p></body></html>", content_type="text/html")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("service", "fault"),
    [
        ("sts", PAGE),
        ("sts", Override({"Expiration": "2099-01-01T00:00:00"})),
        ("sts", Override({"Expiration": "Infinity"})),
        ("entra", PAGE),
        ("entra", Override({"access_token": "eyJ.eyJ.x\nevil: 1"})),
        ("google", PAGE),
    ],
    ids=["page of STS", "no zone", "infinity", "page of Entra", "line end in a token", "page of Google"],
)
def test_fault_71_what_is_no_answer(cluster: Cluster, service: str, fault: Fault) -> None:
    """Fault 71: a reason, an Event, a condition and back-off, as for any failure; and nothing is published."""
    vendor = {"sts": cluster.sandbox.sts, "entra": cluster.sandbox.entra, "google": cluster.sandbox.google}[service]
    vendor.faults.add(fault, when=lambda request: request.method == "POST")
    name = {"sts": "aws", "entra": "azure", "google": "gcp"}[service]
    {"sts": cluster.aws, "entra": lambda: cluster.azure(secret=True), "google": cluster.gcp}[service]()
    with cluster.daemon() as daemon:
        eventually(lambda: ("RotationFailed", name) in cluster.events())
        eventually(lambda: "InvalidResponse" in json.dumps(cluster.server.items(POLICIES)))
        cluster.settled(1.0)
        asked = len(vendor.requests)
        assert "Traceback" not in daemon.log
        assert "InternalError" not in daemon.log
    assert asked <= 8, "it was hammered"
    assert not values(cluster.server, f"ai-eg-bsp-{name}")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["basic", "form, twice", "json in html", "html, in numbers", "its first half"])
def test_fault_72_a_secret_that_is_repeated(cluster: Cluster, form: str) -> None:
    """Fault 72: neither status nor log, Event or condition has it, whole or in part."""
    client_secret = "cAn4ry/9zQ+w1tH0dD:p4rTs"
    cluster.server.patch("secrets", CLIENT, secret(CLIENT, client_secret=client_secret))
    cluster.sandbox.issuer.faults.add(Echo(form), path="/token")
    cluster.aws()
    with cluster.daemon() as daemon:
        eventually(lambda: ("RotationFailed", "aws") in cluster.events())
        cluster.settled()
        outputs = [cluster.run("status"), cluster.run("status", "-o", "json"), cluster.run("rotate", code=1)]
        outputs += [json.dumps(cluster.server.items(kind)) for kind in ("events", POLICIES)]
        outputs += [daemon.get("/metrics")[1], daemon.log]
    pieces = [client_secret[start : start + 6] for start in range(len(client_secret) - 5)]
    pieces += [base64.b64encode(f"credrotator:{quote_plus(client_secret)}".encode()).decode()[20:32]]
    for output in outputs:
        assert not [piece for piece in pieces if piece in output or piece in unquote(html.unescape(output))]
