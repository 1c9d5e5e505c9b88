"""A real Prometheus scrapes a real daemon: every panel of the dashboard shows something, every alert is evaluated."""

from __future__ import annotations

import re
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from credrotator.sandbox import DEFAULT_CLIENT, DEFAULT_ROLE, Role, Sandbox, ServiceError
from tests.chart.monitoring import RULES, alerts, expressions
from tests.support.cluster import Cluster
from tests.support.kube.fixtures import _no_own_cluster, server
from tests.support.manifests import speak
from tests.support.parts import prometheus
from tests.support.parts.cache import Cache, default_root
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.cluster import Daemon
    from tests.support.kube.simulator import ApiServer
    from tests.support.parts.prometheus import Prometheus

__all__ = ["_no_own_cluster", "server"]

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(40 * 60)]

JOB = "credrotator"
CHOSEN = {"$job": ".*", "$namespace": ".*", "$__rate_interval": "15s"}
"""What Grafana puts in place of the dashboard's variables."""


def as_sent(expression: str) -> str:
    """Return an expression as Grafana sends it."""
    for variable, value in CHOSEN.items():
        expression = expression.replace(variable, value)
    return expression


@contextmanager
def lively(server: ApiServer, directory: Path) -> Iterator[Daemon]:
    """Run a daemon that has something to do: lives of 20 s, a gateway that answers, an STS that throttles at times."""
    with Sandbox(directory / "sandbox", algorithm="ES256") as sandbox:
        life = timedelta(seconds=20)
        sandbox.sts.roles[DEFAULT_ROLE] = Role(sandbox.issuer.url, subject=DEFAULT_CLIENT, forced_life=life)
        cluster = Cluster(server, sandbox, directory)
        for number in range(6):
            cluster.aws(f"bedrock-{number}")
        cluster.aws("managed", managed=True)
        cluster.azure("openai")
        cluster.aws("broken", issuer="https://elsewhere.example")
        ended = threading.Event()

        def happen() -> None:
            for second in range(10**6):
                if ended.wait(1.0):
                    return
                # The last one's gateway keeps silent.
                for number in range(5):
                    speak(server, f"bedrock-{number}", f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")
                if second % 10 == 3:
                    sandbox.sts.faults.add(ServiceError("Throttling"), times=1)
                if second % 20 == 5:
                    server.compact()
                    server.end_watches("dropped")

        happening = threading.Thread(target=happen)
        with cluster.daemon() as daemon:
            happening.start()
            try:
                yield daemon
            finally:
                ended.set()
                happening.join()


@pytest.fixture(scope="session")
def program() -> Path:
    """Return Prometheus, of this machine or of the real parts."""
    return prometheus.executable(Cache(default_root()), "prometheus")


@pytest.fixture
def scraped(program: Path, server: ApiServer, tmp_path: Path) -> Iterator[Prometheus]:
    """Return a Prometheus that scrapes a daemon with something to do."""
    with lively(server, tmp_path) as daemon:
        match = re.search(r"listening on \S+:(\d+)", daemon.log)
        assert match
        with prometheus.scraping(
            program, int(match[1]), job=JOB, rules=RULES, directory=tmp_path / "prometheus"
        ) as running:
            yield running


def test_dashboard_and_alerts(scraped: Prometheus) -> None:
    """Every query of every panel is one and finds something; every rule is evaluated, and none fires without cause.

    The failing policy shows under its own namespace, not under that of who scraped it.
    """
    queries = [(title, as_sent(expression)) for title, expression in expressions()]

    def empty() -> list[str]:
        return [title for title, expression in queries if not scraped.query(expression)]

    until = time.monotonic() + 60
    while (missing := empty()) and time.monotonic() < until:
        time.sleep(1)
    assert missing == []

    def failing() -> set[tuple[str, str]]:
        found = scraped.query('credrotator_credential_ready_status{condition="False"} == 1')
        return {(each["metric"]["namespace"], each["metric"]["name"]) for each in found}

    # Another one may have met a throttled moment, and is well a second later.
    eventually(lambda: failing() == {("default", "broken")}, 20)
    eventually(lambda: {rule["health"] for rule in scraped.rules().values()} == {"ok"}, 20)
    states = {name.removeprefix("Credrotator"): rule["state"] for name, rule in scraped.rules().items()}
    assert states.keys() == alerts().keys()
    # What fails and what was not heard waits for its ten minutes.
    assert states["RotationFailing"] == "pending"
    assert {name: state for name, state in states.items() if state == "firing"} == {}
