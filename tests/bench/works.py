"""The works that are measured, each on new policies in a namespace of its own.

Each returns plain numbers: seconds, MiB, counts. A checker goes with all of them: every policy must have been written,
each exchange must have become one write, and no credential may have expired.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from tests.bench.site import ROLE, SHARD, policy_name
from tests.bench.subjects import Credrotator, Usage, cpu_of_servers, environment
from tests.bench.vendors import Settings
from tests.support import cluster_policies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.site import Destination, Ledger, VendorServer
    from tests.bench.subjects import Rotator
    from tests.bench.vendors import Counts
    from tests.support.parts.api import Json

_FILL = timedelta(minutes=10)
_NEWCOMER = timedelta(seconds=30)
_CATCH_UP_S = 2.0
_COMMAND = (sys.executable, "-m", "credrotator")


class Wrong(AssertionError):
    """An invariant did not hold while it was measured: the figure is worth nothing."""


@dataclass(frozen=True)
class Fill:
    """New policies, from the start of the process until the last Secret was there.

    Attributes:
        seconds: From the start of the process.
        working_s: From the first call to a vendor.
        usage: What the rotator used for it.
        counts: Calls to the vendors.
        requests: Requests to the API server per policy, whosoever's.
        servers: CPU seconds of the servers meanwhile, by name.
    """

    policies: int
    seconds: float
    working_s: float
    usage: Usage
    counts: Counts
    requests: float
    servers: dict[str, float]


def fill(site: Destination, rotator: Rotator, policies: int, *, latency_s: float) -> Fill:
    """Measure how long new policies take, all of one client."""
    site.vendors.set(Settings(latency_s=latency_s))
    with site.policies(policies) as (namespace, ledger):
        return fill_namespace(site, rotator, namespace, ledger, policies)


def fill_namespace(site: Destination, rotator: Rotator, namespace: str, ledger: Ledger, policies: int) -> Fill:
    """Measure how long the new policies of a namespace take."""
    before, servers = site.requests(), cpu_of_servers(site)
    with rotator.run(site, namespace) as subject:
        ledger.wait_for(policies, within=_FILL)
        ended_at = ledger.last_at
        usage, counts = subject.usage, site.vendors.counts()
        used = {name: cpu_s - servers[name] for name, cpu_s in cpu_of_servers(site).items()}
        time.sleep(_CATCH_UP_S)
        asked = (site.requests() - before) / policies
    if isinstance(rotator, Credrotator):
        check(ledger, site.vendors.counts(), policies)
    return Fill(policies, ended_at - subject.started_at, ended_at - counts.first_at, usage, counts, asked, used)


def check(ledger: Ledger, counts: Counts, policies: int) -> None:
    """Hold a run to the invariants.

    Raises:
        Wrong: A policy has nothing, an exchange became no write or two, or something expired.
    """
    written = ledger.writes.total()
    if len(ledger.writes) < policies:
        raise Wrong(f"{len(ledger.writes)} of {policies} policies were written")
    if written != counts.exchange:
        raise Wrong(f"{counts.exchange} exchanges became {written} writes")
    if expired := ledger.expiries():
        raise Wrong(f"{expired} credentials expired")


@dataclass(frozen=True)
class Hung:
    """Policies over many issuers of which one answers nothing.

    Attributes:
        written: Policies of the other issuers that had a credential at the end, of ``others``.
        renewals: How often theirs were renewed.
        late_s: By how much the latest of those was late, ``inf`` if there was none.
    """

    others: int
    written: int
    renewals: int
    late_s: float


def hung_issuer(
    site: Destination, rotator: Rotator, *, policies: int, issuers: int, seconds: float, latency_s: float
) -> Hung:
    """Measure what a hung issuer does to the policies of others, for a while."""
    # Short enough that all are renewed within the time, most of them once.
    life_s = (seconds, seconds * 1.5)
    site.vendors.set(Settings(latency_s=latency_s, life_s=life_s, hung=["0"]))
    others = policies - ceil(policies / issuers)
    with site.policies(policies, issuers=issuers) as (namespace, ledger), rotator.run(site, namespace):
        time.sleep(seconds)
        late, written = list(ledger.lateness_s), len(ledger.writes)
        return Hung(others, written, len(late), max(late, default=float("inf")))


def idle(site: Destination) -> Usage:
    """Measure what a daemon without policies uses."""
    with site.policies(0) as (namespace, _), Credrotator().run(site, namespace) as subject:
        subject.wait_until_ready()
        return subject.usage


@dataclass(frozen=True)
class Restart:
    """A new start with everything fresh. ``known_s``: until every policy has been looked at."""

    policies: int
    ready_s: float
    known_s: float
    vendor_calls: int
    writes: int
    usage: Usage


def restart(site: Destination, namespace: str, ledger: Ledger, policies: int, settings: Settings) -> Restart:
    """Measure a start over policies whose Secrets are fresh."""
    site.vendors.set(settings)
    ledger.mark()
    with Credrotator().run(site, namespace) as subject:
        ready_s = subject.wait_until_ready()
        known_s = subject.wait_until_knows(policies)
        usage, counts = subject.usage, site.vendors.counts()
    calls = counts.discovery + counts.token + counts.exchange
    return Restart(policies, ready_s, known_s, calls, ledger.writes.total(), usage)


@dataclass(frozen=True)
class Steady:
    """Many policies, each renewed in its time.

    Attributes:
        rate: Rotations per second.
        cores: CPU seconds per second.
        late_p99_s: Lateness of renewals, from due to published.
        new_p99_s: From the creation of a policy to its Secret.
    """

    policies: int
    rate: float
    cores: float
    peak_mib: float
    late_p99_s: float
    new_p99_s: float


def steady(
    site: Destination, namespace: str, ledger: Ledger, policies: int, *, seconds: float, settings: Settings
) -> Steady:
    """Measure a while of an ordinary day, with a new policy every second."""
    site.vendors.set(settings)
    with Credrotator().run(site, namespace) as subject:
        subject.wait_until_knows(policies)
        # What came due while nothing ran is late by no fault of the daemon's.
        time.sleep(_CATCH_UP_S)
        ledger.mark()
        before, began = subject.usage, time.monotonic()
        waits_s = [_newcomer(site, namespace, ledger, policies + index) for index in range(int(seconds))]
        lasted_s, after = time.monotonic() - began, subject.usage
        late, expired = list(ledger.lateness_s), ledger.expiries()
    if expired:
        raise Wrong(f"{expired} credentials expired")
    cores = (after.cpu_s - before.cpu_s) / lasted_s
    return Steady(policies, len(late) / lasted_s, cores, after.peak_mib, p99(late), p99(waits_s))


def _newcomer(site: Destination, namespace: str, ledger: Ledger, index: int) -> float:
    """Create a policy, wait for its Secret, and for the rest of the second; return how long the Secret took."""
    began, policy = time.time(), policy_name(index)
    ledger.expect(policy)
    site.add(namespace, index)
    took_s = ledger.first_at(policy, within=_NEWCOMER) - began
    time.sleep(max(0.0, 1.0 - (time.time() - began)))
    return took_s


@dataclass(frozen=True)
class Shared:
    """Policies that several deployments share by selector. ``overlap``: policies that were exchanged twice."""

    policies: int
    deployments: int
    seconds: float
    overlap: int


def shared(site: Destination, policies: int, *, deployments: int) -> Shared:
    """Measure how long new policies take several deployments."""
    site.vendors.set(Settings())
    with site.policies(policies, shards=deployments) as (namespace, ledger), ExitStack() as running:
        began = time.time()
        for number in range(deployments):
            options = ("--selector", f"{SHARD}={number}", "--lease", f"{namespace}/shard-{number}")
            running.enter_context(Credrotator(options).run(site, namespace))
        ledger.wait_for(policies, within=_FILL)
        ended_at = ledger.last_at
        counts = site.vendors.counts()
        check(ledger, counts, policies)
    return Shared(policies, deployments, ended_at - began, counts.exchange - policies)


def cold_rotate(site: Destination, *, runs: int) -> list[float]:
    """Measure ``rotate`` of one new policy out of manifests, from nothing: the seconds of each run."""
    site.vendors.set(Settings())
    return [_cold_rotate(site) for _ in range(runs)]


def cold_policy(vendors: VendorServer) -> list[Json]:
    """Return a policy with all that it refers to."""
    return [cluster_policies.aws("cold", vendors.issuer(0), role=ROLE), *cluster_policies.client_secrets()]


def _cold_rotate(site: Destination) -> float:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        manifests = directory / "policies.yaml"
        manifests.write_text(yaml.safe_dump_all(cold_policy(site.vendors)))
        out = directory / "out"
        command = ("rotate", "-f", str(manifests), "--out", str(out), "--allowed-issuer", f"{site.vendors.url}/*")
        began = time.perf_counter()
        done = subprocess.run(
            (*_COMMAND, *command), env={**os.environ, **environment(site)}, capture_output=True, text=True, check=False
        )
        took_s = time.perf_counter() - began
        if done.returncode or not (out / cluster_policies.NAMESPACE / "ai-eg-bsp-cold" / "credentials").read_text():
            raise Wrong(f"rotate failed: {done.stdout}{done.stderr}")
        return took_s


def p99(values: Sequence[float]) -> float:
    """Return the value that 99 of 100 do not exceed; ``inf`` of none."""
    return sorted(values)[ceil(0.99 * len(values)) - 1] if values else float("inf")
