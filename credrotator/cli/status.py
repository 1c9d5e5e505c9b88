"""``credrotator status``: where each policy's credential stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from credrotator.app.backend import open_backend
from credrotator.app.settings import Span
from credrotator.cli import status_report as statusreport
from credrotator.cli.colours import painter, show
from credrotator.cli.live import View, watch
from credrotator.cli.options import choose, exchanger, read_settings, reads_policies
from credrotator.cli.tables import structured
from credrotator.core.clock import system_clock
from credrotator.core.errors import UsageError
from credrotator.diagnosis.overview import Row, overview
from credrotator.rotation.rotation import Rotation

if TYPE_CHECKING:
    from datetime import timedelta

    from credrotator.app.settings import Settings


@click.command("status")
@reads_policies
@click.option("-w", "--watch", "again", is_flag=True, help="Look again and again, until Ctrl-C.")
@click.option("--interval", type=Span(), default="2s", show_default=True, help="How often to look with --watch.")
def command(names: tuple[str, ...], *, output: str, again: bool, interval: timedelta, **common: Any) -> None:
    """Show where each policy's credential stands, and who depends on it.

    Calls neither issuers nor vendors, and writes nothing. STATE is Fresh, Due (renewal is near), Edited (the policy
    changed since), Parked, Expired, Missing, Unreadable; Invalid or Broken policies cannot work, Static ones need no
    rotation. What is wrong and what to do stands below the table. Wide adds models, identity, Secret, and in a cluster
    whether the gateway has looked at the policy since its credential was issued (ACKNOWLEDGED).

    \b
    Examples:
      credrotator status -A
      # a directory, looked at every two seconds
      credrotator status -f policies/ --out /var/lib/credrotator --watch
      # who is affected by one policy
      credrotator status -f policies/ --out out/ prod/aws-bedrock -o wide
      # the names of those that are not well
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
    with open_backend(settings) as here:
        rotation, now = Rotation(here.store, exchanger(settings), system_clock), system_clock()
        keys = choose(here.inventory, names, settings, here.namespace)
        return [
            overview(key, here.inventory, rotation, here.last(key), now, acknowledged_at=here.acknowledged_at(key))
            for key in keys
        ]
