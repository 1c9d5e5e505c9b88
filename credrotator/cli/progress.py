"""What a person at a terminal sees while a command takes longer than a second."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from typing import TYPE_CHECKING

from credrotator.cli.habits import is_quiet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credrotator.rotation.batch import Progress

# Most passes and checks end sooner, and something that flashes up and vanishes only disturbs.
SHOW_AFTER_S = 1.0
_CLEAR_REST = "\x1b[K"
"""Clears the line from the cursor on (ECMA-48, EL)."""


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """Yield what a pass reports to; it shows itself on standard error, if that is a terminal, after a second."""
    with contextlib.ExitStack() as shown:
        yield _Bar(shown) if sys.stderr.isatty() and not is_quiet() else _silent


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show what is waited for and how long it has taken, on standard error, if that is a terminal, after a second."""
    if not sys.stderr.isatty() or is_quiet():
        yield
        return
    over = threading.Event()
    shown = threading.Thread(target=_count, args=(what, over), name="waiting", daemon=True)
    shown.start()
    try:
        yield
    finally:
        over.set()
        # Or its last line could be written into what the command prints next.
        shown.join()


def _count(what: str, over: threading.Event) -> None:
    started_s = time.monotonic()
    while not over.wait(SHOW_AFTER_S):
        sys.stderr.write(f"\r{what}: {time.monotonic() - started_s:.0f} s{_CLEAR_REST}")
        sys.stderr.flush()
    sys.stderr.write(f"\r{_CLEAR_REST}")
    sys.stderr.flush()


def _silent(done: int, total: int) -> None:
    """Show nothing: standard error is a file or a pipe."""


class _Bar:
    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._started_s = time.monotonic()
        self._update: Progress | None = None

    def __call__(self, done: int, total: int) -> None:
        # Not for the last one: a bar that starts when all is done is of no use.
        if self._update is None and done < total and time.monotonic() - self._started_s > SHOW_AFTER_S:
            self._update = self._show(total)
        if self._update:
            self._update(done, total)

    def _show(self, total: int) -> Progress:
        from rich.console import Console  # noqa: PLC0415 - 50 ms that a quick pass does without
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

        columns = (TextColumn("rotating"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        bar = self._stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
        task = bar.add_task("rotating", total=total)
        return lambda done, total: bar.update(task, completed=done, total=total)
