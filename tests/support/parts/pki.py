"""The keys of one cluster: its own CA, the API server's certificate, and certificates that identify users."""

from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

# Who may do everything: the API server takes the group from the certificate and asks no rule.
_ADMINS = "system:masters"
# A user is its common name, but Go takes no certificate whose list of alternative names is there and empty.
_UNUSED = "user.invalid"


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


class Pki:
    """Everything that has to be there before the first program starts."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        directory.chmod(0o700)
        self._directory = directory
        self._ca = trustme.CA(organization_name="credrotator e2e")
        self.ca = directory / "ca.crt"
        self._ca.cert_pem.write_to_path(str(self.ca))
        self.server = self._write("server", self._ca.issue_cert("127.0.0.1", "localhost", "kubernetes.default.svc"))
        self.service_accounts = self._signing_pair("service-accounts")

    def admin(self) -> KeyPair:
        """Return the certificate of a user who may do everything."""
        return self._write("admin", self._ca.issue_cert(_UNUSED, common_name="admin", organization_name=_ADMINS))

    def user(self, name: str) -> KeyPair:
        """Return the certificate of a user whose rights are what RBAC says."""
        return self._write(name.replace(":", "-"), self._ca.issue_cert(_UNUSED, common_name=name))

    def _write(self, name: str, issued: trustme.LeafCert) -> KeyPair:
        pair = KeyPair(self._directory / f"{name}.crt", self._directory / f"{name}.key")
        pair.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(pair.key))
        return pair

    def _signing_pair(self, name: str) -> KeyPair:
        """Return a public key, in the certificate's place, and its private key: no certificate vouches for tokens."""
        private = ec.generate_private_key(ec.SECP256R1())
        pair = KeyPair(self._directory / f"{name}.pub", self._directory / f"{name}.key")
        public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        pair.certificate.write_bytes(public)
        secret = private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        pair.key.write_bytes(secret)
        return pair
