"""Each metric, fed by what it counts: a real exchange with the sandbox, a real daemon over a simulated cluster."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from credrotator.core.errors import Denied, RotationError, Transient
from credrotator.core.model import ObjectKey
from credrotator.core.outcome import Outcome
from credrotator.exchange.http.clock_offset import SkewedClock
from credrotator.observability.metrics import MOST_REASONS, Metrics
from credrotator.sandbox import DEFAULT_CLIENT, Client, Sandbox
from credrotator.sandbox.answerfaults import Answer, ServiceError
from credrotator.sandbox.bodyfaults import Huge
from credrotator.sandbox.wirefaults import Certificate, Hang, Refuse
from tests.support.cluster import Cluster
from tests.support.exchanging import DISCOVERY, POLICY, TOKEN, world
from tests.support.manifests import POLICIES, speak
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from credrotator.exchange.exchanger import Exchanger
    from credrotator.sandbox.faults import Fault
    from tests.support.exchanging import Backend
    from tests.support.kube.simulator import ApiServer

__all__ = ["world"]

EXCHANGE = "AssumeRoleWithWebIdentity"


def value(metrics: Metrics, name: str, /, **labels: str) -> float | None:
    """Return a sample as a scraper reads it, None if there is none."""
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            if sample.name == f"credrotator_{name}" and labels.items() <= sample.labels.items():
                return sample.value
    return None


class Measured:
    """An exchanger before the sandbox, and the metrics of what it does."""

    def __init__(self, world: Backend) -> None:
        self.world = world
        self.metrics = Metrics()
        self.exchanger: Exchanger = world.exchanger(instrumentation=self.metrics)

    def exchange(self) -> None:
        self.exchanger(POLICY, self.world.aws(), self.world.secrets)

    def requests(self, provider: str, call: str, code: str) -> float | None:
        return value(self.metrics, "provider_requests_total", provider=provider, call=call, code=code)

    def stage(self, name: str) -> float | None:
        return value(self.metrics, "rotation_duration_seconds_count", stage=name)


@pytest.fixture
def measured(world: Backend) -> Measured:
    """Return metrics that a sandbox feeds."""
    return Measured(world)


class TestExchanges:
    """What is told of exchanges."""

    def test_a_success(self, measured: Measured) -> None:
        """One request for each call, with the status; the time of token and exchange."""
        measured.exchange()
        for call in (("issuer", "discovery"), ("issuer", "token"), ("sts", EXCHANGE)):
            assert measured.requests(*call, "200") == 1
        assert measured.stage("token") == measured.stage("exchange") == 1
        assert value(measured.metrics, "token_requests_total") == 1
        assert value(measured.metrics, "token_coalesced_total") == 0

    def test_entra(self, measured: Measured) -> None:
        """Entra's requests have its name, with an assertion as with a secret, for which no issuer is asked."""
        world = measured.world
        measured.exchanger(POLICY, world.azure(), world.secrets)
        measured.exchanger(POLICY, world.azure_secret(), world.secrets)
        assert measured.requests("entra", "token", "200") == 2
        assert (measured.stage("token"), measured.stage("exchange")) == (1, 2)

    def test_google(self, measured: Measured) -> None:
        """Google's token and the impersonation that follows it are told apart."""
        world = measured.world
        measured.exchanger(POLICY, world.gcp(), world.secrets)
        assert measured.requests("google", "token", "200") == 1
        assert measured.requests("google", "generateAccessToken", "200") == 1

    def test_coalesced_tokens(self, measured: Measured) -> None:
        """Of ten policies with one client, one asks; the others' tokens are counted as spared."""
        with ThreadPoolExecutor(10) as pool:
            list(pool.map(lambda _: measured.exchange(), range(10)))
        assert value(measured.metrics, "token_requests_total") == 1
        assert value(measured.metrics, "token_coalesced_total") == 9
        assert measured.requests("issuer", "token", "200") == 1
        assert measured.requests("sts", EXCHANGE, "200") == 10

    @pytest.mark.parametrize(
        ("fault", "code"),
        [
            (Answer(503), "503"),
            (Answer(799), "other"),
            (Refuse(), "unreachable"),
            (Hang(), "timeout"),
            (Certificate("expired"), "tls"),
            (Huge(), "unreadable"),
        ],
        ids=lambda case: case if isinstance(case, str) else "",
    )
    def test_failed_requests(self, measured: Measured, fault: Fault, code: str) -> None:
        """A failure is counted by status, or by a word of ours; the time that it took counts too."""
        if code == "timeout":
            # Only there: on a busy machine the other answers can take longer, a new certificate above all.
            measured.exchanger = measured.world.exchanger(timeout_s=0.5, instrumentation=measured.metrics)
        measured.world.issuer.faults.add(fault)
        with pytest.raises(RotationError):
            measured.exchange()
        assert measured.requests("issuer", "discovery", code) == 1
        assert (measured.stage("token"), measured.stage("exchange")) == (1, None)

    def test_through_a_proxy_that_is_not_there(self, measured: Measured) -> None:
        """What a proxy failed at is not the issuer's doing."""
        environment = {"HTTPS_PROXY": "http://127.0.0.1:1"}
        measured.exchanger = measured.world.exchanger(environment=environment, instrumentation=measured.metrics)
        with pytest.raises(Transient):
            measured.exchange()
        assert measured.requests("issuer", "discovery", "proxy") == 1

    def test_a_forbidden_address(self, measured: Measured) -> None:
        """An issuer that may not be asked shows as such."""
        measured.exchanger = measured.world.unlisted(instrumentation=measured.metrics)
        with pytest.raises(Denied):
            measured.exchange()
        assert measured.requests("issuer", "discovery", "forbidden") == 1

    @pytest.mark.parametrize("path", [DISCOVERY, TOKEN])
    def test_a_throttling_issuer(self, measured: Measured, path: str) -> None:
        """Each answer that asks for patience counts once; being spared the question does not."""
        measured.world.issuer.faults.add(Answer(429, retry_after=60), path=path)
        for _ in range(3):
            with pytest.raises(Transient):
                measured.exchange()
        assert value(measured.metrics, "throttled_total", provider="issuer") == 1

    def test_a_throttling_sts(self, measured: Measured) -> None:
        """AWS throttles with status 400 and a code."""
        measured.world.sandbox.sts.faults.add(ServiceError("Throttling"))
        with pytest.raises(Transient):
            measured.exchange()
        assert value(measured.metrics, "throttled_total", provider="sts") == 1

    def test_skew(self, measured: Measured) -> None:
        """The difference to the vendor's clock, by its Date header."""
        clock = SkewedClock(lambda: datetime.now(UTC) - timedelta(minutes=10))
        measured.exchanger = measured.world.exchanger(instrumentation=measured.metrics, clock=clock)
        measured.exchange()
        measured.metrics.note_skew(clock.seen())
        assert value(measured.metrics, "clock_skew_seconds", endpoint="sts") == pytest.approx(600, abs=30)


