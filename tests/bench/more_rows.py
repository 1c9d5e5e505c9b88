"""What is said of the works that are credrotator's alone: short lives, scrapes, tenants, forms."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import TYPE_CHECKING

from tests.bench import more_works, works
from tests.bench.subjects import Credrotator
from tests.bench.table import Row
from tests.bench.vendors import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.bench.scale import Scale
    from tests.bench.site import Destination
    from tests.bench.subjects import Gateway

_CORES, _MIB, _DELAY_S = 0.5, 300, 5.0
_SHORT_CORES, _SHORT_LATE_S = 0.25, 1.0
_APART = 0.1
_KIB = 1024


def _short_lives(site: Destination, _gateway: Gateway, scale: Scale) -> Iterator[Row]:
    """Many policies whose credentials live for a quarter of an hour; then their metrics are read."""
    policies, first = scale.sizes[-1], Settings(life_s=(scale.short_life_s / 7.5, scale.short_life_s))
    site.vendors.set(first)
    with site.policies(policies) as (namespace, ledger):
        works.fill_namespace(site, Credrotator(), namespace, ledger, policies)
        settings = Settings(life_s=(scale.short_life_s, scale.short_life_s))
        steady = works.steady(site, namespace, ledger, policies, seconds=scale.short_s, settings=settings)
        lives = f", lives of {scale.short_life_s / 60:.0f} min"
        yield steady_row(steady, lives, cores=_SHORT_CORES, late_s=_SHORT_LATE_S)
        yield _scrape(more_works.scrapes(site, namespace, ledger, policies, settings=settings))


def steady_row(steady: works.Steady, lives: str = "", *, cores: float = _CORES, late_s: float = _DELAY_S) -> Row:
    """Say how many policies fared, each renewed in its time."""
    lateness_s = max(steady.late_p99_s, steady.new_p99_s)
    return Row(
        f"{steady.policies} policies at steady state{lives}, {steady.rate:.1f} rotations/s",
        f"{steady.cores:.2f} core, {steady.peak_mib:.0f} MiB; p99: {steady.late_p99_s:.2f} s late, "
        f"a new policy's Secret {steady.new_p99_s:.2f} s",
        goal=f"< {cores} core, <= {_MIB} MiB, <= {late_s:.0f} s, <= {late_s:.0f} s",
        met=steady.cores < cores and steady.peak_mib <= _MIB and lateness_s <= late_s,
        figures=asdict(steady),
    )


def _scrape(scrapes: more_works.Scrapes) -> Row:
    return Row(
        f"a scrape of `/metrics` with {scrapes.policies} policies",
        f"{statistics.median(scrapes.seconds):.2f} s, {scrapes.cpu_s:.2f} s of CPU, {scrapes.size_bytes // _KIB} KiB",
        figures=asdict(scrapes),
    )


def _tenants(site: Destination, _gateway: Gateway, scale: Scale) -> Iterator[Row]:
    both = more_works.tenants(site, scale.policies)
    yield Row(
        f"{both.policies} new policies of each of two tenants",
        f"done after {both.seconds[0]:.1f} and {both.seconds[1]:.1f} s, {both.apart:.0%} apart",
        goal="<= 10% apart",
        met=both.apart <= _APART,
        figures=asdict(both),
    )


def _forms(site: Destination, _gateway: Gateway, scale: Scale) -> Iterator[Row]:
    """The same policies in the managed form, and without a cluster."""
    fill = more_works.managed(site, scale.policies)
    yield Row(
        f"{fill.policies} new policies in the managed form",
        f"{fill.seconds:.1f} s, {fill.usage.cpu_s:.1f} s of CPU, {fill.requests:.1f} requests per policy",
        figures=asdict(fill),
    )
    done = more_works.directory(site, scale.policies)
    yield Row(
        f"`rotate` of {done.policies} new policies over a directory, with a template",
        f"{done.seconds:.1f} s, {done.cpu_s:.1f} s of CPU",
        figures=asdict(done),
    )


MORE_PARTS: dict[str, Callable[[Destination, Gateway, Scale], Iterator[Row]]] = {
    "short": _short_lives,
    "tenants": _tenants,
    "forms": _forms,
}
