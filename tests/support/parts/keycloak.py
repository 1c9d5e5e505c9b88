"""Keycloak: the OIDC issuer, and the verifier behind the Entra stand-in.

It runs on a database in memory and its realms arrive by the admin API, so nothing of a run outlives it
and the unpacked distribution in the cache stays as it was built.
"""

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import requests

from tests.support.parts.cache import Cache, run_tool
from tests.support.parts.ports import free_port
from tests.support.parts.process import answers, running

_VERSION = "26.7.3"
_ARTIFACT = f"org.keycloak:keycloak-quarkus-dist:{_VERSION}:zip"
_ADMIN = "admin"
# A quarter of a minute on two idle cores; a machine that builds meanwhile needs more.
_START = timedelta(minutes=10)
_REQUEST_S = 30


@dataclass(frozen=True)
class Keycloak:
    """A running server. Its realms are made by the test run that uses them."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def issuer(self, realm: str) -> str:
        """Return the issuer of a realm that has no address of its own."""
        return f"{self.url}/realms/{realm}"

    def endpoint(self, realm: str, name: str) -> str:
        """Return the address of one of a realm's protocol endpoints: `certs`, `token`, `token/introspect`."""
        return f"{self.url}/realms/{realm}/protocol/openid-connect/{name}"

    def create(self, realm: Mapping[str, Any]) -> None:
        """Create a realm from its representation."""
        self.post("realms", realm)

    def post(self, path: str, body: Mapping[str, Any]) -> None:
        """Add to a collection of the admin API, whose path begins after `admin`."""
        answer = requests.post(f"{self.url}/admin/{path}", json=body, headers=self._admin(), timeout=_REQUEST_S)
        answer.raise_for_status()

    def _admin(self) -> dict[str, str]:
        login = {
            "grant_type": "password",
            "client_id": "admin-cli",
            "username": _ADMIN,
            "password": _ADMIN,
        }
        answer = requests.post(self.endpoint("master", "token"), data=login, timeout=_REQUEST_S)
        answer.raise_for_status()
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}


def distribution(cache: Cache) -> Path:
    """Return the unpacked server, with the start-up work that does not depend on a run already done."""

    def make(directory: Path) -> None:
        copy = ("dependency:copy", f"-Dartifact={_ARTIFACT}", f"-DoutputDirectory={directory}")
        run_tool("mvn", "-B", *copy, cwd=directory)
        (archive,) = directory.glob("*.zip")
        with zipfile.ZipFile(archive) as distributed:
            distributed.extractall(directory)
        archive.unlink()
        home = directory / f"keycloak-{_VERSION}"
        script = home / "bin" / "kc.sh"
        script.chmod(0o755)
        run_tool(str(script), "build", "--db=dev-mem", cwd=home)

    return cache.entry(f"keycloak-{_VERSION}", make) / f"keycloak-{_VERSION}"


@contextmanager
def serving(home: Path, *, directory: Path) -> Iterator[Keycloak]:
    """Run the server and yield it as soon as it answers for its own realm."""
    server = Keycloak(free_port())
    argv = (
        str(home / "bin" / "kc.sh"), "start", "--optimized",
        "--http-enabled=true",
        "--http-host=127.0.0.1",
        f"--http-port={server.port}",
        f"--hostname={server.url}",
        "--cache=local",
    )  # fmt: skip
    environment = {
        "KC_BOOTSTRAP_ADMIN_USERNAME": _ADMIN,
        "KC_BOOTSTRAP_ADMIN_PASSWORD": _ADMIN,
        "JAVA_OPTS_APPEND": "-Xmx768m",
    }
    with running("keycloak", *argv, directory=directory, env=environment) as process:
        process.wait_until(lambda: answers(f"{server.url}/realms/master"), within=_START)
        yield server
