"""`credrotator run` against a cluster, as one replica of the Deployment would run it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import requests
from prometheus_client.parser import text_string_to_metric_families

from credrotator.sandbox import Sandbox
from tests.support.cluster_policies import NAMESPACE
from tests.support.parts.api import Json
from tests.support.parts.ports import free_port
from tests.support.parts.process import NotReadyError, Process, answers, running

# Each sandbox issuer has a port of its own.
_ISSUERS = "https://localhost:*"

_START = timedelta(seconds=30)
_COMMAND = timedelta(seconds=60)
_POLL_S = 0.05


@dataclass(frozen=True)
class Daemon:
    """A running daemon."""

    process: Process
    url: str

    def answers(self, path: str, *, within: timedelta) -> bool:
        """Tell whether a probe succeeds in that time."""
        try:
            self.process.wait_until(lambda: answers(f"{self.url}{path}"), within=within)
        except NotReadyError:
            return False
        return True

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that have these labels; 0 where there are none."""
        families = text_string_to_metric_families(requests.get(f"{self.url}/metrics", timeout=5).text)
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def wait_for_metric(self, name: str, value: float, *, within: timedelta) -> bool:
        """Tell whether a metric gets a value in that time."""
        give_up = time.monotonic() + within.total_seconds()
        while self.metric(name) != value:
            if time.monotonic() > give_up:
                return False
            time.sleep(_POLL_S)
        return True

    def kill(self) -> None:
        """End it as a crash would: at once, with nothing released."""
        self.process.send(signal.SIGKILL)


@contextmanager
def serving(
    kubeconfig: Path,
    sandbox: Sandbox,
    *options: str,
    directory: Path,
    name: str = "credrotator",
    wait: bool = True,
) -> Iterator[Daemon]:
    """Run the daemon for the policies' namespace, with the rights of a kubeconfig, and yield it when it is ready.

    Without `wait`, yield it at once.
    """
    port = free_port()
    argv = (*_command("run", kubeconfig), "--listen", f"127.0.0.1:{port}", *options)
    with running(name, *argv, directory=directory, env=environment(sandbox), grace=timedelta(seconds=12)) as process:
        daemon = Daemon(process, f"http://127.0.0.1:{port}")
        if wait:
            process.wait_until(lambda: answers(f"{daemon.url}/readyz"), within=_START)
        yield daemon


def rotate(kubeconfig: Path, sandbox: Sandbox, *options: str) -> Json:
    """Run one pass as a person would, beside whatever else runs, and return its result."""
    printed = _run(*_command("rotate", kubeconfig), "--output", "json", *options, env=environment(sandbox))
    document: Json = json.loads(printed)
    return document


def convert(kubeconfig: Path, policy: str) -> str:
    """Return the managed form of a policy, as manifests."""
    return _run(*_command("convert", kubeconfig), f"{NAMESPACE}/{policy}", env={})


def _run(*argv: str, env: dict[str, str]) -> str:
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        env={**os.environ, **env},
        timeout=_COMMAND.total_seconds(),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _command(verb: str, kubeconfig: Path) -> tuple[str, ...]:
    place = ("--kubeconfig", str(kubeconfig), "--namespace", NAMESPACE)
    return (sys.executable, "-m", "credrotator", verb, *place, "--allowed-issuer", _ISSUERS)


def environment(sandbox: Sandbox) -> dict[str, str]:
    """Return the settings with which credrotator finds the sandbox, and none of this machine's."""
    return {**without_settings(), **sandbox.environment()}


def without_settings() -> dict[str, str]:
    """Return this machine's settings of credrotator, each of them empty."""
    return {name: "" for name in os.environ if name.startswith("CREDROTATOR_")}
