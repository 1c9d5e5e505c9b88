"""How a program is told where the API server is and who it is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support.parts.pki import KeyPair


def for_certificate(path: Path, *, server: str, ca: Path, user: KeyPair) -> Path:
    """Write a kubeconfig for a user with a client certificate."""
    return _write(path, server, ca, {"client-certificate": str(user.certificate), "client-key": str(user.key)})


def for_token(path: Path, *, server: str, ca: Path, token: str, namespace: str) -> Path:
    """Write a kubeconfig for the bearer of a token, at home in a namespace."""
    return _write(path, server, ca, {"token": token}, {"namespace": namespace})


def for_token_file(path: Path, *, server: str, ca: Path, file: Path, namespace: str) -> Path:
    """Write a kubeconfig for the bearer of the token in a file, which may be replaced, as a Pod has it."""
    return _write(path, server, ca, {"tokenFile": str(file)}, {"namespace": namespace})


def _write(
    path: Path, server: str, ca: Path, user: Mapping[str, str], context: Mapping[str, str] | None = None
) -> Path:
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "e2e", "cluster": {"server": server, "certificate-authority": str(ca)}}],
        "users": [{"name": "e2e", "user": dict(user)}],
        "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "e2e", **(context or {})}}],
        "current-context": "e2e",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(document))
    return path
