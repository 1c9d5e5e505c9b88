"""The gateway's controller as far as filter configurations go: both shapes, from a cache that may be behind.

It copies Secrets as they are in its cache; ``see`` brings that up to date. Source: Envoy AI Gateway v1.0.0 and v1.1.0,
``internal/controller``; written apart from what reads configurations.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from typing import TYPE_CHECKING, Any

import yaml

from credrotator.core.model import ObjectKey
from tests.support.manifests import values

if TYPE_CHECKING:
    from tests.support.kube.simulator import ApiServer

SYSTEM = "envoy-gateway-system"
GATEWAY = ObjectKey("default", "envoy")
WHOLE = "envoy-default"
INDEX = "envoy-default-127d2e50214c"
"""The name's end is the beginning of ``printf default/envoy | sha256sum``."""


def backend(name: str, credential: str, namespace: str = "default", rule: int = 0, kind: str = "aws") -> dict[str, Any]:
    """A backend as it stands in a configuration."""
    auth: dict[str, dict[str, Any]] = {
        "aws": {"credentialFileLiteral": credential, "region": "us-east-1"},
        "azure": {"accessToken": credential},
        "gcp": {"accessToken": credential, "region": "us-central1", "projectName": "p"},
        "apiKey": {"key": credential},
    }
    full = f"{namespace}/{name}/route/chat/rule/{rule}/ref/0"
    return {"name": full, "schema": {"name": "OpenAI"}, "auth": {kind: auth[kind]}}


def whole(text: str, name: str = WHOLE, at: str = "") -> dict[str, Any]:
    """A configuration in one piece."""
    return _secret(name, "filter-config.yaml", text.encode(), at)


def parts(text: str, size: int = 700 * 1024, at: str = "", index: str = INDEX) -> list[dict[str, Any]]:
    """A configuration in parts: those first, as the controller writes them, and their index last."""
    data = text.encode()
    chunks = [data[start : start + size] for start in range(0, len(data), size)] or [b""]
    named = [f"{index}-part-{number:03d}" for number in range(len(chunks))]
    document = {
        "version": "v1.1.0",
        "uuid": str(uuid.uuid4()),
        "checksum": hashlib.sha256(data).hexdigest(),
        "parts": [
            {"name": name, "path": f"parts/{number:03d}", "sizeBytes": len(chunk)}
            for number, (name, chunk) in enumerate(zip(named, chunks, strict=True))
        ],
    }
    secrets = [_secret(name, "chunk", chunk, at) for name, chunk in zip(named, chunks, strict=True)]
    return [*secrets, _secret(index, "index.yaml", yaml.safe_dump(document).encode(), at)]


def _secret(name: str, key: str, data: bytes, at: str) -> dict[str, Any]:
    fields = [{"manager": "controller", "time": at}] if at else []
    metadata = {"namespace": SYSTEM, "name": name, "managedFields": fields}
    return {"metadata": metadata, "data": {key: base64.b64encode(data).decode()}}


class SimulatedGateway:
    """A controller with one Gateway.

    Args:
        server: Where it reads and writes.
        in_parts: Write an index with parts beside the whole, as v1.1.0 does.
    """

    def __init__(self, server: ApiServer, *, in_parts: bool = True) -> None:
        self._server = server
        self._in_parts = in_parts
        self._routes: list[tuple[str, ObjectKey, str]] = []
        self._cache: dict[ObjectKey, str] = {}

    def route(self, backend_name: str, secret: ObjectKey, key: str = "credentials") -> None:
        """Have a route lead to a backend whose credential is in a Secret."""
        self._routes.append((backend_name, secret, key))

    def see(self) -> None:
        """Bring the cache of Secrets up to date."""
        for _, secret, key in self._routes:
            found = values(self._server, secret.name, secret.namespace) or {}
            if key in found:
                self._cache[secret] = found[key]

    def reconcile(self) -> None:
        """Write the configuration, from the cache; a backend without a credential is left out."""
        known = [(name, self._cache[secret]) for name, secret, _ in self._routes if secret in self._cache]
        listed = [backend(name, credential) for name, credential in known]
        text = yaml.safe_dump({"version": "v1.1.0", "uuid": str(uuid.uuid4()), "backends": listed})
        for secret in [*(parts(text) if self._in_parts else []), whole(text)]:
            self._write(secret)

    def _write(self, secret: dict[str, Any]) -> None:
        name = secret["metadata"]["name"]
        if self._server.get("secrets", name, SYSTEM):
            self._server.patch("secrets", name, {"data": secret["data"]}, SYSTEM)
        else:
            self._server.create("secrets", secret)
