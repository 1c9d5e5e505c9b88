"""``credrotator rotate``: one pass over the policies that are due."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from credrotator.app.consumers import run_hooks
from credrotator.app.exchanging import make_rotation
from credrotator.app.opening import open_backend
from credrotator.app.outcome_documents import rotate_document
from credrotator.app.tracing import traces
from credrotator.cli import tables as report
from credrotator.cli.colours import painter, show
from credrotator.cli.habits import is_quiet
from credrotator.cli.options import (
    PolicyCommand,
    consumer_options,
    read_consumers,
    read_settings,
    reads_policies,
    setting,
    verify_credentials_option,
    workers_option,
)
from credrotator.cli.parameters import Span
from credrotator.cli.progress import progress
from credrotator.cli.selection import chosen, read
from credrotator.core.clock import system_clock
from credrotator.exchange.http.clock_offset import SkewedClock
from credrotator.observability.audit import Audit
from credrotator.rotation.batch import Batch
from credrotator.rotation.rotation import RotateOptions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from credrotator.core.outcome import Failure, Outcome


@click.command("rotate", cls=PolicyCommand)
@reads_policies
@setting("--force", is_flag=True, help="Rotate even if the credential is not due.")
@setting("--dry-run", is_flag=True, help="Show what would be done; call no service, write nothing.")
@setting(
    "--within", type=Span(), default="0s", help="Also rotate what becomes due within this time.", show_default=True
)
@consumer_options
@verify_credentials_option
@workers_option
def command(
    names: tuple[str, ...],
    *,
    output: str,
    force: bool,
    dry_run: bool,
    within: timedelta,
    workers: int,
    **common: Any,
) -> None:
    """Rotate the credentials that are due, once.

    \b
    Examples:
      # rotate what is due, or becomes due before cron runs again in 10 minutes
      credrotator rotate -f policies/ --out /var/lib/credrotator --within 15m
      # show what would be done
      credrotator rotate -f policies/ --out /var/lib/credrotator --dry-run
      # rotate one policy that is not due
      credrotator rotate -f policies/ --out out/ prod/aws-bedrock --force
      # also write the filter's configuration from a template
      credrotator rotate -f policies/ --out out/ --template filter.yaml.j2:/etc/ext-proc/filter.yaml
      # have a program read its files again
      credrotator rotate -f policies/ --out out/ --exec 'systemctl reload envoy'
      # publish a cluster's policies to a directory, and print the result as JSON
      kubectl get backendsecuritypolicies,secrets -A -o yaml | credrotator rotate -f - --out out/ -o json

    Exit codes: 0 success, 1 some policies failed, 2 usage error.
    """  # noqa: D301 - \b keeps click from filling the paragraph
    consumers, settings, clock = read_consumers(common), read_settings(common), SkewedClock(system_clock)
    options, audit = RotateOptions(within, force, dry_run), Audit()
    with traces() as instrumentation, open_backend(settings, clock, consumers, writes=not dry_run) as backend:
        # One pass has nobody to keep slots for, and no second try for whom it would keep waiting.
        rotation = make_rotation(
            settings, backend, clock, instrumentation=instrumentation, audit=audit, slots=4 * workers
        )
        snapshot = read(backend)
        keys, renderer = chosen(snapshot, names, settings), snapshot.renderer
        batch = Batch(rotation, snapshot.listener(), clock, audit=audit, instrumentation=instrumentation)
        unheard: list[Failure] = []
        with progress() as shown:
            outcomes = batch(keys, snapshot.inventory, options, workers=workers, progress=shown)
        # After all policies, once: a program that reloads a consumer is not run ten times for ten policies.
        if not dry_run:
            renderer.render()
            outcomes, unheard = run_hooks(snapshot.hooks, outcomes)
    _print(outcomes, output, dry_run=dry_run)
    for failure in renderer.failures.values():
        click.echo(f"template: {failure.reason}: {failure.message}\n  what to do: {failure.hint}", err=True)
    for unmet in unheard:
        click.echo(f"hook: {unmet.reason}: {unmet.message}\n  what to do: {unmet.hint}", err=True)
    failed = bool(unheard) or any(outcome.action == "failed" for outcome in outcomes)
    sys.exit(int(failed or bool(snapshot.problems) or bool(renderer.failures)))


def _print(outcomes: Sequence[Outcome], output: str, *, dry_run: bool) -> None:
    if output in {"json", "yaml"}:
        click.echo(report.structured(rotate_document(outcomes), output), nl=False)
    elif output == "name":
        shown = [outcome.policy for outcome in outcomes if outcome.error or not is_quiet()]
        click.echo(report.names(shown), nl=False)
    elif is_quiet():
        show(report.failures(outcomes, painter()))
    else:
        wide = output == "wide"
        show(report.rotate_table(outcomes, system_clock(), wide=wide, dry_run=dry_run, paint=painter()))
