"""Prometheus and promtool: what scrapes the metrics, and what judges rules on recorded series."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import requests
import yaml

from tests.support.parts.cache import Cache
from tests.support.parts.go_tool import build
from tests.support.parts.ports import free_port
from tests.support.parts.process import answers, running

_VERSION = "3.16.0"
_MODULE = "github.com/prometheus/prometheus"


def executable(cache: Cache, name: Literal["prometheus", "promtool"]) -> Path:
    """Return the program of this machine, else one that is built from its Go module on the first call.

    The latter finds its targets in files and by HTTP only: the SDKs of a dozen clouds take most of the time to build.
    """
    if found := shutil.which(name):
        return Path(found)
    stamp = {"github.com/prometheus/common/version.Version": _VERSION}
    return build(
        cache,
        name,
        package=f"{_MODULE}/cmd/{name}",
        version=_VERSION,
        module="prometheus",
        stamp=stamp,
        tags="remove_all_sd",
    )


@dataclass(frozen=True)
class Prometheus:
    """A running server."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return what an expression says at this moment, as samples with ``metric`` and ``value``.

        Raises:
            QueryError: It is none.
        """
        found: list[dict[str, Any]] = self._ask("query", query=expression)["result"]
        return found

    def range(self, expression: str, *, seconds: int, step_s: float) -> list[dict[str, Any]]:
        """Return what an expression said in the latest seconds, as series with ``metric`` and ``values``.

        Raises:
            QueryError: It is none.
        """
        now = time.time()
        asked = {"query": expression, "start": now - seconds, "end": now, "step": step_s}
        found: list[dict[str, Any]] = self._ask("query_range", **asked)["result"]
        return found

    def rules(self) -> dict[str, dict[str, Any]]:
        """Return the alerting rules with their ``health`` and ``state``, by name."""
        return {rule["name"]: rule for group in self._ask("rules")["groups"] for rule in group["rules"]}

    def _ask(self, what: str, **parameters: Any) -> dict[str, Any]:
        answer = requests.get(f"{self.url}/api/v1/{what}", params=parameters, timeout=10).json()
        if answer["status"] != "success":
            raise QueryError(f"{parameters}: {answer.get('error')}")
        found: dict[str, Any] = answer["data"]
        return found


class QueryError(Exception):
    """Prometheus does not take an expression; the message is its own."""


@contextmanager
def scraping(program: Path, *targets: int, job: str, rules: Path, directory: Path) -> Iterator[Prometheus]:
    """Run a server that scrapes these ports of 127.0.0.1 every second, and evaluates the rules as often."""
    directory.mkdir(parents=True, exist_ok=True)
    server = Prometheus(free_port())
    addresses = [f"127.0.0.1:{port}" for port in targets]
    settings = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [{"job_name": job, "honor_labels": True, "static_configs": [{"targets": addresses}]}],
    }
    (directory / "prometheus.yaml").write_text(yaml.safe_dump(settings))
    argv = (
        str(program),
        "--config.file=prometheus.yaml",
        "--storage.tsdb.path=data",
        f"--web.listen-address=127.0.0.1:{server.port}",
    )
    with running("prometheus", *argv, directory=directory) as process:
        process.wait_until(lambda: answers(f"{server.url}/-/ready"), within=timedelta(minutes=1))
        yield server
