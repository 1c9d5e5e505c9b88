"""What people type by habit, from kubectl and git, and what is meant by it.

Owns the options that every command takes, ``-o=json``, ``help``, ``version``, and the command that was probably meant.
Must not know what a command does.
"""

from __future__ import annotations

import difflib
import logging
from typing import TYPE_CHECKING, Any

import click

from credrotator import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Without -v warnings only: a pass that goes well has said everything in its table.
LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
OTHER_WORDS = {
    "get": "status",
    "list": "status",
    "ls": "status",
    "describe": "status",
    "watch": "status",
    "renew": "rotate",
    "refresh": "rotate",
    "apply": "rotate",
    "daemon": "run",
    "serve": "run",
    "start": "run",
    "test": "check",
    "doctor": "check",
    "verify": "check",
    "validate": "check",
    "migrate": "convert",
    "reason": "explain",
    "why": "explain",
    "demo": "sandbox",
}
"""What others call a command, and what it is called here."""
_VERBOSE, _QUIET = "credrotator.verbose", "credrotator.quiet"


class HabitualCommand(click.Command):
    """A command that takes ``-v`` and ``-q`` behind its name, and ``-o=json`` for ``-o json``."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.params += verbosity()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See click.Command."""
        return super().parse_args(ctx, without_equals(args, self.get_params(ctx)))


class VerbosityOption(click.Option):
    """An option of the program that stands before or behind the name of a command."""


def verbosity() -> list[click.Parameter]:
    """Make the options that say how much is told."""
    log = "Log what is done; -vv for details."
    quiet = "Print failures only."
    return [
        VerbosityOption(["-v", "--verbose"], count=True, help=log, expose_value=False, callback=_log_more),
        VerbosityOption(["-q", "--quiet"], is_flag=True, help=quiet, expose_value=False, callback=_be_quiet),
    ]


def is_quiet() -> bool:
    """Tell whether only failures are to be printed."""
    context = click.get_current_context(silent=True)
    return bool(context and context.meta.get(_QUIET))


def _log_more(context: click.Context, _parameter: click.Parameter, count: int) -> None:
    # Added up: -v may stand before the command and behind it, which is -vv.
    context.meta[_VERBOSE] = context.meta.get(_VERBOSE, 0) + count
    _set_level(context)


def _be_quiet(context: click.Context, _parameter: click.Parameter, quiet: bool) -> None:  # noqa: FBT001 - click's way
    context.meta[_QUIET] = quiet or bool(context.meta.get(_QUIET))
    _set_level(context)


def _set_level(context: click.Context) -> None:
    # Completion parses the line too, and must leave the process's logging alone.
    if context.resilient_parsing:
        return
    verbose = context.meta.get(_VERBOSE, 0)
    level = logging.ERROR if context.meta.get(_QUIET) and not verbose else LEVELS[min(verbose, len(LEVELS) - 1)]
    logging.getLogger("credrotator").setLevel(level)


def without_equals(args: Sequence[str], params: Iterable[click.Parameter]) -> list[str]:
    """Return the arguments with ``-o=json`` as ``-ojson``, which click understands; kubectl takes both.

    Args:
        args: As typed. What stands behind ``--`` is somebody else's.
        params: What the command takes.
    """
    valued = {
        name
        for option in params
        if isinstance(option, click.Option) and not option.is_flag and not option.count
        for name in option.opts
        if not name.startswith("--")
    }
    # What follows belongs to somebody else's program (``sandbox -- COMMAND``).
    end = args.index("--") if "--" in args else len(args)
    own = [f"{arg[:2]}{arg[3:]}" if arg[:2] in valued and arg[2:3] == "=" and arg[3:] else arg for arg in args[:end]]
    return [*own, *args[end:]]


def meant(name: str, commands: Iterable[str]) -> str:
    """Complete the sentence about an unknown command with the one that was probably meant."""
    other = OTHER_WORDS.get(name)
    close = [other] if other else difflib.get_close_matches(name, list(commands), 1)
    return "".join(f" Did you mean '{command}'?" for command in close)


@click.command("help")
@click.argument("command", required=False)
@click.pass_context
def help_command(context: click.Context, command: str | None) -> None:
    """Show what --help shows of the program or of a command."""
    program = context.find_root()
    if command is None:
        click.echo(program.get_help())
        return
    assert isinstance(program.command, click.Group)  # noqa: S101 - commands are its
    _, subcommand, _ = program.command.resolve_command(program, [command])
    assert subcommand is not None  # noqa: S101 - resolve_command ends with an error else
    click.echo(subcommand.get_help(click.Context(subcommand, info_name=command, parent=program)))


@click.command("version")
def version_command() -> None:
    """Show the version."""
    click.echo(f"credrotator, version {__version__}")


SYNONYMS = {"help": help_command, "version": version_command}
"""Commands that say what an option says; not listed."""
