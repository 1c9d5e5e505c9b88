"""What the commands that read policies once share: the backend, what it could not read, and who is meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from credrotator.app.choosing import choose, none_there
from credrotator.cli.habits import is_quiet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from credrotator.app.backend import Backend, Snapshot
    from credrotator.app.settings import Settings
    from credrotator.core.model import ObjectKey


def read(backend: Backend, *, names_problems: bool = True) -> Snapshot:
    """Read everything, and say on standard error what was passed over, and what could not be read.

    Args:
        backend: What to read.
        names_problems: Whether what could not be read is said; not by a command whose own output has it.

    Raises:
        UsageError, RotationError: Nothing can be read there at all.
    """
    snapshot = backend.read()
    for note in () if is_quiet() else snapshot.notes:
        click.echo(f"note: {note}", err=True)
    warnings = () if is_quiet() else snapshot.warnings
    for problem in (*snapshot.problems, *warnings) if names_problems else ():
        click.echo(f"warning: {problem}", err=True)
    return snapshot


def chosen(snapshot: Snapshot, names: Sequence[str], settings: Settings) -> list[ObjectKey]:
    """Return the policies that are meant; see ``choose``. That there are none is said on standard error."""
    keys = choose(snapshot, names, settings)
    if not keys:
        # No error: see ``choose`` on clusters without policies.
        click.echo(none_there(snapshot, settings), err=True)
    return keys
