"""``credrotator status``: where each policy's credential stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from credrotator.app.opening import open_backend
from credrotator.cli import status_report as statusreport
from credrotator.cli.colours import painter, show
from credrotator.cli.habits import is_quiet
from credrotator.cli.live import View, watch
from credrotator.cli.options import PolicyCommand, read_settings, reads_policies, verification_options
from credrotator.cli.parameters import Span
from credrotator.cli.selection import chosen, read
from credrotator.cli.tables import names as names_of
from credrotator.cli.tables import structured
from credrotator.core.clock import system_clock
from credrotator.core.errors import UsageError
from credrotator.diagnosis.overview import NoExchange, Row, overview
from credrotator.exchange.http.clock_offset import SkewedClock
from credrotator.rotation.rotation import Rotation

if TYPE_CHECKING:
    from datetime import timedelta

    from credrotator.app.settings import Settings
    from credrotator.cli.tables import Paint


@click.command("status", cls=PolicyCommand)
@reads_policies
@click.option("-w", "--watch", "again", is_flag=True, help="Refresh the output until Ctrl-C.")
@click.option("--interval", type=Span(), default="2s", show_default=True, help="Refresh interval of --watch.")
@click.option("--sort-by", "by", type=click.Choice([*statusreport.ORDERS]), default="policy", help="Order of policies.")
@verification_options
@click.option("--exit-code", is_flag=True, help="End with 1 if a policy needs attention.")
def command(
    names: tuple[str, ...],
    *,
    output: str,
    again: bool,
    interval: timedelta,
    by: str,
    exit_code: bool,
    **common: Any,
) -> int:
    """Show the state of each policy's credential, and the backends and routes that depend on it.

    Calls neither issuers nor vendors, and writes nothing. STATE is Fresh, Due (renewal is near), Edited (the policy
    has changed since), Parked, Expired, Missing or Unreadable; Invalid and Broken policies cannot work, Static ones
    need no rotation. With -f and without --out, it is Unknown what is published. Problems and what to do about them
    are listed below the table. The wide format adds models,
    identity, Secret and, in a cluster, whether the gateway has processed the policy since its credential was issued
    (ACKNOWLEDGED) and, with --verify-delivery, whether its filter is configured with that credential (IN USE).

    \b
    Examples:
      credrotator status -A
      # follow a directory
      credrotator status -f policies/ --out /var/lib/credrotator --watch
      # end with 1 if a policy needs attention: not Fresh, Due, Static or NotSupported, or the last attempt failed
      credrotator status -A -q --exit-code
      # show what depends on one policy
      credrotator status -f policies/ --out out/ prod/aws-bedrock -o wide
      # list the policies that need attention
      credrotator status -A -o json | jq -r '.policies[] | select(.state != "Fresh") | .policy'
    """  # noqa: D301 - \b keeps click from filling the paragraph
    settings, paint = read_settings(common), painter()
    if again:
        _watch(settings, names, output, interval, paint, by=by)
        return 0
    rows, complete = _rows(settings, names)
    rows = statusreport.in_order(rows, by)
    shown = [row for row in rows if row.needs_attention] if is_quiet() else rows
    if output in {"json", "yaml"}:
        click.echo(structured({"policies": [statusreport.document(row) for row in rows]}, output), nl=False)
    elif output == "name":
        click.echo(names_of(row.policy for row in shown), nl=False)
    elif shown or not is_quiet():
        table = statusreport.table(shown, system_clock(), wide=output == "wide", paint=paint)
        show(table + (statusreport.explanations if is_quiet() else statusreport.notes)(shown, paint))
    return int(exit_code and (not complete or any(row.needs_attention for row in rows)))


def _watch(
    settings: Settings, names: tuple[str, ...], output: str, interval: timedelta, paint: Paint, *, by: str
) -> None:
    """Refresh until Ctrl-C; what matters comes first, as a screen shows only the beginning."""
    if output not in {"table", "wide"}:
        raise UsageError(f"--watch shows tables; for -o {output} call status again, or read the daemon's metrics")
    if "-" in settings.filenames:
        raise UsageError("--watch reads the manifests again, so -f - is not possible; name files or directories")

    def view_now() -> View:
        rows = statusreport.unwell_first(statusreport.in_order(_rows(settings, names)[0], by))
        shown = [row for row in rows if row.needs_attention] if is_quiet() else rows
        table = statusreport.table(shown, system_clock(), wide=output == "wide", paint=paint)
        return View(f"{statusreport.summary(rows, paint)}\n{table}", statusreport.explanations(shown, paint))

    watch(view_now, system_clock, interval, paint)


def _rows(settings: Settings, names: tuple[str, ...]) -> tuple[list[Row], bool]:
    """Read everything, and describe each policy that is meant; False: something could not be read."""
    with open_backend(settings, SkewedClock(system_clock), writes=False) as backend:
        rotation = Rotation(backend.store, NoExchange(), system_clock)
        snapshot, now = read(backend), system_clock()
        rows = [
            overview(
                key,
                snapshot.inventory,
                rotation,
                snapshot.last_outcome(key),
                now,
                acknowledged_at=snapshot.acknowledged_at(key),
                in_use=snapshot.in_use,
                published_known=not settings.filenames or settings.out is not None,
            )
            for key in chosen(snapshot, names, settings)
        ]
        return rows, not snapshot.problems
