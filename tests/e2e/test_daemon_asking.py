"""A Secret that asks for itself, on a real API server: an MCPRoute gets its key without a policy."""

import base64
import json
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from credrotator.sandbox import DEFAULT_CLIENT
from tests.e2e.gateway_objects import GATEWAY
from tests.e2e.gateway_site import Destination
from tests.support.cluster_policies import GROUP, ISSUER_CLIENT, NAMESPACE, SECRETS
from tests.support.parts import daemon
from tests.support.parts.api import Json, Name, Resource

_SECRET = "mcp-key"
_EVENTS = Resource("v1", "events")
_LIFE = timedelta(seconds=20)
_START = timedelta(seconds=30)
_POLL_S = 0.1


def _asking(issuer: str) -> Json:
    client = {"provider": {"issuer": issuer}, "clientID": DEFAULT_CLIENT, "clientSecret": {"name": ISSUER_CLIENT}}
    notes = {
        "credrotator.io/client-credentials": json.dumps({"aud": "mcp", "oidc": client}),
        "credrotator.io/shape": "api-key",
    }
    labels = {"credrotator.io/managed": "true", "app.kubernetes.io/managed-by": "Helm"}
    metadata = {"name": _SECRET, "namespace": NAMESPACE, "labels": labels, "annotations": notes}
    return {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata}


def _route() -> Json:
    tools = {
        "name": "endpoint",
        "kind": "Backend",
        "group": "gateway.envoyproxy.io",
        "path": "/mcp",
        "securityPolicy": {"apiKey": {"secretRef": {"name": _SECRET}}},
    }
    return {
        "apiVersion": f"{GROUP}/v1beta1",
        "kind": "MCPRoute",
        "metadata": {"name": "mcp", "namespace": NAMESPACE},
        "spec": {
            "parentRefs": [{"name": GATEWAY, "kind": "Gateway", "group": "gateway.networking.k8s.io"}],
            "backendRefs": [tools],
        },
    }


@pytest.fixture(scope="module")
def asked(prepared: Destination) -> Iterator[Destination]:
    """The daemon, with short-lived tokens, and a route whose key lies in a Secret that asks for itself."""
    prepared.sandbox.issuer.token_life = _LIFE
    prepared.cluster.apply(_asking(prepared.issuer), _route())
    options = (prepared.cluster.admin, prepared.sandbox, "--no-leader-elect")
    with daemon.serving(*options, directory=prepared.cluster.directory):
        yield prepared


def _key(site: Destination, name: str = _SECRET) -> str:
    found = site.cluster.api.find(SECRETS, Name(NAMESPACE, name)) or {}
    return base64.b64decode((found.get("data") or {}).get("apiKey", "")).decode()


def _another(site: Destination, old: str) -> str:
    """Wait for a key other than ``old``; return it, or nothing if it does not come in time."""
    give_up = time.monotonic() + (_LIFE + _START).total_seconds()
    while (found := _key(site)) in {"", old}:
        if time.monotonic() > give_up:
            return ""
        time.sleep(_POLL_S)
    return found


def test_filled_and_refilled(asked: Destination) -> None:
    """The route's key is there, and is another one before it expires; the owner's labels and annotations stay."""
    first = _another(asked, "")
    assert first.count(".") == 2
    second = _another(asked, first)
    assert second, "no second key"
    metadata = asked.cluster.api.get(SECRETS, Name(NAMESPACE, _SECRET))["metadata"]
    assert metadata["labels"] == _asking("")["metadata"]["labels"]
    assert metadata["annotations"].items() >= _asking(asked.issuer)["metadata"]["annotations"].items()
    assert "ownerReferences" not in metadata


def test_events_are_on_the_secret(asked: Destination) -> None:
    """A real API server takes them: `kubectl describe secret` shows what was done."""
    listed = asked.cluster.api.list(_EVENTS, NAMESPACE)["items"]
    reasons = {item["reason"] for item in listed if item["involvedObject"]["kind"] == "Secret"}
    assert "Rotated" in reasons


def test_a_deleted_secret_stays_deleted(asked: Destination) -> None:
    """Whoever deletes it takes the request back."""
    asked.cluster.api.delete(SECRETS, Name(NAMESPACE, _SECRET))
    time.sleep(_LIFE.total_seconds())
    assert asked.cluster.api.find(SECRETS, Name(NAMESPACE, _SECRET)) is None
