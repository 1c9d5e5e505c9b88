"""Which works are measured, in which order, and what is said about each.

A rotator's works come one after the other, never side by side: the machine is theirs alone.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from tests.bench import works
from tests.bench.more_rows import MORE_PARTS, steady_row
from tests.bench.subjects import Credrotator
from tests.bench.table import Row
from tests.bench.vendors import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from tests.bench.scale import Scale
    from tests.bench.site import Destination
    from tests.bench.subjects import Gateway, Rotator, Usage
    from tests.bench.works import Fill

_KIB = 1024
_COLD_S, _LATE_S = 0.4, 1.0
_CPU, _MEMORY, _MEMORY_MIB = 0.45, 0.2, 90
_RESTART_S = {1000: 3.0, 10_000: 20.0}


def rows(site: Destination, gateway: Gateway, scale: Scale, parts: Collection[str] = ()) -> Iterator[Row]:
    """Measure everything, or some parts; a row comes as soon as it is known."""
    for part, measure in _PARTS.items():
        if parts and part not in parts:
            continue
        for row in measure(site, gateway, scale):
            # A goal is for the size it was set for.
            known = replace(row, part=part)
            yield known if scale.goals else replace(known, goal="", met=None)


def _cold(site: Destination, _gateway: Gateway, scale: Scale) -> Iterator[Row]:
    took_s = works.cold_rotate(site, runs=scale.cold)
    median_s = statistics.median(took_s)
    yield Row(
        "`rotate` of one policy, from a cold start",
        f"{median_s:.2f} s (median of {len(took_s)})",
        goal=f"<= {_COLD_S} s",
        met=median_s <= _COLD_S,
        figures={"seconds": took_s},
    )


def _new_policies(site: Destination, gateway: Gateway, scale: Scale) -> Iterator[Row]:
    """Both at the same work, first with vendors that take their time, then with ones that take none."""
    for latency_s, goal in ((scale.latency_s, 30), (0.0, 6)):
        ours = works.fill(site, Credrotator(), scale.policies, latency_s=latency_s)
        peer = works.fill(site, gateway, scale.policies, latency_s=latency_s)
        ratio = peer.seconds / ours.seconds
        yield Row(
            f"{scale.policies} new policies, {latency_s * 1000:.0f} ms a call, from the start of the process",
            _took(ours),
            _took(peer),
            f"{ratio:.1f} times faster",
            goal=f">= {goal} times",
            met=ratio >= goal,
            figures={"ours": asdict(ours), "peer": asdict(peer)},
        )
    yield from _used(ours, peer)


def _took(fill: Fill) -> str:
    return f"{fill.seconds:.1f} s ({fill.working_s:.1f} s from the first call)"


def _used(ours: Fill, peer: Fill) -> Iterator[Row]:
    """What the last work took of the machine, and of the vendors."""
    cpu = ours.usage.cpu_s / peer.usage.cpu_s
    yield Row(
        "CPU for 1000 new policies, 0 ms a call",
        f"{ours.usage.cpu_s:.1f} s",
        f"{peer.usage.cpu_s:.1f} s",
        f"{cpu:.2f}",
        goal=f"<= {_CPU}",
        met=cpu <= _CPU,
    )
    memory = ours.usage.peak_mib / peer.usage.peak_mib
    yield Row(
        "peak memory for 1000 new policies, 0 ms a call",
        f"{ours.usage.peak_mib:.0f} MiB",
        f"{peer.usage.peak_mib:.0f} MiB",
        f"{memory:.2f}",
        goal=f"<= {_MEMORY}, <= {_MEMORY_MIB} MiB",
        met=memory <= _MEMORY and round(ours.usage.peak_mib) <= _MEMORY_MIB,
    )
    once = ours.counts.discovery == ours.counts.token == 1 and ours.counts.exchange == ours.policies
    yield Row(
        "calls to the vendors, one client",
        _calls(ours),
        _calls(peer),
        goal=f"1 discovery, 1 token, {ours.policies} exchanges",
        met=once,
    )
    yield Row("requests to the API server, per policy", f"{ours.requests:.1f}", f"{peer.requests:.1f}")
    yield Row("CPU of the servers, per policy", _servers(ours), _servers(peer))


def _servers(fill: Fill) -> str:
    return ", ".join(f"{name} {cpu_s / fill.policies * 1000:.1f} ms" for name, cpu_s in sorted(fill.servers.items()))


def _calls(fill: Fill) -> str:
    counts = fill.counts
    return f"{counts.discovery} discovery, {counts.token} token, {counts.exchange} exchanges"


def _hung(site: Destination, gateway: Gateway, scale: Scale) -> Iterator[Row]:
    ours, peer = (_hung_for(site, rotator, scale) for rotator in (Credrotator(), gateway))
    done = f"{ours.written} of {ours.others} have a credential"
    yield Row(
        f"{scale.policies} policies over {scale.issuers} issuers, one hung: the others after {scale.hung_s:.0f} s",
        f"{done}, {ours.renewals} renewals, at most {ours.late_s:.2f} s late",
        f"{peer.written} of {peer.others} have a credential",
        goal="<= 1 s late",
        met=ours.written >= ours.others and ours.late_s <= _LATE_S,
        figures={"ours": asdict(ours), "peer": asdict(peer)},
    )


def _hung_for(site: Destination, rotator: Rotator, scale: Scale) -> works.Hung:
    return works.hung_issuer(
        site,
        rotator,
        policies=scale.policies,
        issuers=scale.issuers,
        seconds=scale.hung_s,
        latency_s=scale.latency_s,
    )


def _many(site: Destination, _gateway: Gateway, scale: Scale) -> Iterator[Row]:
    """What grows with the number of policies: cost, restart, and how deployments share it."""
    idle = works.idle(site)
    settings = Settings(life_s=scale.lives_s)
    for policies in scale.sizes:
        site.vendors.set(settings)
        with site.policies(policies) as (namespace, ledger):
            fill = works.fill_namespace(site, Credrotator(), namespace, ledger, policies)
            yield _cost(fill, idle)
            if policies >= scale.policies:
                yield _restart(works.restart(site, namespace, ledger, policies, settings))
    shared = works.shared(site, scale.sizes[-1], deployments=scale.deployments)
    yield Row(
        f"{shared.policies} new policies, shared by {shared.deployments} deployments",
        f"{shared.seconds:.0f} s instead of {fill.seconds:.0f} s, {shared.overlap} exchanged twice",
        met=shared.overlap == 0,
        goal="0 twice",
        figures=asdict(shared),
    )


def _ordinary_day(site: Destination, _gateway: Gateway, scale: Scale) -> Iterator[Row]:
    """The steady state, on the largest number of policies."""
    settings, policies = Settings(life_s=scale.steady_lives_s), scale.sizes[-1]
    site.vendors.set(settings)
    with site.policies(policies) as (namespace, ledger):
        works.fill_namespace(site, Credrotator(), namespace, ledger, policies)
        yield steady_row(works.steady(site, namespace, ledger, policies, seconds=scale.steady_s, settings=settings))


def _cost(fill: Fill, idle: Usage) -> Row:
    cpu_ms = (fill.usage.cpu_s - idle.cpu_s) / fill.policies * 1000
    kib = (fill.usage.peak_mib - idle.peak_mib) / fill.policies * _KIB
    return Row(
        f"cost per policy, of {fill.policies} new ones",
        f"{cpu_ms:.1f} ms of CPU, {kib:.1f} KiB; {fill.policies / fill.working_s:.0f} policies/s",
        goal="flat",
        figures={"fill": asdict(fill), "idle": asdict(idle)},
    )


def _restart(restart: works.Restart) -> Row:
    bound_s = _RESTART_S.get(restart.policies, float("inf"))
    asked = restart.vendor_calls + restart.writes
    return Row(
        f"restart with {restart.policies} fresh Secrets",
        f"ready after {restart.ready_s:.1f} s, all handled after {restart.known_s:.1f} s; "
        f"{restart.vendor_calls} calls, {restart.writes} writes",
        goal=f"0 calls, 0 writes, <= {bound_s:.0f} s",
        met=asked == 0 and restart.known_s <= bound_s,
        figures=asdict(restart),
    )


_PARTS: dict[str, Callable[[Destination, Gateway, Scale], Iterator[Row]]] = {
    "cold": _cold,
    "new": _new_policies,
    "hung": _hung,
    "many": _many,
    "steady": _ordinary_day,
    **MORE_PARTS,
}
PARTS = tuple(_PARTS)
