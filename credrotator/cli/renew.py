"""``credrotator renew``: new credentials now, by whoever rotates the policies."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from credrotator.app.exchanging import make_rotation
from credrotator.app.opening import open_backend
from credrotator.app.tracing import traces
from credrotator.cli import tables as report
from credrotator.cli.colours import painter, show
from credrotator.cli.options import (
    DEFAULT_WORKERS,
    PolicyCommand,
    names_policies,
    read_settings,
    reading_options,
    verify_credentials_option,
    within_namespaces,
)
from credrotator.cli.progress import progress
from credrotator.cli.selection import chosen, read
from credrotator.core.clock import system_clock
from credrotator.core.errors import RotationError, UsageError
from credrotator.core.model import RotatablePolicy
from credrotator.exchange.http.clock_offset import SkewedClock
from credrotator.observability.audit import Audit
from credrotator.rotation.batch import Batch
from credrotator.rotation.rotation import RotateOptions

if TYPE_CHECKING:
    from credrotator.app.backend import Backend, Snapshot
    from credrotator.app.settings import Settings
    from credrotator.core.instrumentation import Instrumentation
    from credrotator.core.model import ObjectKey


@click.command("renew", cls=PolicyCommand)
@names_policies
@reading_options
@verify_credentials_option
def command(names: tuple[str, ...], **common: Any) -> None:
    """Renew the credentials of the named policies now, whether they are due or not.

    In a cluster, the policies are annotated with credrotator.io/renew-requested-at. The daemon renews their credentials
    within seconds, a CronJob at its next run; "credrotator wait" waits for that. With -f, the credentials are renewed
    by this command, as "rotate --force" does.

    \b
    Examples:
      # in a cluster, and wait until it is done
      credrotator renew prod/aws-bedrock && credrotator wait prod/aws-bedrock
      # in a directory
      credrotator renew -f policies/ --out /var/lib/credrotator prod/aws-bedrock

    Exit codes: 0 success, 1 some policies failed, 2 usage error.
    """  # noqa: D301 - \b keeps click from filling the paragraph
    if not names:
        raise UsageError("name the policies to renew; to renew all that are due, use rotate")
    settings, clock = within_namespaces(read_settings(common), names), SkewedClock(system_clock)
    with traces() as instrumentation, open_backend(settings, clock) as backend:
        snapshot = read(backend)
        keys = chosen(snapshot, names, settings)
        # All names before the first request: a mistake in the last one must not leave half of the renewals requested.
        _refuse_static(snapshot, keys)
        # In a cluster the daemon is asked, which may be at it already: two that renew one policy would each make an
        # exchange.
        failed, unheard = _request(snapshot, keys)
        if unheard:
            failed |= _rotate(settings, backend, snapshot, unheard, clock=clock, instrumentation=instrumentation)
    sys.exit(int(failed))


def _refuse_static(snapshot: Snapshot, keys: list[ObjectKey]) -> None:
    for key in keys:
        policy = snapshot.inventory.policies.get(key)
        if policy is not None and not isinstance(policy, RotatablePolicy):
            raise UsageError(f"{key} needs no rotation, so there is nothing to renew")


def _request(snapshot: Snapshot, keys: list[ObjectKey]) -> tuple[bool, list[ObjectKey]]:
    """Ask for renewals; return whether one could not be asked for, and those that nobody is to be asked for."""
    failed, unheard = False, []
    # With the fraction of its second: who asks twice within one, after a failure, means it.
    request = system_clock().isoformat(timespec="microseconds")
    for key in keys:
        try:
            if snapshot.request_renewal(key, request):
                click.echo(f"{key}: renewal requested")
            else:
                unheard.append(key)
        except RotationError as error:
            click.echo(f"{key}: {error.reason}: {error.message}\n  what to do: {error.hint}", err=True)
            failed = True
    return failed, unheard


def _rotate(
    settings: Settings,
    backend: Backend,
    snapshot: Snapshot,
    keys: list[ObjectKey],
    *,
    clock: SkewedClock,
    instrumentation: Instrumentation,
) -> bool:
    """Renew in this process; tell whether something failed."""
    audit = Audit()
    rotation = make_rotation(settings, backend, clock, instrumentation=instrumentation, audit=audit)
    batch = Batch(rotation, snapshot.listener(), clock, audit=audit, instrumentation=instrumentation)
    with progress() as shown:
        # This command is for a few names, so it has no option for it.
        outcomes = batch(keys, snapshot.inventory, RotateOptions(force=True), workers=DEFAULT_WORKERS, progress=shown)
    show(report.rotate_table(outcomes, system_clock(), wide=False, dry_run=False, paint=painter()))
    return any(outcome.action == "failed" for outcome in outcomes)
