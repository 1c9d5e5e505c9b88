"""``credrotator status``: where each policy's credential stands."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from credrotator.app.fleet import meant_contexts
from credrotator.cli import completions as completing
from credrotator.cli import status_report as statusreport
from credrotator.cli.colours import painter, show
from credrotator.cli.habits import is_quiet
from credrotator.cli.live import View, watch
from credrotator.cli.options import PolicyCommand, read_settings, reads_policies, verification_options
from credrotator.cli.parameters import Span
from credrotator.cli.status_reading import read_status
from credrotator.cli.tables import structured
from credrotator.core.clock import system_clock
from credrotator.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from credrotator.cli.status_reading import Status
    from credrotator.cli.tables import Paint

NOTHING_READ = 2
"""The exit code where of several clusters none can be read: as where the only one cannot."""


@click.command("status", cls=PolicyCommand)
@reads_policies
@click.option("-w", "--watch", "again", is_flag=True, help="Refresh the output until Ctrl-C.")
@click.option("--interval", type=Span(), default="2s", show_default=True, help="Refresh interval of --watch.")
@click.option("--sort-by", "by", type=click.Choice([*statusreport.ORDERS]), default="policy", help="Order of policies.")
@click.option(
    "--contexts",
    multiple=True,
    metavar="NAME[,NAME]...",
    shell_complete=completing.context_lists,
    help="Kubeconfig contexts of several clusters, shown in one table.",
)
@click.option("--all-contexts", is_flag=True, help="All contexts of the kubeconfig.")
@verification_options
@click.option("--exit-code", is_flag=True, help="End with 1 if a policy needs attention.")
def command(
    names: tuple[str, ...],
    *,
    output: str,
    again: bool,
    interval: timedelta,
    by: str,
    contexts: tuple[str, ...],
    all_contexts: bool,
    exit_code: bool,
    **common: Any,
) -> int:
    """Show the state of each policy's credential, and the backends and routes that depend on it.

    Calls neither issuers nor vendors, and writes nothing. STATE is Fresh, Due (renewal is near), Edited (the policy,
    or an option that its credential depends on, has changed since), Parked, Expired, Missing or Unreadable; Invalid and
    Broken policies cannot work, Static ones need no rotation. With -f and without --out, it is Unknown what is
    published. Problems and what to do about them are listed below the table. The wide format adds models, identity,
    Secret and, in a cluster, whether the gateway has processed the policy since its credential was issued
    (ACKNOWLEDGED) and, with --verify-delivery, whether its filter is configured with that credential (IN USE).

    With --contexts or --all-contexts, the clusters of several contexts are read side by side. One that cannot be read
    is a line with the reason.

    \b
    Examples:
      credrotator status -A
      # follow a directory
      credrotator status -f policies/ --out /var/lib/credrotator --watch
      # end with 1 if a policy needs attention: not Fresh, Due, Static or NotSupported, or the last attempt failed
      credrotator status -A -q --exit-code
      # show all policies of two clusters, or of all that the kubeconfig names
      credrotator status -A --contexts staging,production
      credrotator status -A --all-contexts
      # show what depends on one policy
      credrotator status -f policies/ --out out/ prod/aws-bedrock -o wide
      # list the policies that need attention
      credrotator status -A -o json | jq -r '.policies[] | select(.state != "Fresh") | .policy'
    """  # noqa: D301 - \b keeps click from filling the paragraph
    named = _contexts(common, contexts, every=all_contexts)
    settings, paint = read_settings(common), painter()
    fleet = () if named == () else meant_contexts(settings, named)
    read = partial(read_status, settings, names, fleet)
    if again:
        # Standard input is at its end after the first reading, and each later one would find no policies.
        if "-" in settings.filenames:
            raise UsageError("--watch reads the manifests again, so -f - is not possible; name files or directories")
        _watch(read, output, interval, paint, by=by)
        return 0
    status = read()
    _print(status, output, paint, by=by)
    # Some that cannot be read are shown, and the rest is worth something; with --exit-code they count.
    if fleet and len(status.unread) == len(fleet):
        return NOTHING_READ
    return int(exit_code and (not status.complete or any(row.needs_attention for row in status.rows)))


def _print(status: Status, output: str, paint: Paint, *, by: str) -> None:
    rows = statusreport.ordered(status, by)
    shown = [row for row in rows if row.needs_attention] if is_quiet() else rows
    if output in {"json", "yaml"}:
        click.echo(structured(statusreport.documents(rows, status), output), nl=False)
    elif output == "name":
        click.echo(statusreport.names(shown, status), nl=False)
        for context, why in status.unread.items():
            click.echo(f"warning: {context}: {why}", err=True)
    elif shown or status.unread or not is_quiet():
        table = statusreport.table(shown, system_clock(), wide=output == "wide", paint=paint, status=status)
        notes = statusreport.explanations(shown, paint) if is_quiet() else statusreport.notes(shown, paint, status)
        show(table + notes)


def _contexts(common: dict[str, Any], names: Sequence[str], *, every: bool) -> tuple[str, ...] | None:
    """Return the contexts that are named, none for one place; None: all.

    Raises:
        UsageError: What was typed contradicts itself.
    """
    if not names and not every:
        return ()
    typed = click.get_current_context().get_parameter_source("context") is ParameterSource.COMMANDLINE
    given = [("--context", typed), ("--contexts", bool(names)), ("--all-contexts", every)]
    if len(both := [name for name, is_there in given if is_there]) > 1:
        raise UsageError(f"{' and '.join(both)} exclude each other")
    # A context from the config file or CREDROTATOR_CONTEXT is meant for other commands, and gives way; one that was
    # typed is a contradiction, above.
    common["context"] = None
    # One that is empty is left, so that it is missed.
    return None if every else tuple(name.strip() for text in names for name in text.split(",") if name.strip()) or ("",)


def _watch(read: Callable[[], Status], output: str, interval: timedelta, paint: Paint, *, by: str) -> None:
    """Refresh until Ctrl-C; what matters comes first, as a screen shows only the beginning."""
    if output not in {"table", "wide"}:
        raise UsageError(f"--watch shows tables; for -o {output} call status again, or read the daemon's metrics")

    def view_now() -> View:
        status = read()
        rows = statusreport.unwell_first(statusreport.ordered(status, by))
        shown = [row for row in rows if row.needs_attention] if is_quiet() else rows
        table = statusreport.table(shown, system_clock(), wide=output == "wide", paint=paint, status=status)
        # A line of the table is cut at the edge of the screen, and the reason with it.
        notes = statusreport.reasons(status, paint) + statusreport.explanations(shown, paint)
        return View(f"{statusreport.summary(rows, paint, status)}\n{table}", notes)

    watch(view_now, system_clock, interval, paint)
