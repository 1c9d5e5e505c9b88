"""``credrotator rotate``: one pass over the policies that are due."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol

import click

from credrotator.app.backend import open_backend
from credrotator.app.settings import Span, setting
from credrotator.app.tracing import traces
from credrotator.cli import tables as report
from credrotator.cli.colours import painter, show
from credrotator.cli.options import choose, exchanger, read_settings, reads_policies, workers_option
from credrotator.cli.progress import progress
from credrotator.core.clock import system_clock
from credrotator.core.errors import UsageError
from credrotator.core.model import Outcome, Sensitive
from credrotator.exchange.http.clock_offset import SkewedClock
from credrotator.observability.audit import Audit
from credrotator.rotation.batch import run_batch
from credrotator.rotation.rotation import RotateOptions, Rotation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from credrotator.core.errors import RotationError
    from credrotator.files.directory import DirectoryStore
    from credrotator.policies.inventory import Inventory


class HasInventory(Protocol):
    """A reading, or a source that reads again."""

    @property
    def inventory(self) -> Inventory:
        """What was read last."""


class Renderer(Protocol):
    """What renders files after a publication."""

    @property
    def failures(self) -> Mapping[Any, RotationError]:
        """What went wrong in the last rendering, by file."""

    def render(self) -> None:
        """Render everything anew."""


class _NothingToRender:
    """Renders no file; what renders some is imported only where there is one, since Jinja2 takes its time to load."""

    def __init__(self) -> None:
        self.failures: dict[Any, RotationError] = {}

    def render(self) -> None:
        """Do nothing."""


@click.command("rotate")
@reads_policies
@setting("--force", is_flag=True, help="Rotate although it is not due.")
@setting("--dry-run", is_flag=True, help="Say what would be done; call nobody, write nothing.")
@setting("--within", type=Span(), default="0s", help="Also what would be due this long from now.", show_default=True)
@setting("--template", multiple=True, metavar="SRC:DST", help="Render a file after each publish; repeatable.")
@workers_option
def command(
    names: tuple[str, ...],
    *,
    output: str,
    force: bool,
    dry_run: bool,
    within: timedelta,
    template: tuple[str, ...],
    workers: int,
    **common: Any,
) -> None:
    """Rotate what is due, once: one pass over the policies.

    \b
    Examples:
      # what is due now, and what would be before cron calls again in 10 minutes
      credrotator rotate -f policies/ --out /var/lib/credrotator --within 15m
      # what would be done, without doing it
      credrotator rotate -f policies/ --out /var/lib/credrotator --dry-run
      # one policy, though it is not due
      credrotator rotate -f policies/ --out out/ prod/aws-bedrock --force
      # and write the filter's configuration from a template
      credrotator rotate -f policies/ --out out/ --template filter.yaml.j2:/etc/ext-proc/filter.yaml
      # policies of a cluster into a directory, the result for a script
      kubectl get backendsecuritypolicies,secrets -A -o yaml | credrotator rotate -f - --out out/ -o json

    Exit code 0: all well; 1: some failed; 2: wrong use.
    """  # noqa: D301 - \b keeps click from filling the paragraph
    settings, clock = read_settings(common), SkewedClock(system_clock)
    with traces() as instrumentation, open_backend(settings) as here:
        keys = choose(here.inventory, names, settings, here.namespace)
        renderer, audit = templates_of(template, here, here.directory), Audit()

        def after(outcome: Outcome) -> None:
            if dry_run:
                return
            here.after(outcome)
            if outcome.action == "rotated":
                renderer.render()

        with progress() as shown:
            outcomes = run_batch(
                keys,
                here.inventory,
                Rotation(
                    here.store,
                    exchanger(settings, clock, instrumentation),
                    clock,
                    instrumentation=instrumentation,
                    audit=audit,
                ),
                RotateOptions(within, force, dry_run),
                workers=workers,
                audit=audit,
                instrumentation=instrumentation,
                after=after,
                progress=shown,
            )
        if not dry_run:
            renderer.render()
    if output in {"json", "yaml"}:
        click.echo(report.structured(report.rotate_document(outcomes), output), nl=False)
    else:
        wide = output == "wide"
        show(report.rotate_table(outcomes, system_clock(), wide=wide, dry_run=dry_run, paint=painter()))
    for failure in renderer.failures.values():
        click.echo(f"template: {failure.reason}: {failure.message}\n  what to do: {failure.hint}", err=True)
    failed = any(outcome.action == "failed" for outcome in outcomes)
    sys.exit(int(failed or bool(here.problems) or bool(renderer.failures)))


def templates_of(pairs: tuple[str, ...], source: HasInventory, store: DirectoryStore | None) -> Renderer:
    """Compile the templates; they see every Secret that carries a policy's credential.

    Raises:
        UsageError: A template cannot be read, or there is no directory to render from.
    """
    if not pairs:
        return _NothingToRender()
    if store is None:
        raise UsageError("--template goes with -f and --out: in a cluster the gateway feeds its filter itself")
    from credrotator.files.templates import Templates  # noqa: PLC0415

    def secrets() -> dict[str, dict[str, Sensitive]]:
        inventory = source.inventory
        found: dict[str, dict[str, Sensitive]] = {}
        for key in {policy.secret for policy in inventory.policies.values() if policy.secret}:
            if key in inventory.secrets:
                found[str(key)] = {
                    name: Sensitive(raw.decode(errors="replace")) for name, raw in inventory.secrets[key].items()
                }
            if stored := store.read(key):
                found[str(key)] = dict(stored.document.data)
        return found

    return Templates(pairs, secrets, store.exclusive, access=store.access)
