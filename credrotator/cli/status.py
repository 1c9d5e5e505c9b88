"""``credrotator status``: where each policy's credential stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from credrotator.app.opening import open_backend
from credrotator.cli import status_report as statusreport
from credrotator.cli.colours import painter, show
from credrotator.cli.live import View, watch
from credrotator.cli.options import PolicyCommand, read_settings, reads_policies
from credrotator.cli.parameters import Span
from credrotator.cli.selection import chosen, read
from credrotator.cli.tables import structured
from credrotator.core.clock import system_clock
from credrotator.core.errors import UsageError
from credrotator.diagnosis.overview import NoExchange, Row, overview
from credrotator.exchange.http.clock_offset import SkewedClock
from credrotator.rotation.rotation import Rotation

if TYPE_CHECKING:
    from datetime import timedelta

    from credrotator.app.settings import Settings


@click.command("status", cls=PolicyCommand)
@reads_policies
@click.option("-w", "--watch", "again", is_flag=True, help="Refresh the output until Ctrl-C.")
@click.option("--interval", type=Span(), default="2s", show_default=True, help="Refresh interval of --watch.")
def command(names: tuple[str, ...], *, output: str, again: bool, interval: timedelta, **common: Any) -> None:
    """Show the state of each policy's credential, and the backends and routes that depend on it.

    Calls neither issuers nor vendors, and writes nothing. STATE is Fresh, Due (renewal is near), Edited (the policy
    has changed since), Parked, Expired, Missing or Unreadable; Invalid and Broken policies cannot work, Static ones
    need no rotation. Problems and what to do about them are listed below the table. The wide format adds models,
    identity, Secret and, in a cluster, whether the gateway has processed the policy since its credential was issued
    (ACKNOWLEDGED).

    \b
    Examples:
      credrotator status -A
      # follow a directory
      credrotator status -f policies/ --out /var/lib/credrotator --watch
      # show what depends on one policy
      credrotator status -f policies/ --out out/ prod/aws-bedrock -o wide
      # list the policies that need attention
      credrotator status -A -o json | jq -r '.policies[] | select(.state != "Fresh") | .policy'
    """  # noqa: D301 - \b keeps click from filling the paragraph
    settings, paint = read_settings(common), painter()
    if again:
        if output in {"json", "yaml"}:
            raise UsageError(f"--watch shows tables; for -o {output} call status again, or read the daemon's metrics")
        if "-" in settings.filenames:
            raise UsageError("--watch reads the manifests again, so -f - is not possible; name files or directories")

    def view_now() -> View:
        rows, now = _rows(settings, names), system_clock()
        return View(statusreport.table(rows, now, wide=output == "wide", paint=paint), statusreport.notes(rows, paint))

    if again:
        watch(view_now, system_clock, interval, paint)
    elif output in {"json", "yaml"}:
        rows = _rows(settings, names)
        click.echo(structured({"policies": [statusreport.document(row) for row in rows]}, output), nl=False)
    else:
        view = view_now()
        show(view.table + view.notes)


def _rows(settings: Settings, names: tuple[str, ...]) -> list[Row]:
    """Read everything, and describe each policy that is meant."""
    with open_backend(settings, SkewedClock(system_clock)) as backend:
        rotation = Rotation(backend.store, NoExchange(), system_clock)
        snapshot, now = read(backend), system_clock()
        return [
            overview(
                key,
                snapshot.inventory,
                rotation,
                snapshot.last_outcome(key),
                now,
                acknowledged_at=snapshot.acknowledged_at(key),
            )
            for key in chosen(snapshot, names, settings)
        ]
