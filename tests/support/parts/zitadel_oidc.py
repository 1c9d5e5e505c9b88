"""The example provider of `github.com/zitadel/oidc/v3`, whose issuer ends with a slash."""

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tests.support.parts import oidc_clients
from tests.support.parts.cache import Cache
from tests.support.parts.go_tool import build
from tests.support.parts.oidc_clients import Client
from tests.support.parts.ports import free_port
from tests.support.parts.process import Process, answers, running

# Of the library, and of the program around it in tools/: count on when that changes.
_VERSION = "3.52.0"


@dataclass(frozen=True)
class ZitadelOidc:
    """A running server."""

    port: int
    process: Process

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def token_path(self) -> str:
        return "/oauth/token"

    def rotate_keys(self) -> None:
        """Have it sign with a new key soon; the old one stays published."""
        self.process.send(signal.SIGHUP)


def executable(cache: Cache) -> Path:
    """Return the server's program, built on the first call."""
    return build(cache, "zitadel_oidc", package=".", version=_VERSION)


@contextmanager
def serving(program: Path, clients: Iterable[Client], *, directory: Path) -> Iterator[ZitadelOidc]:
    """Run the server with these clients."""
    port = free_port()
    directory.mkdir(parents=True, exist_ok=True)
    registered = directory / "zitadel-oidc-clients.json"
    oidc_clients.write(registered, clients)
    with running("zitadel-oidc", str(program), str(port), str(registered), directory=directory) as process:
        server = ZitadelOidc(port, process)
        discovery = f"{server.issuer}.well-known/openid-configuration"
        process.wait_until(lambda: answers(discovery), within=timedelta(minutes=1))
        yield server
