"""The issuers that people run, each behind one protocol, with what it does otherwise than the table of `test_issuers`.

A scope says what a session may do: whoever asks for `readwrite` has it, and the STS refuses whoever does not ask. So
the scope is needed on every one of them, though none of them wants one by itself.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import requests

from tests.e2e import realms
from tests.support.parts import hydra, keycloak, oidc_provider, zitadel_oidc
from tests.support.parts.oidc_clients import Client

SCOPE = "readwrite"
"""What the STS knows as a policy."""
UNHELD_SCOPE = "unheld"
"""A scope that the issuer has, and that no client may ask for."""
_REQUEST_S = 30
_REALM = "issuers"

_Json = dict[str, Any]


@dataclass(frozen=True)
class Expected:
    """How the rotation of a policy ends.

    Attributes:
        reason: That of the error; empty where a credential is published.
        hint: Words of the error's hint.
        kind: What is to be done next.
    """

    reason: str = ""
    hint: str = ""
    kind: str = "denied"


PUBLISHED = Expected()


@dataclass(frozen=True)
class Difference:
    """What an issuer does in a case of the table instead, and why it can do no other."""

    expected: Expected
    why: str


class RealIssuer(Protocol):
    """An issuer that runs, with the clients of the table.

    Attributes:
        claim: The claim of its tokens that names the STS's policy.
        differs: The cases in which it cannot do as the table has it.
    """

    claim: ClassVar[str]
    differs: ClassVar[Mapping[str, Difference]]

    @property
    def issuer(self) -> str:
        """What its discovery document calls it."""

    @property
    def port(self) -> int:
        """The port of 127.0.0.1 that it listens on."""

    @property
    def token_path(self) -> str:
        """The path of its token endpoint."""

    def rotate_keys(self) -> None:
        """Have it sign with a new key soon; the old one stays published."""

    def asking_for(self, audience: str) -> _Json:
        """Return the fields of a policy's `oidc` that ask for an audience beside `aud`."""


def published_keys(issuer: RealIssuer) -> list[str]:
    """Return the ids of the keys that verify its tokens."""
    discovery = requests.get(f"{issuer.issuer.rstrip('/')}/.well-known/openid-configuration", timeout=_REQUEST_S)
    keys = requests.get(discovery.json()["jwks_uri"], timeout=_REQUEST_S).json()["keys"]
    return [key["kid"] for key in keys]


_IGNORED = "It ignores the audience of a request: that is a setting of the client."
_ANY_METHOD = "It compares the secret however that comes, and has no client without one."


@dataclass(frozen=True)
class OnKeycloak:
    """Keycloak: an audience is a mapper, and a scope is a client scope of the realm."""

    claim: ClassVar[str] = "policy"
    differs: ClassVar[Mapping[str, Difference]] = {
        "audience-refused": Difference(PUBLISHED, _IGNORED),
        "opaque": Difference(PUBLISHED, "Its access tokens are JWTs, always."),
    }
    server: keycloak.Keycloak

    @property
    def issuer(self) -> str:
        return self.server.issuer(_REALM)

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def token_path(self) -> str:
        return self.server.endpoint(_REALM, "token").removeprefix(self.server.url)

    def rotate_keys(self) -> None:
        component = {
            "name": "rotated",
            "providerId": "rsa-generated",
            "providerType": "org.keycloak.keys.KeyProvider",
            "config": {"priority": ["1000"], "algorithm": ["RS256"]},
        }
        self.server.post(f"realms/{_REALM}/components", component)

    def asking_for(self, audience: str) -> _Json:
        return {}

    @classmethod
    @contextmanager
    def serving(cls, server: keycloak.Keycloak, clients: Iterable[Client]) -> Iterator["OnKeycloak"]:
        """Make the realm."""
        server.create(realms.issuers_realm(_REALM, clients, scopes=(SCOPE, UNHELD_SCOPE)))
        yield cls(server)


class _Server(Protocol):
    """A server that is one issuer, and knows its own address and keys."""

    @property
    def issuer(self) -> str: ...

    @property
    def port(self) -> int: ...

    @property
    def token_path(self) -> str: ...

    def rotate_keys(self) -> None: ...


class _OneIssuer:
    """What is the same for all servers that are one issuer; Keycloak has a realm for each."""

    server: _Server

    @property
    def issuer(self) -> str:
        return self.server.issuer

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def token_path(self) -> str:
        return self.server.token_path

    def rotate_keys(self) -> None:
        self.server.rotate_keys()


@dataclass(frozen=True)
class OnHydra(_OneIssuer):
    """Ory Hydra: each client has one method, and lists of audiences and scopes."""

    claim: ClassVar[str] = "scp"
    differs: ClassVar[Mapping[str, Difference]] = {}
    server: hydra.Hydra

    def asking_for(self, audience: str) -> _Json:
        return {}

    @classmethod
    @contextmanager
    def serving(cls, program: Path, clients: Iterable[Client], directory: Path) -> Iterator["OnHydra"]:
        """Run it, and register the clients."""
        with hydra.serving(program, directory=directory) as server:
            for client in clients:
                server.register(client)
            yield cls(server)


@dataclass(frozen=True)
class OnOidcProvider(_OneIssuer):
    """The npm package: `resource` gives the audience, and has to be a URI."""

    claim: ClassVar[str] = "policy"
    differs: ClassVar[Mapping[str, Difference]] = {
        "audience-refused": Difference(
            Expected("InvalidTarget", "correct resources in the policy"),
            "It follows RFC 8707, which has a code for that.",
        ),
        "other-method": Difference(
            Expected("InvalidClient", "compare client id and"),
            "It says of every client no more than that its authentication failed.",
        ),
    }
    server: oidc_provider.OidcProvider

    def asking_for(self, audience: str) -> _Json:
        return {"resources": [f"https://{audience}"]}

    @classmethod
    @contextmanager
    def serving(cls, package: Path, clients: Iterable[Client], directory: Path) -> Iterator["OnOidcProvider"]:
        """Run it with the clients."""
        with oidc_provider.serving(package, clients, directory=directory) as server:
            yield cls(server)


@dataclass(frozen=True)
class OnZitadelOidc(_OneIssuer):
    """The example provider of zitadel/oidc; what its clients may have is of the small program around it."""

    claim: ClassVar[str] = "policy"
    differs: ClassVar[Mapping[str, Difference]] = {
        "audience-refused": Difference(PUBLISHED, _IGNORED),
        "no-grant": Difference(
            Expected("UnauthorizedClient", "allow the client-credentials grant"),
            "It says `unauthorized_client` and no word more, which others say of a wrong secret.",
        ),
        "other-method": Difference(PUBLISHED, _ANY_METHOD),
    }
    server: zitadel_oidc.ZitadelOidc

    def asking_for(self, audience: str) -> _Json:
        return {}

    @classmethod
    @contextmanager
    def serving(cls, program: Path, clients: Iterable[Client], directory: Path) -> Iterator["OnZitadelOidc"]:
        """Run it with the clients."""
        with zitadel_oidc.serving(program, clients, directory=directory) as server:
            yield cls(server)
