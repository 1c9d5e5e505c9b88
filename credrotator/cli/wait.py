"""``credrotator wait``: until credentials are what they should be, or the time is up."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from credrotator.app.opening import open_backend
from credrotator.cli.options import (
    PolicyCommand,
    names_policies,
    read_settings,
    reading_only_options,
    within_namespaces,
)
from credrotator.cli.parameters import Span
from credrotator.cli.selection import chosen, read
from credrotator.core.clock import system_clock
from credrotator.core.durations import parse_duration
from credrotator.core.errors import RotationError, UsageError
from credrotator.diagnosis.overview import NoExchange
from credrotator.diagnosis.waiting import Condition, unmet
from credrotator.exchange.http.clock_offset import SkewedClock
from credrotator.rotation.rotation import Rotation

if TYPE_CHECKING:
    from datetime import timedelta

    from credrotator.app.backend import Backend, Snapshot
    from credrotator.core.model import ObjectKey

READY, EXPIRES_AFTER = "ready", "expires-after="
# A daemon renews within seconds of a request; once a second a reading of a cluster costs a list or two.
INTERVAL_S = 1.0


class ConditionType(click.ParamType[Condition]):
    """``ready`` or ``expires-after=DURATION``."""

    name = "condition"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Condition:
        """See click.ParamType."""
        if isinstance(value, Condition):
            return value
        text = str(value)
        if text == READY:
            return Condition()
        if not text.startswith(EXPIRES_AFTER):
            self.fail(f"expected {READY} or {EXPIRES_AFTER}30m, got {text}", param, ctx)
        try:
            return Condition(parse_duration(text.removeprefix(EXPIRES_AFTER)))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command("wait", cls=PolicyCommand)
@names_policies
@click.option(
    "--for",
    "condition",
    type=ConditionType(),
    metavar="ready|expires-after=DURATION",
    default=READY,
    show_default=True,
    help="Condition to wait for.",
)
@click.option("--timeout", "limit", type=Span(), default="5m", show_default=True, help="Time limit for waiting.")
@reading_only_options
def command(names: tuple[str, ...], *, condition: Condition, limit: timedelta, **common: Any) -> None:
    """Wait until credentials are ready, or good for some time.

    A credential is ready if it is valid and issued for the policy as it is now, and no renewal is requested. Each state
    is read from the Secret, whatever the policy's conditions say. expires-after=30m also waits until it is valid for
    30 more minutes. A policy without rotation is ready if its Secret is there. Calls neither issuers nor vendors.

    \b
    Examples:
      # in a deployment's pipeline
      credrotator wait -n prod --timeout 2m
      # before a job of half an hour
      credrotator wait prod/aws-bedrock --for expires-after=30m
      # over a directory
      credrotator wait -f policies/ --out /var/lib/credrotator

    Exit codes: 0 the condition is met for all policies, 1 the time is up, 2 usage error.
    """  # noqa: D301 - \b keeps click from filling the paragraph
    settings, ends_s = within_namespaces(read_settings(common), names), time.monotonic() + limit.total_seconds()
    if "-" in settings.filenames:
        raise UsageError("wait reads the manifests again, so -f - is not possible; name files or directories")
    with open_backend(settings, SkewedClock(system_clock)) as backend:
        snapshot = read(backend)
        keys = chosen(snapshot, names, settings)
        # No exchange can be made here: who waits must never use up a token.
        rotation = Rotation(backend.store, NoExchange(), system_clock)
        lacking = _lacking(snapshot, keys, rotation, condition)
        while lacking and (left_s := ends_s - time.monotonic()) > 0:
            time.sleep(min(INTERVAL_S, left_s))
            lacking = _look_again(backend, keys, rotation, condition)
    for key in keys:
        if why := lacking.get(key):
            click.echo(f"{key}: {why}", err=True)
        else:
            click.echo(f"{key}: condition met")
    sys.exit(int(bool(lacking)))


def _lacking(
    snapshot: Snapshot, keys: list[ObjectKey], rotation: Rotation, condition: Condition
) -> dict[ObjectKey, str]:
    """Return the policies that do not meet the condition, and why not."""
    now, inventory = system_clock(), snapshot.inventory
    lacking: dict[ObjectKey, str] = {}
    for key in keys:
        if key not in inventory.policies and key not in inventory.invalid:
            # Not an error: a policy that is deleted and made anew while somebody waits comes back.
            lacking[key] = "it is not there any more"
        elif why := unmet(key, inventory, rotation, condition, now):
            lacking[key] = why
    return lacking


def _look_again(
    backend: Backend, keys: list[ObjectKey], rotation: Rotation, condition: Condition
) -> dict[ObjectKey, str]:
    """Read everything again; what cannot be read now may be the next time."""
    try:
        return _lacking(backend.read(), keys, rotation, condition)
    except (RotationError, UsageError) as error:
        # An API server that restarts, or a file that is being replaced, must not end a wait of minutes.
        return dict.fromkeys(keys, str(error))
