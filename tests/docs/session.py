"""A shell in which the commands of one page are run, one after the other, as a reader would.

Owns what stands in for the world of the reader: hosts, ports, directories and secrets of the pages are replaced by the
sandbox's on the way in, and back on the way out. Nothing but the loopback interface is asked.
"""

from __future__ import annotations

import os
import random
import re
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from credrotator.sandbox import (
    DEFAULT_ACCOUNT_ID,
    DEFAULT_APP_SECRET,
    DEFAULT_CLIENT_SECRET,
    DEFAULT_IDENTITY_PROVIDER,
    DEFAULT_RULE,
    DEFAULT_SERVICE_ACCOUNT,
    DEFAULT_WORKSPACE,
)
from tests.docs.pages import RUN, blocks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from credrotator.sandbox import Sandbox

LIMIT_S = 90
UNASSIGNED = range(20_000, 32_768)
"""Below the ports that Linux gives to whoever asks for any."""
PORTS = ("9443", "9444", "9445", "9446", "9447", "9448", "9449")
# Of one page at most one is an issuer whose answers are shown; by its name the sandbox's comes back.
ISSUERS = ("keycloak.example.com/realms/ai", "example.okta.com/oauth2/aus1a2b3c4", "idp.example.com")
PROJECT = "my-project"
TOKENS = "tokens.example.com"
SECRETS = {
    "THE-CLIENTS-SECRET": DEFAULT_CLIENT_SECRET,
    "THE-APPLICATIONS-SECRET": DEFAULT_APP_SECRET,
    "fdrl_0123456789": DEFAULT_RULE,
    "svac_0123456789": DEFAULT_SERVICE_ACCOUNT,
    "wrkspc_0123456789": DEFAULT_WORKSPACE,
    "idp_0123456789": DEFAULT_IDENTITY_PROVIDER,
    "sa_0123456789": DEFAULT_ACCOUNT_ID,
}
"""What stands in the pages, and what the sandbox has in its place."""
DIRECTORIES = ("/etc/credrotator", "/var/lib/credrotator", "/etc/ext-proc", "/etc/envoy")
_MARK = re.compile(r"\n?\x01(\d+)\x01\n")
_MASKS = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "TIME"),
    (re.compile(r"\.\.\d{4}(_\d\d){5}\.[0-9a-f]{10}"), "GENERATION"),
    (re.compile(r"\b[A-Z][a-z]{2} +\d+ \d\d:\d\d(:\d\d)?( \d{4} GMT)?"), "TIME"),
    (re.compile(r"\bASIA[A-Z0-9]{16}\b"), "KEY"),
    (re.compile(r"(?<== )[\w/+=-]{40,}"), "SECRET"),
    (re.compile(r"\b(\d+(\.\d+)?(ms|[smhd]))+\b"), "SPAN"),
    (re.compile(r"\b\d+(\.\d+)? ms\b"), "SPAN"),
    (re.compile(r"\s+"), " "),
)


class Session:
    """A shell in a directory of its own; ``outcome`` of each command is its exit code and what it printed."""

    def __init__(self, directory: Path, world: Mapping[str, str], environment: Mapping[str, str]) -> None:
        self._there = dict(sorted(world.items(), key=lambda pair: -len(pair[0])))
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._seen = ""

    def write(self, name: str, text: str) -> None:
        """Write a file of the page."""
        end = "END-OF-THE-FILE"
        self.outcome(f"mkdir -p {shlex.quote(os.path.dirname(name) or '.')}")  # noqa: PTH120 - a name of the page
        code, said = self.outcome(f"cat > {shlex.quote(name)} <<'{end}'\n{text}{end}")
        assert code == 0, said

    def outcome(self, command: str) -> tuple[int, str]:
        """Run one command in the shell that is the innermost by now; return its exit code and both its outputs."""
        assert self._process.stdin is not None
        # A second bash, started by the command, reads on where the first one stopped: it is the one that answers then.
        mark = "said=$?; printf '\\n\\001%d\\001\\n' $said; (exit $said)"
        self._process.stdin.write(f"{self._in(command)}\n{mark}\n".encode())
        self._process.stdin.flush()
        return self._read(command)

    def close(self) -> None:
        """End the shell and all that it started."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        with _gone():
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.stdout.close()

    def _read(self, command: str) -> tuple[int, str]:
        assert self._process.stdout is not None
        until = time.monotonic() + LIMIT_S
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not (found := _MARK.search(self._seen)):
                ready = selector.select(timeout=max(0, until - time.monotonic()))
                assert ready, f"no end within {LIMIT_S} s: {command}\n{self._seen}"
                more = os.read(self._process.stdout.fileno(), 65536)
                assert more, f"the shell ended: {command}\n{self._seen}"
                self._seen += more.decode()
        said, self._seen = self._seen[: found.start()], self._seen[found.end() :]
        return int(found[1]), self._out(said)

    def _in(self, text: str) -> str:
        for theirs, ours in self._there.items():
            text = text.replace(theirs, ours)
        return text

    def _out(self, text: str) -> str:
        for theirs, ours in self._there.items():
            text = text.replace(ours, theirs)
        return text


@contextmanager
def _gone() -> Iterator[None]:
    """Let a process group be gone already."""
    try:
        yield
    except ProcessLookupError:
        return


def masked(line: str) -> str:
    """Return a line without what differs from run to run: times, spans, keys, and the columns' widths."""
    for pattern, word in _MASKS:
        line = pattern.sub(word, line)
    return line.strip()


