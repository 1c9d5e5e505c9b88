"""An Entra authority: Keycloak's verification behind TLS and the paths of Entra, which the SDKs insist on."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
import trustme

from tests.e2e import realms
from tests.e2e.upstream.bearer import BearerVerifier
from tests.support.parts import envoy
from tests.support.parts.keycloak import Keycloak

_REQUEST_S = 30


@dataclass(frozen=True)
class Entra:
    """A running authority with the one tenant, and the private CA that vouches for it."""

    authority: str
    ca: Path
    keycloak: Keycloak

    @property
    def tenant(self) -> str:
        """The tenant's own address: the issuer of its tokens, and the audience of its client assertions."""
        return f"{self.authority}/realms/{realms.TENANT}"

    def accept(self, token: str) -> bool:
        """Ask the authority itself whether an access token is in force (RFC 7662)."""
        answer = requests.post(
            f"{self.tenant}/protocol/openid-connect/token/introspect",
            data={
                "token": token,
                "client_id": realms.ENTRA_AUDIENCE,
                "client_secret": realms.RESOURCE_SECRET,
            },
            verify=str(self.ca),
            timeout=_REQUEST_S,
        )
        answer.raise_for_status()
        return bool(answer.json()["active"])

    def verifier(self) -> BearerVerifier:
        """Return what a resource server of this tenant checks."""
        keys = requests.get(self.keycloak.endpoint(realms.TENANT, "certs"), timeout=_REQUEST_S)
        keys.raise_for_status()
        return BearerVerifier(keys.json(), issuer=self.tenant, audience=realms.ENTRA_AUDIENCE)


@contextmanager
def serving(program: Path, keycloak: Keycloak, *, directory: Path) -> Iterator[Entra]:
    """Run the TLS front and create the tenant behind it."""
    directory.mkdir(parents=True, exist_ok=True)
    ca, certificate = directory / "ca.pem", directory / "server.pem"
    private_ca = trustme.CA()
    private_ca.cert_pem.write_to_path(str(ca))
    private_ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    context = {"keycloak_port": keycloak.port, "certificate": str(certificate)}
    with envoy.serving(program, "entra.yaml.j2", directory=directory, **context) as port:
        authority = f"https://localhost:{port}"
        tenant = realms.entra_realm(
            issuer=keycloak.issuer(realms.ISSUER),
            keys=keycloak.endpoint(realms.ISSUER, "certs"),
            authority=authority,
        )
        keycloak.create(tenant)
        yield Entra(authority, ca, keycloak)
