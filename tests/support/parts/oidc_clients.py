"""A client as the issuers of the suite are to register it, whatever each of them calls that."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

AuthMethod = Literal["client_secret_basic", "client_secret_post", "private_key_jwt"]


@dataclass(frozen=True)
class Client:
    """A registration.

    Attributes:
        method: The one way in which it may prove who it is, where the issuer tells ways apart.
        grant: Whether it may use client credentials.
        audiences: The `aud` that its tokens may have.
        scopes: What it may ask for.
        jwt: Whether its access tokens are JWTs, opaque otherwise.
    """

    id: str
    secret: str
    method: AuthMethod = "client_secret_basic"
    grant: bool = True
    audiences: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    jwt: bool = True


def write(path: Path, clients: Iterable[Client]) -> None:
    """Write registrations for the issuers that read them from a file when they start."""
    path.write_text(json.dumps([asdict(client) for client in clients]))
