"""The command line's entry: which commands there are, and how it ends.

Exit codes: 0 success, 1 some policies failed, 2 usage error, 130 and 143 after SIGINT and SIGTERM, 141 after SIGPIPE. A
command's module is imported when it is called, so that ``--help`` and completion do not wait for SDKs.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from credrotator import __version__
from credrotator.cli.foreign_plugins import switch_off
from credrotator.cli.habits import SYNONYMS, meant, verbosity
from credrotator.cli.streams import lost_output, open_standard_streams
from credrotator.core.errors import UsageError
from credrotator.observability import logs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from click.shell_completion import CompletionItem

# As click, argparse and most shells have it.
WRONG_USE = 2
# What a shell reports of a process that a signal has ended: scripts look at it.
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
PIPE_CLOSED = 128 + signal.SIGPIPE
COLLECT_AT = (50_000, 20, 20)
"""When Python looks for garbage in cycles. At its own 700 objects it goes through all the modules again and again while
they are made: a tenth of a cold start."""
COMMANDS = {
    "rotate": "Rotate the credentials that are due, once.",
    "run": "Run the daemon, which rotates every credential before it expires.",
    "renew": "Renew credentials now, whether they are due or not.",
    "wait": "Wait until credentials are ready, or good for some time.",
    "status": "Show the state of each credential, and what depends on it.",
    "check": "Test every step of each exchange, without writing anything.",
    "credential-process": "Print one credential for a program that asks for it, such as an SDK.",
    "convert": "Print OIDC policies in the managed form.",
    "explain": "Explain a reason that a table, condition, Event or log shows.",
    "sandbox": "Run a local OIDC issuer and local clouds to try things against.",
    "completion": "Print a shell completion script.",
}

# Commands whose exit code says what was published, whether or not anybody could read the output.
PUBLISHING = {"rotate", "run", "renew"}


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Have what is imported looked through for garbage neither now nor later: modules stay to the end.

    A twentieth of a cold ``rotate``, and most of each full collection of a daemon.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class Commands(click.Group):
    """A group whose commands live in ``credrotator.cli``."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """See click.Group."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """See click.Group."""
        if cmd_name not in COMMANDS:
            return SYNONYMS.get(cmd_name)
        with _no_collection():
            command: click.Command = importlib.import_module(f"credrotator.cli.{cmd_name.replace('-', '_')}").command
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See click.Group; an option of a command that stands before its name is told where it belongs."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if any(error.option_name in option.opts for option in self._options(ctx)):
                text = f"No such option '{error.option_name}' before the command; write it behind."
                raise click.UsageError(text, ctx) from error
            raise

    def _options(self, ctx: click.Context) -> list[click.Parameter]:
        commands = [self.get_command(ctx, name) for name in COMMANDS]
        return [option for command in commands if command for option in command.params]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See click.Group; say which command may have been meant."""
        if self.get_command(ctx, args[0]) is None:
            ctx.fail(f"No such command '{args[0]}'.{meant(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and see whether what it printed arrived.

        Where it did not, the exit code of a command that publishes still says how that went; the others' whole work is
        what they print.
        """
        try:
            code = super().invoke(ctx)
        # Commands that end with sys.exit would skip the look at the output below.
        except SystemExit as end:
            code = end.code
        if (failure := lost_output()) is None:
            return code
        publishes = ctx.invoked_subcommand in PUBLISHING
        rest = "; the exit code tells what was published" if publishes else ""
        click.echo(f"Error: cannot write to standard output: {failure.strerror}{rest}", err=True)
        # A table that was not written is a failure of status, whose purpose it is, and none of rotate.
        return code or int(not publishes)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer the commands without importing them."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - at a key of the shell only

        matching = [CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)]
        return matching + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="credrotator")
def cli() -> None:
    """Keep the cloud credentials of an Envoy AI Gateway fresh.

    For every BackendSecurityPolicy, credrotator gets a token from the OIDC issuer, exchanges it for a credential of the
    cloud, and publishes the credential where the gateway's filter reads it. With -f, policies come from manifests and
    credentials go to a directory. Without -f, both are in the cluster of the kubeconfig, or of the pod.

    \b
    Examples:
      # try it without an account
      credrotator sandbox -- credrotator rotate -f examples/ --out credentials/
      # test a policy step by step
      credrotator check -f policies/ prod/aws-bedrock
      # run it from cron every 10 minutes
      credrotator rotate -f policies/ --out /var/lib/credrotator --within 15m
      # run it in a cluster
      credrotator run -A --listen 0.0.0.0:8080
      credrotator status -A --watch

    Options with an environment variable can be set by that variable, or in the file of --config.
    """  # noqa: D301 - \b keeps click from filling the paragraph
    logs.install(sys.stderr)


# Not as decorators: each command gets options of its own from the same function, so that they stand on either side of
# its name.
cli.params += verbosity()


class _Terminated(BaseException):
    """SIGTERM came. Not an Exception: it is to unwind everything, as KeyboardInterrupt does."""


def main() -> None:
    """Run the command line; our own usage errors look like click's."""
    # Before anything can write: without an open standard error, a first warning could land in a file that was opened as
    # number 2.
    open_standard_streams()
    # A signal's default would end the process without unwinding, and leave temporary files behind. ``run`` replaces it
    # by its own.
    signal.signal(signal.SIGTERM, _terminate)
    switch_off()
    gc.set_threshold(*COLLECT_AT)
    # What there is at the end goes with the process. The interpreter's last collection would walk over all of it: a
    # sixth of a short command.
    atexit.register(gc.freeze)
    try:
        code = cli(prog_name=_program(), standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        _leave("interrupted", INTERRUPTED)
    except _Terminated:
        _leave("terminated", TERMINATED)
    except click.ClickException as error:
        error.show()
        sys.exit(WRONG_USE)
    except UsageError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(WRONG_USE)
    except BrokenPipeError:
        # Whoever read has enough (``status | head``). Nobody is there to be told at the end either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(PIPE_CLOSED)
    sys.exit(code if isinstance(code, int) else 0)


def _program() -> str:
    """Return what was typed: kubectl calls a plugin by the name of its file."""
    return "kubectl credrotator" if Path(sys.argv[0]).name == "kubectl-credrotator" else "credrotator"


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    raise _Terminated


def _leave(word: str, code: int) -> NoReturn:
    """End now: the interpreter would first wait for every thread, and one may hang in an exchange."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    with contextlib.suppress(OSError):
        # Not by sys.stderr: its lock may be held by the thread that hangs.
        os.write(2, f"{word}; what was published stays\n".encode())
    os._exit(code)
