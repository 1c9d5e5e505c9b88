"""Say by whose key and from what a release was made, so that others can verify it with tools that they have.

A signature is ECDSA over SHA-256, base64 of DER, as `cosign sign-blob` writes it: `cosign verify-blob --key` and
`openssl dgst -verify` both read it. An attestation is a statement about files by their hash (in-toto Statement v1), in
a signed envelope (DSSE). The provenance is SLSA's, the parts list CycloneDX's.
Source: https://github.com/secure-systems-lab/dsse/blob/v1.0.2/protocol.md, https://in-toto.io/Statement/v1,
https://slsa.dev/spec/v1.0/provenance, https://cyclonedx.org/bom.
"""

import base64
import hashlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

STATEMENT = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
PARTS_LIST = "https://cyclonedx.org/bom"
PAYLOAD = "application/vnd.in-toto+json"
BUILD_TYPE = "urn:credrotator:make-dist:v1"
MAKE_ONE = "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out release.pem"
BUILDER = "urn:credrotator:tools/dist.py"


class Key:
    """A release's private key."""

    def __init__(self, pem: bytes, password: bytes | None = None) -> None:
        """Read it.

        Args:
            pem: An EC key on P-256, PKCS #8 or SEC 1, as `openssl ecparam` or `openssl genpkey` make it.
            password: Of an encrypted key.

        Raises:
            ValueError: It is no such key, or the password is wrong.
        """
        key = serialization.load_pem_private_key(pem, password)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ValueError(  # noqa: TRY004 - of the right type, and of the wrong kind
                f"a signing key is an EC key on P-256; make one: {MAKE_ONE}"
            )
        self._key = key

    def sign(self, content: bytes) -> str:
        """Return the signature of a file's bytes, base64."""
        return base64.b64encode(self._key.sign(content, ec.ECDSA(hashes.SHA256()))).decode("ascii")

    def public(self) -> bytes:
        """Return the public key, PEM."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key.public_key().public_bytes(serialization.Encoding.PEM, form)

    @property
    def identity(self) -> str:
        """The public key's fingerprint (SHA-256 of its DER), by which a verifier picks the key."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return hashlib.sha256(self._key.public_key().public_bytes(serialization.Encoding.DER, form)).hexdigest()


def statement(kind: str, predicate: Mapping[str, Any], files: Sequence[Path]) -> dict[str, Any]:
    """Return a statement about files: ``kind`` is the predicate's type, a URI."""
    subjects = [{"name": file.name, "digest": {"sha256": sha256(file)}} for file in files]
    return {"_type": STATEMENT, "subject": subjects, "predicateType": kind, "predicate": dict(predicate)}


def provenance(version: str, revision: str, locks: Sequence[Path], built_at: datetime) -> dict[str, Any]:
    """Return SLSA's predicate: from which sources, with which locked requirements, by which program."""
    sources = [{"uri": f"git+credrotator@{revision}", "digest": {"gitCommit": revision}}] if revision else []
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"target": "make dist", "version": version},
            "internalParameters": {},
            "resolvedDependencies": sources
            + [{"uri": f"file:{lock.name}", "digest": {"sha256": sha256(lock)}} for lock in locks],
        },
        "runDetails": {
            "builder": {"id": BUILDER},
            "metadata": {"startedOn": built_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")},
        },
    }


def envelope(said: Mapping[str, Any], key: Key) -> dict[str, Any]:
    """Return a statement in a signed envelope (DSSE)."""
    payload = json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
    return {
        "payloadType": PAYLOAD,
        "payload": base64.b64encode(payload).decode("ascii"),
        "signatures": [{"keyid": key.identity, "sig": key.sign(encoded(payload))}],
    }


def encoded(payload: bytes, kind: str = PAYLOAD) -> bytes:
    """Return what a DSSE signature is over (its pre-authentication encoding)."""
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode("ascii"), len(payload), payload)


def sha256(file: Path) -> str:
    """Return a file's hash, hexadecimal."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def revision(root: Path) -> tuple[str, int]:
    """Return the commit that is checked out and its time (Unix seconds); empty and 0 outside a repository."""
    asked = ["git", "-C", str(root), "log", "-1", "--format=%H %ct"]
    done = subprocess.run(asked, text=True, capture_output=True, check=False)  # noqa: S603 - fixed arguments
    commit, _, seconds = done.stdout.strip().partition(" ")
    return (commit, int(seconds)) if seconds else ("", 0)
