"""Colours for people at a terminal, and for nobody else.

Owns who gets them: a terminal that can, unless NO_COLOR is set (https://no-color.org); FORCE_COLOR asks for them
elsewhere. Must not know what is painted.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

import click

from credrotator.cli.tables import plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credrotator.cli.tables import Paint

STYLES: dict[str, dict[str, Any]] = {
    "good": {"fg": "green"},
    "warn": {"fg": "yellow"},
    "bad": {"fg": "red"},
    "dim": {"dim": True},
    "strong": {"bold": True},
}


def colourful(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether what is written there may have colours."""
    # Any value but the empty one counts (no-color.org), "0" as well.
    if environment.get("NO_COLOR"):
        return False
    return bool(environment.get("FORCE_COLOR")) or (stream.isatty() and environment.get("TERM") != "dumb")


def painter() -> Paint:
    """Return what paints for standard output."""
    return _painted if colourful(sys.stdout) else plain


def show(text: str) -> None:
    """Print what was painted as it is: whether it may have colours is decided already."""
    # Else click would look at the stream again, and strip what FORCE_COLOR asked for.
    click.echo(text, nl=False, color=True)


def _painted(text: str, tone: str) -> str:
    return click.style(text, **STYLES[tone]) if tone else text
