"""The two rotators as processes, and what they use: time, CPU, memory.

credrotator is run as one replica of its Deployment would be; the gateway's controller as the e2e tests run it. Both get
the same kubeconfig, the same CA, the same STS.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.bench.site import NotDone
from tests.support.parts import controller
from tests.support.parts.daemon import without_settings
from tests.support.parts.ports import free_port
from tests.support.parts.process import Process, answers, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from tests.bench.site import Destination

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_KIB = 1024
_SERVERS = {"kube-apiserver", "etcd"}
_START = timedelta(minutes=2)
_POLL_S = 0.5
COMPILED = {"PYTHONDONTWRITEBYTECODE": ""}
"""Has modules compiled once, as where it is installed; where that is forbidden, each start compiles all of them."""


@dataclass(frozen=True)
class Usage:
    """What a process has used since its start: CPU seconds of all its threads, and the most memory, in MiB."""

    cpu_s: float
    peak_mib: float


@dataclass(frozen=True)
class Subject:
    """A running rotator. ``url`` is where its metrics and probes are, empty where it has none that matter here."""

    process: Process
    started_at: float
    url: str = ""

    @property
    def usage(self) -> Usage:
        """What it has used so far."""
        return usage_of(self.process.pid)

    def wait_until_ready(self) -> float:
        """Wait for its readiness probe; return how many seconds after its start that was."""
        self.process.wait_until(lambda: answers(f"{self.url}/readyz"), within=_START)
        return time.time() - self.started_at

    def wait_until_knows(self, policies: int) -> float:
        """Wait until it has looked at so many policies; return how many seconds after its start that was."""
        self.wait_until_ready()
        give_up_s = time.monotonic() + _START.total_seconds()
        while (known := self._knows()) < policies:
            if time.monotonic() > give_up_s:
                raise NotDone(f"{known} of {policies} policies are known after {_START}")
            # Each question costs the daemon time as well.
            time.sleep(_POLL_S)
        return time.time() - self.started_at

    def metric(self, name: str) -> float:
        """Return the sum of a metric's samples."""
        families = text_string_to_metric_families(requests.get(f"{self.url}/metrics", timeout=30).text)
        return sum(sample.value for family in families for sample in family.samples if sample.name == name)

    def scrape(self) -> tuple[float, int]:
        """Read its metrics, as Prometheus does; return the seconds and the bytes."""
        began = time.perf_counter()
        size = len(requests.get(f"{self.url}/metrics", timeout=30).content)
        return time.perf_counter() - began, size

    def _knows(self) -> int:
        text = requests.get(f"{self.url}/metrics", timeout=30).text
        return text.count("\ncredrotator_credential_expiration_timestamp_seconds{")


class Rotator(Protocol):
    """A kind of subject."""

    @property
    def name(self) -> str:
        """How it is called."""

    def run(self, site: Destination, namespace: str) -> AbstractContextManager[Subject]:
        """Run it for the policies of a namespace until the block ends."""


@dataclass(frozen=True)
class Credrotator:
    """``credrotator run``; ``options`` come on top."""

    options: tuple[str, ...] = ()
    name: str = "credrotator"

    @contextmanager
    def run(self, site: Destination, namespace: str) -> Iterator[Subject]:
        """See Rotator."""
        port = free_port()
        place = ("--kubeconfig", str(site.cluster.admin), "--namespace", namespace)
        argv = (
            *(sys.executable, "-m", "credrotator", "run", *place),
            *("--allowed-issuer", f"{site.vendors.url}/*", "--listen", f"127.0.0.1:{port}", *self.options),
        )
        with self._running(site, argv) as process:
            yield Subject(process, time.time(), f"http://127.0.0.1:{port}")

    def _running(self, site: Destination, argv: tuple[str, ...]) -> AbstractContextManager[Process]:
        grace = timedelta(seconds=15)
        directory = site.scratch(self.name)
        return running(self.name, *argv, directory=directory, env=environment(site), grace=grace)


@dataclass(frozen=True)
class Gateway:
    """The gateway's controller, whose rotator is written in Go."""

    program: Path
    name: str = "gateway"

    @contextmanager
    def run(self, site: Destination, namespace: str) -> Iterator[Subject]:
        """See Rotator."""
        directory = site.scratch(self.name)
        env = {
            "SSL_CERT_FILE": str(site.vendors.ca),
            "SSL_CERT_DIR": "",
            "AWS_CA_BUNDLE": str(site.vendors.ca),
            "AWS_ENDPOINT_URL_STS": site.vendors.url,
            "NO_PROXY": "localhost,127.0.0.1",
        }
        started_at = time.time()
        with controller.serving(
            self.program, site.cluster, directory=directory, namespaces=(namespace,), env=env
        ) as process:
            yield Subject(process, started_at)


def environment(site: Destination) -> dict[str, str]:
    """Return the settings with which credrotator finds the vendors, and none of this machine's."""
    return {
        **without_settings(),
        **COMPILED,
        "AWS_ENDPOINT_URL_STS": site.vendors.url,
        "CREDROTATOR_CA_FILE": str(site.vendors.ca),
        "NO_PROXY": "localhost,127.0.0.1",
    }


def cpu_of_servers(site: Destination) -> dict[str, float]:
    """Return the CPU seconds that the API server, etcd and the vendors have used so far, by name."""
    mark, found = str(site.cluster.directory), {"vendors": site.vendors.counts().cpu_s}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            program, *arguments = (process / "cmdline").read_bytes().decode().split("\0")
        except (OSError, UnicodeDecodeError):
            continue
        name = Path(program).name
        if name in _SERVERS and any(mark in argument for argument in arguments):
            found[name] = usage_of(int(process.name)).cpu_s
    return found


def usage_of(pid: int) -> Usage:
    """Read what a running process has used (proc(5): ``stat``, ``status``)."""
    process = Path("/proc", str(pid))
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    lines = (process / "status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return Usage((int(fields[11]) + int(fields[12])) * _TICK_S, peak / _KIB)
