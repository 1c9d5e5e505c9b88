"""More works: short lives and scrapes, two tenants, the managed form, and a directory with a template."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from tests.bench.site import ROLE, policy_name
from tests.bench.starts import cpu_s
from tests.bench.subjects import Credrotator, environment
from tests.bench.vendors import Settings
from tests.bench.works import Wrong, fill_namespace
from tests.support import cluster_policies

if TYPE_CHECKING:
    from tests.bench.site import Destination, Ledger
    from tests.bench.works import Fill

_FILL = timedelta(minutes=10)
_TEMPLATE = "preset:envoy-aws"
"""A profile for each policy."""


def managed(site: Destination, policies: int) -> Fill:
    """Measure how long new policies of the managed form take."""
    site.vendors.set(Settings())
    with site.policies(policies, managed=True) as (namespace, ledger):
        return fill_namespace(site, Credrotator(), namespace, ledger, policies)


@dataclass(frozen=True)
class Tenants:
    """New policies of two namespaces: when the last of each was written, in seconds from the start of the process."""

    policies: int
    seconds: tuple[float, float]

    @property
    def apart(self) -> float:
        """By which part of the whole time one was done before the other."""
        return 1 - min(self.seconds) / max(self.seconds)


def tenants(site: Destination, policies: int) -> Tenants:
    """Measure how evenly two tenants are served who come with as many policies each."""
    site.vendors.set(Settings())
    with site.policies(policies) as (first, ours), site.policies(policies) as (second, theirs):
        with Credrotator(("--namespace", second)).run(site, first) as subject:
            for ledger in (ours, theirs):
                ledger.wait_for(policies, within=_FILL)
            took = (ours.last_at - subject.started_at, theirs.last_at - subject.started_at)
        written = ours.writes.total() + theirs.writes.total()
        if written != site.vendors.counts().exchange or written != 2 * policies:
            raise Wrong(f"{site.vendors.counts().exchange} exchanges became {written} writes")
    return Tenants(policies, took)


@dataclass(frozen=True)
class Scrapes:
    """Reading the metrics of many policies: seconds of each, the CPU seconds of one, and its size."""

    policies: int
    seconds: list[float]
    cpu_s: float
    size_bytes: int


def scrapes(
    site: Destination, namespace: str, ledger: Ledger, policies: int, *, settings: Settings, times: int = 10
) -> Scrapes:
    """Measure scrapes of a daemon that is at rest."""
    site.vendors.set(settings)
    ledger.mark()
    with Credrotator().run(site, namespace) as subject:
        subject.wait_until_knows(policies)
        time.sleep(1.0)
        before = subject.usage.cpu_s
        answers = [subject.scrape() for _ in range(times)]
        used = (subject.usage.cpu_s - before) / times
    return Scrapes(policies, [took_s for took_s, _ in answers], used, answers[-1][1])


@dataclass(frozen=True)
class Pass:
    """One pass over manifests, each policy's first: seconds and CPU seconds of the command."""

    policies: int
    seconds: float
    cpu_s: float


def directory(site: Destination, policies: int) -> Pass:
    """Measure ``rotate`` of new policies out of manifests, into a directory, with a template that names all of them."""
    site.vendors.set(Settings())
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        manifests, rendered = place / "policies.yaml", place / "rendered"
        documents = [cluster_policies.aws(policy_name(n), site.vendors.issuer(0), role=ROLE) for n in range(policies)]
        manifests.write_text(yaml.safe_dump_all([*documents, *cluster_policies.client_secrets()]))
        out = ("--out", str(place / "out"), "--template", f"{_TEMPLATE}:{rendered}")
        command = ("rotate", "-f", str(manifests), *out, "--allowed-issuer", f"{site.vendors.url}/*")
        began = time.perf_counter()
        used = cpu_s((sys.executable, "-m", "credrotator", *command), {**os.environ, **environment(site)})
        took_s = time.perf_counter() - began
        if rendered.read_text().count("aws_access_key_id") != policies or site.vendors.counts().exchange != policies:
            raise Wrong("not every policy was rotated and rendered")
    return Pass(policies, took_s, used)
