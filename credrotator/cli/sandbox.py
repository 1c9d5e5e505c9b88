"""``credrotator sandbox``: the servers to try things against, for as long as they are wanted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from credrotator.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

PORT = click.IntRange(0, 65535)


@click.command("sandbox", context_settings={"ignore_unknown_options": True})
@click.option("--issuer-port", type=PORT, metavar="PORT", default=9443, show_default=True, help="0: any free one.")
@click.option("--sts-port", type=PORT, metavar="PORT", default=9444, show_default=True, help="0: any free one.")
@click.option("--entra-port", type=PORT, metavar="PORT", default=9445, show_default=True, help="0: any free one.")
@click.option("--google-port", type=PORT, metavar="PORT", default=9446, show_default=True, help="0: any free one.")
@click.option(
    "--dir",
    "directory",
    metavar="DIR",
    help="Where ca.pem and a key file are written [default: a temporary directory].",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
def command(directory: str | None, command: tuple[str, ...], **ports: Any) -> int:
    """Start a local OIDC issuer, AWS STS, Microsoft Entra and Google Cloud over TLS.

    They verify what they are shown as the real ones do. With COMMAND, it runs with the variables that lead
    credrotator and the vendors' SDKs here, and the sandbox ends with it; without, it prints them and waits.

    \b
    Examples:
      # one command inside, then the sandbox ends
      credrotator sandbox -- credrotator rotate -f examples/ --out credentials/
      # a shell inside, to try several
      credrotator sandbox -- bash
      # by itself, for another terminal: it prints the variables to set there
      credrotator sandbox --dir sandbox/
    """  # noqa: D301 - \b keeps click from filling the paragraph
    try:
        from credrotator.sandbox import PortTaken, Sandbox  # noqa: PLC0415 - an extra that may not be installed
    except ImportError as error:
        raise UsageError(f"{error.name} is missing: install credrotator[sandbox]") from error
    with tempfile.TemporaryDirectory(prefix="credrotator-sandbox-") as temporary:
        place = Path(directory or temporary).absolute()
        try:
            with Sandbox(place, **ports) as sandbox:
                sandbox.write_key_file()
                variables = sandbox.environment()
                return _run(command, variables) if command else _wait(sandbox.issuer.url, variables)
        except PortTaken as error:
            raise UsageError(str(error)) from error


def _run(command: tuple[str, ...], variables: Mapping[str, str]) -> int:
    """Run a command within the sandbox; its exit code is ours, 128 + N where signal N ended it, as in a shell."""
    # Ctrl-C on a terminal reaches the child too, and SIGTERM is passed on: the child decides when it ends. The handlers
    # come first: a signal in between would end us and leave the child alone.
    children: list[subprocess.Popen[bytes]] = []
    told = threading.Event()

    def pass_on(*_: object) -> None:
        told.set()
        for child in children:
            child.terminate()

    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, pass_on)
    try:
        child = subprocess.Popen(command, env={**os.environ, **variables})  # noqa: S603
    except OSError as error:
        raise UsageError(f"cannot run {command[0]}: {error.strerror}") from error
    children.append(child)
    if told.is_set():
        child.terminate()
    code = child.wait()
    return 128 - code if code < 0 else code


def _wait(issuer: str, variables: Mapping[str, str]) -> int:
    click.echo(f"# issuer {issuer}; for the shell in which you try things:")
    for name, value in variables.items():
        click.echo(f"export {name}={value}")
    click.echo("# Ctrl-C ends the sandbox")
    sys.stdout.flush()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    signal.signal(signal.SIGINT, lambda *_: ended.set())
    ended.wait()
    return 0
