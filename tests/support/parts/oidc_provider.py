"""The issuer of the npm package `oidc-provider`, which implements RFC 8707: `resource` gives the audience."""

import shutil
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tests.support.parts import oidc_clients
from tests.support.parts.cache import Cache, run_tool
from tests.support.parts.oidc_clients import Client
from tests.support.parts.ports import free_port
from tests.support.parts.process import Process, answers, running

_VERSION = "9.13.3"
_TOOL = Path(__file__).parent / "tools" / "oidc_provider"


@dataclass(frozen=True)
class OidcProvider:
    """A running server."""

    port: int
    process: Process

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def token_path(self) -> str:
        return "/token"

    def rotate_keys(self) -> None:
        """Have it sign with a new key soon; the old one stays published."""
        self.process.send(signal.SIGHUP)


def package(cache: Cache) -> Path:
    """Return the directory that the package is installed in.

    NOTE: no lock file lies beside its package.json, which would name the registry; the version there is exact.
    """

    def make(directory: Path) -> None:
        shutil.copy(_TOOL / "package.json", directory)
        npm = ("npm", "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund")
        run_tool(*npm, cwd=directory)

    return cache.entry(f"oidc-provider-{_VERSION}", make)


@contextmanager
def serving(installed: Path, clients: Iterable[Client], *, directory: Path) -> Iterator[OidcProvider]:
    """Run the server with these clients."""
    port = free_port()
    directory.mkdir(parents=True, exist_ok=True)
    registered = directory / "oidc-provider-clients.json"
    oidc_clients.write(registered, clients)
    argv = ("node", str(_TOOL / "provider.mjs"), str(installed), str(port), str(registered))
    with running("oidc-provider", *argv, directory=directory) as process:
        server = OidcProvider(port, process)
        discovery = f"{server.issuer}/.well-known/openid-configuration"
        process.wait_until(lambda: answers(discovery), within=timedelta(minutes=1))
        yield server