def fits(shown: tuple[str, ...], said: str) -> bool:
    """Tell whether an output is the one that a page shows; a line ``...`` there stands for any lines."""
    wanted = [masked(line) for line in "\n".join(shown).strip().splitlines()]
    got = [masked(line) for line in said.strip().splitlines()]
    return _fits(wanted, got)


def _fits(wanted: list[str], got: list[str]) -> bool:
    if not wanted:
        return not got
    if wanted[0] == "...":
        return any(_fits(wanted[1:], got[skip:]) for skip in range(len(got) + 1))
    return bool(got) and got[0] == wanted[0] and _fits(wanted[1:], got[1:])


@contextmanager
def reader(page: Path, directory: Path, stand_in: Sandbox) -> Iterator[Session]:
    """Open a shell as the page's reader has it; ``stand_in`` is asked where the page brings no sandbox of its own."""
    ports = free_ports(len(PORTS))
    bin_directory = programs(directory / "bin", ports)
    place = directory / "reader"
    (place / ".venv").mkdir(parents=True, mode=0o700)
    (place / ".venv" / "bin").symlink_to(bin_directory)
    text = page.read_text(encoding="utf-8")
    world = dict(SECRETS)
    for name in DIRECTORIES:
        world[name] = str(directory / name.strip("/").replace("/", "-"))
        Path(world[name]).mkdir(mode=0o700)
    environment = {**os.environ, "PATH": f"{bin_directory}:/usr/local/bin:/usr/bin:/bin", "TERM": "dumb"}
    if any("credrotator sandbox" in block.text for block in blocks(text) if block.kind in RUN and not block.reason):
        world |= {theirs: str(ours) for theirs, ours in zip(PORTS, ports, strict=True)}
    else:
        environment |= stand_in.environment()
        world |= {name: stand_in.issuer.url.removeprefix("https://") for name in ISSUERS if name in text}
        world |= {PROJECT: "sandbox-project"} if PROJECT in text else {}
        world |= {TOKENS: stand_in.exchange.url.removeprefix("https://")}
    opened = Session(place, world, environment)
    try:
        yield opened
    finally:
        opened.close()


def free_ports(count: int) -> list[int]:
    """Return ports on which nobody listens, and which no connection is given before they are used."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.choice(UNASSIGNED)  # noqa: S311 - not to be had by those who choose at the same time
        if port not in ports and _is_free(port):
            ports.append(port)
    return ports


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def programs(directory: Path, ports: list[int]) -> Path:
    """Make a directory with the programs that the pages start; the sandbox's default ports become others."""
    directory.mkdir()
    servers = ("issuer", "sts", "entra", "google", "anthropic", "openai", "exchange")
    python = shlex.quote(sys.executable)
    places = " ".join(f"--{server}-port {port}" for server, port in zip(servers, ports, strict=True))
    (directory / "python").write_text(f'#!/bin/sh\nexec {python} "$@"\n', encoding="utf-8")
    (directory / "credrotator").write_text(
        "#!/bin/sh\n"
        f'if [ "$1" = sandbox ]; then shift; exec {python} -m credrotator sandbox {places} "$@"; fi\n'
        f'exec {python} -m credrotator "$@"\n',
        encoding="utf-8",
    )
    for program in directory.iterdir():
        program.chmod(0o755)
    return directory
