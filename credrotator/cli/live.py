"""Looking again and again: in place on a terminal, one view below the other elsewhere, until Ctrl-C.

Owns the loop and the screen. Must not know what is looked at. What cannot be read for a moment does not end it: the
last view stays, with the reason below it.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from credrotator.cli.colours import show
from credrotator.core.errors import RotationError, UsageError
from credrotator.core.secretdata import show_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta

    from credrotator.cli.tables import Paint
    from credrotator.core.ports import Clock

# ``--interval 0`` would read a cluster without end.
SHORTEST_S = 0.2


@dataclass(frozen=True, slots=True)
class View:
    """What one look found: lines that are cut at the screen's edge, and text that may wrap."""

    table: str
    notes: str


def watch(read: Callable[[], View], clock: Clock, every: timedelta, paint: Paint) -> None:
    """Show what ``look`` finds, again and again, until Ctrl-C.

    Raises:
        UsageError, RotationError: The first look fails.
    """
    wait_s = max(every.total_seconds(), SHORTEST_S)
    with contextlib.suppress(KeyboardInterrupt), _screen() as shown:
        view = _read(read)
        while True:
            head = f"{show_time(clock())}, every {wait_s:g} s"
            shown(View(f"{paint(head, 'dim')}\n{view.table}", view.notes))
            time.sleep(wait_s)
            try:
                view = _read(read)
            except (UsageError, RotationError) as error:
                view = View(view.table, f"\n{paint('as it was', 'warn')}: {error}\n")


def _read(read: Callable[[], View]) -> View:
    """Look, and take what is said on standard error meanwhile into the view."""
    # Warnings written beside a live view would stand in the middle of it, and be overwritten.
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        view = read()
    return View(view.table, f"{view.notes}\n{errors.getvalue()}" if errors.getvalue() else view.notes)


@contextlib.contextmanager
def _screen() -> Iterator[Callable[[View], None]]:
    from rich.console import Console, Group  # noqa: PLC0415 - 50 ms that only a terminal is worth
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(file=sys.stdout)
    # Into a file or a pipe: one view below the other, with no escape sequences to move the cursor.
    if not console.is_terminal or console.is_dumb_terminal:
        yield _print
        return
    with Live(console=console, auto_refresh=False, transient=False) as live:

        def shown(view: View) -> None:
            # Cut and not wrapped: wrapped rows of a wide table cannot be told apart. What has to be read whole is in
            # the notes.
            table = Text.from_ansi(view.table.rstrip("\n"), no_wrap=True, overflow="ellipsis")
            live.update(Group(table, Text.from_ansi(view.notes)), refresh=True)

        yield shown


def _print(view: View) -> None:
    show(f"{view.table}{view.notes}\n")
    sys.stdout.flush()
