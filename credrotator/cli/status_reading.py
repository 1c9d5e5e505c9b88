"""What ``status`` reads: one place, or the clusters of several contexts; printed by others."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import click

from credrotator.app.choosing import choose, policy_of
from credrotator.app.fleet import read_clusters
from credrotator.app.opening import open_backend
from credrotator.cli.selection import chosen, read
from credrotator.core.clock import system_clock
from credrotator.core.errors import UsageError
from credrotator.core.model import ObjectKey
from credrotator.diagnosis.overview import NoExchange, Row, overview
from credrotator.exchange.http.clock_offset import SkewedClock
from credrotator.rotation.rotation import Rotation

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from credrotator.app.backend import Backend, Snapshot
    from credrotator.app.fleet import ClusterReading
    from credrotator.app.settings import Settings


@dataclass(frozen=True, slots=True)
class Status:
    """All that was read.

    Attributes:
        rows: Of the policies that are meant; with their context where there are several.
        complete: Whether everything could be read.
        contexts: Of the clusters that were asked; empty where only one place was.
        unread: Why nothing was read of a cluster, by its context.
        problems: What could not be read of a cluster, by its context; of one place, it was said while reading.
    """

    rows: list[Row]
    complete: bool
    contexts: tuple[str, ...] = ()
    unread: dict[str, str] = field(default_factory=dict)
    problems: dict[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Cluster:
    rows: list[Row]
    problems: Sequence[str]
    named: frozenset[str]


def read_status(settings: Settings, names: Sequence[str], contexts: Sequence[str]) -> Status:
    """Read everything, and describe each policy that is meant; what could not be read is said on standard error.

    Args:
        settings: Where.
        names: Of policies; none means all.
        contexts: Of several clusters; none means the one place that the settings name.

    Raises:
        UsageError, RotationError: Nothing can be read at all, or a policy that is named is nowhere.
    """
    if contexts:
        return _fleet(read_clusters(settings, contexts, lambda one: _read_cluster(one, names)), names)
    with open_backend(settings, SkewedClock(system_clock), writes=False) as backend:
        snapshot = read(backend)
        rows = _rows(backend, snapshot, chosen(snapshot, names, settings), settings)
        return Status(rows, not snapshot.problems)


def _read_cluster(settings: Settings, names: Sequence[str]) -> _Cluster:
    """Read one of several clusters; a policy that is named may be in another one. Says nothing: it is in a thread."""
    with open_backend(settings, SkewedClock(system_clock), writes=False) as backend:
        snapshot = backend.read()
        # Without the names: a policy that this cluster lacks is no error here, see ``_refuse_unknown``.
        keys, named = choose(snapshot, (), settings), frozenset[str]()
        if names:
            meant = {policy_of(ObjectKey.parse(name, snapshot.namespace), keys): name for name in names}
            keys = [key for key in keys if key in meant]
            named = frozenset(meant[key] for key in keys)
        return _Cluster(_rows(backend, snapshot, keys, settings), snapshot.problems, named)


def _rows(backend: Backend, snapshot: Snapshot, keys: Iterable[ObjectKey], settings: Settings) -> list[Row]:
    # One moment for all rows, so that two policies that expire together are shown alike.
    rotation, now = Rotation(backend.store, NoExchange(), system_clock), system_clock()
    return [
        overview(
            key,
            snapshot.inventory,
            rotation,
            snapshot.last_outcome(key),
            now,
            acknowledged_at=snapshot.acknowledged_at(key),
            in_use=snapshot.in_use,
            # Manifests without --out: nobody said where credentials are, so "Missing" would be a guess.
            published_known=not settings.filenames or settings.out is not None,
        )
        for key in keys
    ]


def _fleet(readings: Sequence[ClusterReading[_Cluster]], names: Sequence[str]) -> Status:
    clusters = {reading.context: reading.content for reading in readings if reading.content}
    unread = {reading.context: reading.error for reading in readings if reading.error}
    _refuse_unknown(names, clusters.values(), unread)
    problems = {context: each.problems for context, each in clusters.items() if each.problems}
    for context, each in problems.items():
        for problem in each:
            click.echo(f"warning: {context}: {problem}", err=True)
    rows = [replace(row, context=context) for context, each in clusters.items() for row in each.rows]
    contexts = tuple(reading.context for reading in readings)
    return Status(rows, not unread and not problems, contexts, unread, problems)


def _refuse_unknown(names: Sequence[str], clusters: Iterable[_Cluster], unread: dict[str, str]) -> None:
    """Refuse a name that no cluster has; where one could not be read, it may be there."""
    unknown = [] if unread else sorted(set(names).difference(*(each.named for each in clusters)))
    if unknown:
        raise UsageError(f"there is no policy {unknown[0]} in any of these clusters")
