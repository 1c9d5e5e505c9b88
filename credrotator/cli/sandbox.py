"""``credrotator sandbox``: local servers to try things against, for as long as a command or the user needs them."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from credrotator.cli.foreign_plugins import inherited_environment
from credrotator.cli.habits import HabitualCommand
from credrotator.cli.setting_option import SettingOption
from credrotator.core.errors import UsageError, printable
from credrotator.providers import PROVIDERS
from credrotator.providers.provider import SandboxServer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credrotator.sandbox import Sandbox

PORT = click.IntRange(0, 65535)
# Of the providers' own: one that brings no server shares another's (Bedrock, plain client credentials).
SERVERS = (SandboxServer("issuer", "the issuer", 9443), *(own for provider in PROVIDERS if (own := provider.sandbox)))


def server_ports(command: Any) -> Any:
    """Add an option for the port of each server of the sandbox."""
    for server in reversed(SERVERS):
        command = click.option(
            f"--{server.name}-port",
            type=PORT,
            metavar="PORT",
            default=server.port,
            show_default=True,
            help=f"Port of {server.title}; 0 picks a free one.",
        )(command)
    return command


@click.command("sandbox", cls=HabitualCommand, context_settings={"allow_interspersed_args": False})
@server_ports
@click.option(
    "--dir",
    "directory",
    cls=SettingOption,
    metavar="DIR",
    help="Directory for certificates and keys, which a later sandbox reuses [default: a temporary directory].",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
def command(directory: str | None, command: tuple[str, ...], **ports: Any) -> int:
    """Start a local OIDC issuer, AWS STS, Microsoft Entra, Google Cloud and model vendors over TLS.

    The servers verify requests as the real ones do. COMMAND runs with the environment variables that point
    credrotator and the vendors' SDKs to them, and the sandbox ends when COMMAND does. Without COMMAND, the variables
    are printed, and the sandbox runs until Ctrl-C.

    With --dir, a sandbox that is started again goes on where the last one stopped: what it issued stays good.

    \b
    Examples:
      # run one command in the sandbox
      credrotator sandbox -- credrotator rotate -f examples/ --out credentials/
      # start a shell in it, and come back to it tomorrow
      credrotator sandbox --dir sandbox/ -- bash
      # run the sandbox alone; it prints the variables to set in another terminal
      credrotator sandbox --dir sandbox/
    """  # noqa: D301 - \b keeps click from filling the paragraph
    try:
        from credrotator.sandbox import KeptSandbox, PortTaken, Sandbox  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise UsageError(f"{error.name} is missing: install the wheel with the extra [sandbox]") from error
    # Made with --dir as well: one way through the code, and an empty directory costs nothing.
    with (
        tempfile.TemporaryDirectory(prefix="credrotator-sandbox-") as temporary,
        contextlib.ExitStack() as stack,
    ):
        place = Path(directory or temporary).absolute()
        try:
            sandbox = stack.enter_context((KeptSandbox if directory else Sandbox)(place, **ports))
            sandbox.write_key_file()
        except PortTaken as error:
            raise UsageError(str(error)) from error
        except OSError as error:
            where = f"--dir {printable(directory)}" if directory else printable(temporary)
            raise UsageError(f"{where}: cannot write {printable(error.filename)}: {error.strerror}") from error
        variables = sandbox.environment()
        if not command:
            return _wait(sandbox.issuer.url, variables)
        # What cannot be run gets its own message below; an announcement before that would be wrong.
        if shutil.which(command[0]):
            click.echo(_announcement(sandbox, command[0]), err=True)
        return _run(command, variables)


def _announcement(sandbox: Sandbox, program: str) -> str:
    addresses = ", ".join(
        f"{server.title.removeprefix('the ')} {getattr(sandbox, server.name).url}" for server in SERVERS
    )
    return f"sandbox: {addresses}; ends with {Path(program).name}"


def _run(command: tuple[str, ...], variables: Mapping[str, str]) -> int:
    """Run a command within the sandbox; its exit code is ours, 128 + N where signal N ended it, as in a shell."""
    # Ctrl-C on a terminal reaches the child too, and SIGTERM is passed on: the child decides when it ends. The handlers
    # come first: a signal in between would end us and leave the child alone.
    children: list[subprocess.Popen[bytes]] = []
    terminated = threading.Event()

    def pass_on(*_: object) -> None:
        terminated.set()
        for child in children:
            child.terminate()

    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, pass_on)
    # A terminal that is closed: the shell in it ends, and what it was issued has to be kept for the next sitting.
    signal.signal(signal.SIGHUP, pass_on)
    try:
        child = subprocess.Popen(command, env={**inherited_environment(), **variables})  # noqa: S603
    except OSError as error:
        raise UsageError(f"cannot run {command[0]}: {error.strerror}") from error
    children.append(child)
    if terminated.is_set():
        child.terminate()
    code = child.wait()
    # Popen has the negative number of a signal.
    return 128 - code if code < 0 else code


def _wait(issuer: str, variables: Mapping[str, str]) -> int:
    # The handlers come first: whoever reads that Ctrl-C ends it may press it at once.
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: ended.set())
    click.echo(f"# issuer {issuer}; for the shell in which you try things:")
    for name, value in variables.items():
        click.echo(f"export {name}={shlex.quote(value)}")
    click.echo("# Ctrl-C ends the sandbox")
    sys.stdout.flush()
    ended.wait()
    return 0
