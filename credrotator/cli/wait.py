"""``credrotator wait``: until credentials are what they should be, or the time is up."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from credrotator.app.choosing import choose, none_there
from credrotator.app.opening import open_backend
from credrotator.cli.habits import is_quiet
from credrotator.cli.options import (
    PolicyCommand,
    names_policies,
    read_settings,
    reading_only_options,
    within_namespaces,
)
from credrotator.cli.parameters import Span
from credrotator.cli.selection import read
from credrotator.core.clock import system_clock
from credrotator.core.durations import parse_duration
from credrotator.core.errors import RotationError, UsageError
from credrotator.diagnosis.overview import NoExchange
from credrotator.diagnosis.waiting import Condition, unmet
from credrotator.exchange.http.clock_offset import SkewedClock
from credrotator.rotation.rotation import Rotation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from credrotator.app.backend import Backend, Snapshot
    from credrotator.app.settings import Settings
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
    30 more minutes. A policy without rotation is ready if its Secret is there. Where a cluster has no policy that is
    selected, one is waited for: nothing is ready yet. Calls neither issuers nor vendors.

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
        # No exchange can be made here: who waits must never use up a token.
        rotation = Rotation(backend.store, NoExchange(), system_clock)
        target = _Target(names, settings, rotation, condition)
        finding = target.see(snapshot, choose(snapshot, names, settings))
        if limit and not finding.keys and not is_quiet():
            click.echo(f"note: {finding.none_there}; waiting for one", err=True)
        while not finding.is_met and (left_s := ends_s - time.monotonic()) > 0:
            time.sleep(min(INTERVAL_S, left_s))
            finding = _look_again(backend, target, finding)
    _print(finding)
    sys.exit(int(not finding.is_met))


@dataclass(frozen=True, slots=True)
class _Finding:
    """What one reading found.

    Attributes:
        keys: The policies that are waited for.
        lacking: Those of them that do not meet the condition, and why not.
        none_there: Why there are no keys; that does not meet any condition.
    """

    keys: Sequence[ObjectKey]
    lacking: Mapping[ObjectKey, str]
    none_there: str = ""

    @property
    def is_met(self) -> bool:
        """Tell whether there are policies, and all meet the condition."""
        # A namespace that is mistyped has no policy either: a pipeline that waits for one must not go on.
        return bool(self.keys) and not self.lacking


@dataclass(frozen=True, slots=True)
class _Target:
    """What is waited for."""

    names: tuple[str, ...]
    settings: Settings
    rotation: Rotation
    condition: Condition

    def see(self, snapshot: Snapshot, keys: Sequence[ObjectKey]) -> _Finding:
        """See which of the policies do not meet the condition."""
        now, inventory = system_clock(), snapshot.inventory
        lacking: dict[ObjectKey, str] = {}
        for key in keys:
            if key not in inventory.policies and key not in inventory.invalid:
                # Not an error: a policy that is deleted and made anew while somebody waits comes back.
                lacking[key] = "it is not there any more"
            elif why := unmet(key, inventory, self.rotation, self.condition, now):
                lacking[key] = why
        return _Finding(keys, lacking, "" if keys else none_there(snapshot, self.settings))

    def see_again(self, snapshot: Snapshot, keys: Sequence[ObjectKey]) -> _Finding:
        """See the same of what was read later; without names, policies that have been created since count as well."""
        new = () if self.names else choose(snapshot, (), self.settings)
        return self.see(snapshot, sorted({*keys, *new}))


def _look_again(backend: Backend, target: _Target, last: _Finding) -> _Finding:
    """Read everything again; what cannot be read now may be the next time."""
    try:
        return target.see_again(backend.read(), last.keys)
    except (RotationError, UsageError) as error:
        # An API server that restarts, or a file that is being replaced, must not end a wait of minutes.
        return _Finding(last.keys, dict.fromkeys(last.keys, str(error)), "" if last.keys else str(error))


def _print(finding: _Finding) -> None:
    """Say of each policy whether it meets the condition; what does not is said on standard error."""
    if finding.none_there:
        click.echo(finding.none_there, err=True)
    for key in finding.keys:
        if why := finding.lacking.get(key):
            click.echo(f"{key}: {why}", err=True)
        else:
            click.echo(f"{key}: condition met")
