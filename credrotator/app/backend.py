"""Where a command's policies come from, and where their credentials go: manifests and a directory, or a cluster."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from credrotator.cli import tables as report
from credrotator.cli.options import need_store
from credrotator.core.clock import system_clock
from credrotator.core.errors import RotationError, UsageError
from credrotator.files.manifests import read_manifests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from credrotator.app.cluster import Cluster
    from credrotator.app.settings import Settings
    from credrotator.core.model import ObjectKey, Outcome
    from credrotator.core.ports import SecretStore
    from credrotator.files.directory import DirectoryStore
    from credrotator.policies.inventory import Inventory


def _nothing(_outcome: Outcome) -> None:
    """Nothing follows an outcome."""


def _never(_key: ObjectKey) -> datetime | None:
    """Nobody speaks here."""


@dataclass
class Backend:
    """What a command that looks once works on.

    Attributes:
        inventory: The policies, and what is asked about them.
        namespace: That of names without one.
        problems: What could not be read; it was said already.
        store: Where credentials are published.
        last: The outcome of the latest pass over a policy, as ``report.outcome_document`` has it, with ``at``.
        after: What follows an outcome that was not only looked at.
        directory: The store, if it is one on the file system that somebody named.
        cluster: The cluster, if it is one.
        acknowledged_at: When the gateway last wrote a policy's status; None where that is not known.
    """

    inventory: Inventory
    namespace: str
    store: SecretStore
    last: Callable[[ObjectKey], dict[str, Any] | None]
    problems: list[str] = field(default_factory=list)
    after: Callable[[Outcome], None] = _nothing
    directory: DirectoryStore | None = None
    cluster: Cluster | None = None
    acknowledged_at: Callable[[ObjectKey], datetime | None] = _never


@contextlib.contextmanager
def open_backend(settings: Settings, *, store_needed: bool = True) -> Iterator[Backend]:
    """Read everything, and say on standard error what could not be read.

    Raises:
        UsageError: Nothing can be read there at all.
    """
    with _in_cluster(settings) if settings.in_cluster else _in_directory(settings, store_needed) as found:
        for problem in found.problems:
            click.echo(f"warning: {problem}", err=True)
        yield found


@contextlib.contextmanager
def _in_directory(settings: Settings, store_needed: bool) -> Iterator[Backend]:  # noqa: FBT001
    store = need_store(settings, required=store_needed)
    reading = read_manifests(settings.filenames, sys.stdin, settings.defaults, settings.manifest_options)
    for note in reading.notes:
        click.echo(f"note: {note}", err=True)

    def after(outcome: Outcome) -> None:
        store.record(report.outcome_document(outcome), outcome.policy)

    namespace, directory = settings.defaults.namespace, store if settings.out else None
    yield Backend(reading.inventory, namespace, store, store.last_outcome, reading.problems, after, directory)


@contextlib.contextmanager
def _in_cluster(settings: Settings) -> Iterator[Backend]:
    from credrotator.app.cluster import Cluster  # noqa: PLC0415 - without -f only

    try:
        with Cluster(settings, system_clock) as cluster:
            inventory, problems = cluster.read()
            yield Backend(
                inventory,
                settings.namespace or cluster.api.default_namespace,
                cluster.store,
                cluster.last_outcome,
                problems,
                cluster.after,
                cluster=cluster,
                acknowledged_at=cluster.acknowledged_at,
            )
    except RotationError as error:
        raise UsageError(f"{error.message}; {error.hint}") from error
