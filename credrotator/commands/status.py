"""``credrotator status``: where each policy's credential stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from credrotator.clock import system_clock
from credrotator.commands.common import choose, exchanger, read_settings, reads_policies
from credrotator.commands.world import world
from credrotator.overview import Row, overview
from credrotator.report import NONE, align, show_span, structured
from credrotator.rotation import Rotation
from credrotator.secretdata import read_time, show_time

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

HEARD = {True: "yes", False: "no", None: NONE}


@click.command("status")
@reads_policies
def command(names: tuple[str, ...], *, output: str, **common: Any) -> None:
    """Per policy: provider, state, expiry, next renewal, last outcome, and who depends on it.

    Calls nobody and writes nothing. Wide adds identity, Secret, models, and in a cluster whether the gateway has
    looked at the policy since its credential was issued (ACKNOWLEDGED).

    \b
    Examples:
      credrotator status -f policies/ --out /var/lib/credrotator
      credrotator status -f policies/ --out out/ prod/aws-bedrock -o yaml
    """  # noqa: D301 - \b keeps click from filling the paragraph
    settings = read_settings(common)
    with world(settings) as here:
        rotation, now = Rotation(here.store, exchanger(settings), system_clock), system_clock()
        keys = choose(here.inventory, names, settings, here.namespace)
        rows = [
            overview(key, here.inventory, rotation, here.last(key), now, heard_at=here.heard_at(key)) for key in keys
        ]
    if output in {"json", "yaml"}:
        click.echo(structured({"policies": [document(row) for row in rows]}, output), nl=False)
        return
    click.echo(table(rows, now, wide=output == "wide"), nl=False)


def document(row: Row) -> dict[str, Any]:
    """Return one policy's standing for machines."""
    return {
        "policy": str(row.policy),
        "provider": row.provider,
        "state": row.state,
        "why": row.why or None,
        "identity": row.identity or None,
        "secret": str(row.secret) if row.secret else None,
        "expiresAt": show_time(row.expires_at) if row.expires_at else None,
        "renewAt": show_time(row.renew_at) if row.renew_at else None,
        "lastOutcome": row.last,
        "acknowledged": row.acknowledged,
        "backends": [str(key) for key in row.dependants.backends],
        "routes": [str(key) for key in row.dependants.routes],
        "models": list(row.dependants.models),
    }


def table(rows: Iterable[Row], now: datetime, *, wide: bool) -> str:
    """Lay the rows out for a person; what one word of state does not tell stands below the table."""
    listed = list(rows)
    header = ["POLICY", "PROVIDER", "STATE", "EXPIRES IN", "RENEWS IN", "LAST OUTCOME", "BACKENDS", "ROUTES"]
    cells = [header + ["IDENTITY", "SECRET", "MODELS", "ACKNOWLEDGED"] * wide]
    for row in listed:
        cell = [str(row.policy), row.provider, row.state]
        cell += [show_span(row.expires_at, now), show_span(row.renew_at, now), _last(row.last, now)]
        cell += [_join(row.dependants.backends), _join(row.dependants.routes)]
        more = [row.identity or NONE, str(row.secret or NONE), _join(row.dependants.models), HEARD[row.acknowledged]]
        cells.append(cell + more * wide)
    return align(cells) + "".join(_below(row) for row in listed)


def _below(row: Row) -> str:
    """Explain a state that is not well, and a last failure, without a second command."""
    text = f"\n{row.policy}: {row.state}: {row.why}\n" if row.why else ""
    error = (row.last or {}).get("error")
    if isinstance(error, dict) and error.get("message") != row.why:
        kind = f" ({error['kind']})" if error.get("kind") else ""
        text += f"\n{row.policy}: {error.get('reason')}{kind}: {error.get('message')}\n"
        text += f"  what to do: {error['hint']}\n" if error.get("hint") else ""
    return text


def _last(last: dict[str, Any] | None, now: datetime) -> str:
    if not last:
        return NONE
    at = read_time(str(last.get("at")))
    when = f" {show_span(at, now)}" if at else ""
    reason = f" ({last['reason']})" if last.get("reason") else ""
    return f"{last.get('action')}{reason}{when}"


def _join(items: Iterable[object]) -> str:
    return ", ".join(map(str, items)) or NONE
