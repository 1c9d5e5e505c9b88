"""``credrotator explain``: what a reason in a table, condition, Event or log means, and what to do about it."""

from __future__ import annotations

import difflib
import json
import shutil
import textwrap

import click

from credrotator.cli.habits import HabitualCommand
from credrotator.core.errors import UsageError, printable
from credrotator.diagnosis.reasons import Explanation, explain, explanations

WIDTH = 100
"""Of text; lines that are longer are hard to read."""
NEXT = {
    "": "nothing failed",
    "transient": "credrotator tries again by itself, soon",
    "denied": "credrotator tries again by itself, slowly; somebody has to grant or correct something",
    "policy": "only an edit helps, and is noticed at once",
    "transient, denied or policy": "it depends on the reason that the message begins with",
}


@click.command("explain", cls=HabitualCommand)
@click.argument("reason", required=False)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Output format.")
def command(reason: str | None, output: str) -> int:
    """Explain a reason, such as IssuerTLS; without one, list them all.

    \b
    Examples:
      credrotator explain IssuerTLS
      credrotator explain AADSTS700213 -o json
    """  # noqa: D301 - \b keeps click from filling the paragraph
    chosen = explanations() if reason is None else (_known(reason),)
    if output == "json":
        # The reason that was asked for is added: an entry for a family of codes does not name the single one.
        document = [_document(each) for each in chosen]
        click.echo(json.dumps(document if reason is None else document[0] | {"reason": reason}, indent=2))
    elif reason is None:
        width = max(len(name) for each in chosen for name in each.names)
        rows = sorted((name, each.cause) for each in chosen for name in each.names)
        for name, cause in rows:
            click.echo(f"{name:{width}}  {textwrap.shorten(cause, _width() - width - 2, placeholder=' …')}")
    else:
        click.echo(_text(reason, chosen[0]))
    return 0


def _known(reason: str) -> Explanation:
    known = explain(reason)
    if known is None:
        # People copy reasons from logs with any case; click's choice would only say that there is no such one.
        names = {name.lower(): name for each in explanations() for name in each.names}
        close = difflib.get_close_matches(reason.lower(), names, n=3)
        meant = f"; did you mean {' or '.join(names[name] for name in close)}?" if close else ""
        raise UsageError(
            f"no reason is called {printable(reason, 60)}{meant or '; credrotator explain lists them all'}"
        )
    return known


def _text(reason: str, known: Explanation) -> str:
    lines = [reason if known.covers(reason) and known.pattern is None else f"{reason} (one of {known.name})"]
    parts = {
        "what happened": known.cause,
        "what to do": known.cure,
        "what happens next": NEXT.get(known.kind, "it depends on the code"),
    }
    for title, marked in parts.items():
        sentence = marked.replace("`", "")
        lines += textwrap.wrap(
            f"{title}: {sentence}", _width(), initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
        )
    return "\n".join(lines)


def _width() -> int:
    """Return the characters of a line; piped, that is 80, or what COLUMNS says."""
    # On a narrower terminal a table of reasons has no room for causes at all.
    return max(40, min(WIDTH, shutil.get_terminal_size().columns))


def _document(known: Explanation) -> dict[str, object]:
    return {
        "reason": known.name,
        "names": list(known.names),
        "kind": known.kind or None,
        "cause": known.cause,
        "cure": known.cure,
    }