class TestLabels:
    """Nobody else makes series without end."""

    def test_reasons_are_bounded(self) -> None:
        """Beyond some reasons of one provider all others share a series; another provider's are not affected."""
        metrics = Metrics()
        for number in range(MOST_REASONS + 10):
            metrics.record(Outcome(ObjectKey("a", "b"), "azure-oidc", "rotated", f"AADSTS{number}"))
        metrics.record(Outcome(ObjectKey("a", "b"), "aws-oidc", "rotated", "Missing"))
        assert value(metrics, "rotations_total", reason="Other") == 10
        assert value(metrics, "rotations_total", provider="aws-oidc", reason="Missing") == 1

    def test_only_words(self) -> None:
        """What is no CamelCase word is no label."""
        metrics = Metrics()
        metrics.note_restarts({"Forbidden: secrets is forbidden\n": 2, "Gone": 1})
        assert value(metrics, "watch_restarts_total", reason="Other") == 2
        assert value(metrics, "watch_restarts_total", reason="Gone") == 1


def test_build_and_process() -> None:
    """What runs, its CPU time and its memory."""
    text = Metrics().exposition().decode()
    assert 'credrotator_build_info{python="' in text
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes"} <= {
        line.split(" ")[0] for line in text.splitlines()
    }


def test_ten_thousand_policies() -> None:
    """All series are there, each once, and go when their policies do."""
    metrics, now = Metrics(), datetime(2026, 11, 24, 12, tzinfo=UTC)
    keys = [ObjectKey(f"team-{number % 50}", f"policy-{number}") for number in range(10_000)]
    for key in keys:
        metrics.record(Outcome(key, "aws-oidc", "kept", "Fresh", key, now, now))
    lines = metrics.exposition().decode().splitlines()
    mine = [line for line in lines if line.startswith("credrotator_credential_")]
    assert len(mine) == len(set(mine)) == 40_000
    for key in keys:
        metrics.forget(key)
    assert "policy-" not in metrics.exposition().decode()


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """Run a sandbox."""
    with Sandbox(tmp_path / "sandbox", algorithm="ES256") as running:
        running.issuer.clients[DEFAULT_CLIENT] = Client("sandbox-client-secret", subject=DEFAULT_CLIENT)
        yield running


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_a_daemon(server: ApiServer, sandbox: Sandbox, tmp_path: Path) -> None:
    """A running daemon feeds every metric: rotations, failures, the gateway's silence, broken watches, an end."""
    cluster = Cluster(server, sandbox, tmp_path)
    cluster.aws()
    cluster.aws("managed", managed=True)
    cluster.aws("broken", issuer="https://elsewhere.example")
    of = {"namespace": "default", "name": "aws"}
    with cluster.daemon() as daemon:
        cluster.new_key()
        cluster.new_key(name="managed")
        eventually(lambda: daemon.metric("rotations_total", result="failed") is not None)
        expires = daemon.metric("credential_expiration_timestamp_seconds", **of, provider="aws-oidc") or 0.0
        renews = daemon.metric("credential_renewal_timestamp_seconds", **of, provider="aws-oidc") or 0.0
        assert datetime.now(UTC).timestamp() < renews < expires
        assert daemon.metric("credential_ready_status", **of, condition="True") == 1
        assert daemon.metric("credential_ready_status", name="broken", condition="False") == 1
        assert daemon.metric("rotations_total", provider="aws-oidc", result="rotated", reason="Missing") == 2
        # Twice where it was heard of in the moment in which this daemon became the leader.
        assert daemon.metric("rotations_total", result="failed", reason="IssuerNotAllowed") in {1, 2}
        for stage in ("token", "exchange", "write", "delivery", "total"):
            assert (daemon.metric("rotation_duration_seconds_count", stage=stage) or 0) >= 2, stage
        assert daemon.metric("leader") == 1
        assert daemon.metric("queue_depth") == 0
        eventually(lambda: daemon.metric("watch_silence_seconds", watch="policies") is not None)
        eventually(lambda: daemon.metric("clock_skew_seconds", endpoint="sts") is not None)

        # Nobody plays the gateway here, so that its acknowledgement never comes.
        eventually(lambda: daemon.metric("unacknowledged") == 1)

        # Deleted: a renewal, though long before its time, for which somebody plays the gateway.
        server.delete("secrets", "ai-eg-bsp-aws")
        eventually(lambda: daemon.metric("rotation_lateness_seconds_count") == 1)
        moments = (f"2026-11-24T12:{second // 60:02}:{second % 60:02}Z" for second in range(3600))

        def heard() -> bool:
            speak(server, "aws", next(moments))
            # Made anew, the Secret is its own bell; heard of too late, it was rung for.
            return (
                sum(daemon.metric("delivery_seconds_count", form=form) or 0 for form in ("creation", "doorbell")) == 1
            )

        eventually(heard)
        eventually(lambda: daemon.metric("unacknowledged") == 0)

        server.compact()
        server.end_watches("dropped")
        eventually(lambda: (daemon.metric("watch_restarts_total") or 0) >= 1)

        server.delete(POLICIES, "aws")
        eventually(lambda: daemon.metric("credential_ready_status", **of) is None)
        assert daemon.metric("credential_expiration_timestamp_seconds", **of) is None
