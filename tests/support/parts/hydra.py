"""Ory Hydra: an issuer that holds each client to one way of authentication, and to lists of audiences and scopes."""

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import requests

from tests.support.parts.cache import Cache
from tests.support.parts.go_tool import build
from tests.support.parts.oidc_clients import Client
from tests.support.parts.ports import free_port
from tests.support.parts.process import answers, running

_VERSION = "2.3.0"
_ACCESS_TOKEN_KEYS = "hydra.jwt.access-token"
_START = timedelta(minutes=3)
_REQUEST_S = 30


@dataclass(frozen=True)
class Hydra:
    """A running server, on a database in memory."""

    port: int
    admin_port: int

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def token_path(self) -> str:
        return "/oauth2/token"

    def register(self, client: Client) -> None:
        """Register a client by the admin API."""
        keyed = client.method == "private_key_jwt"
        registration = {
            "client_id": client.id,
            "token_endpoint_auth_method": client.method,
            "grant_types": ["client_credentials" if client.grant else "authorization_code"],
            "audience": client.audiences,
            "scope": " ".join(client.scopes),
            "access_token_strategy": "jwt" if client.jwt else "opaque",
            # It refuses a client that is to sign assertions and has no address of keys; nobody reads them here.
            **({"jwks_uri": f"{self.issuer}/no-keys"} if keyed else {"client_secret": client.secret}),
        }
        self._post("clients", registration)

    def has_keys(self) -> bool:
        """Tell whether its keys are there, and have them made if they are not.

        NOTE: it makes none for one who leaves before they are made, and hangs up by itself after ten seconds, which a
        busy machine needs for a key; that one is made all the same.
        """
        try:
            return requests.get(f"{self.issuer}/.well-known/jwks.json", timeout=_REQUEST_S).ok
        except requests.RequestException:
            return False

    def rotate_keys(self) -> None:
        """Have it sign access tokens with a new key soon; the old one stays published."""
        # It hangs up where that takes long, as above.
        with contextlib.suppress(requests.ConnectionError):
            self._post(f"keys/{_ACCESS_TOKEN_KEYS}", {"alg": "RS256", "use": "sig", "kid": "rotated"})

    def _post(self, path: str, body: Mapping[str, Any]) -> None:
        answer = requests.post(f"http://127.0.0.1:{self.admin_port}/admin/{path}", json=body, timeout=_REQUEST_S)
        assert answer.ok, answer.text


def executable(cache: Cache) -> Path:
    """Return the server's program, built from its Go module on the first call."""
    return build(cache, "hydra", package="github.com/ory/hydra/v2", version=_VERSION, tags="sqlite,json1")


@contextmanager
def serving(program: Path, *, directory: Path) -> Iterator[Hydra]:
    """Run the server without a client."""
    server = Hydra(free_port(), free_port())
    environment = {
        "DSN": "memory",
        "SECRETS_SYSTEM": "of-a-run-that-nothing-outlives",
        "SERVE_PUBLIC_HOST": "127.0.0.1",
        "SERVE_PUBLIC_PORT": str(server.port),
        "SERVE_ADMIN_HOST": "127.0.0.1",
        "SERVE_ADMIN_PORT": str(server.admin_port),
        "URLS_SELF_ISSUER": server.issuer,
        "SQA_OPT_OUT": "true",
    }
    argv = (str(program), "serve", "all", "--dev")
    with running("hydra", *argv, directory=directory, env=environment) as process:
        process.wait_until(lambda: answers(f"{server.issuer}/health/ready"), within=_START)
        process.wait_until(server.has_keys, within=_START)
        yield server
