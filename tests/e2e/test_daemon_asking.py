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
# The controller's name for the copy that the filter of this backend injects.
_INJECTED = "ai-eg-mcp-cred-mcp-endpoint"
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


def _filter() -> Json:
    """Return what names the Secret for a route that is no MCPRoute; the shape would be another one."""
    return {
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "HTTPRouteFilter",
        "metadata": {"name": "tools", "namespace": NAMESPACE},
        "spec": {"credentialInjection": {"overwrite": True, "credential": {"valueRef": {"name": _SECRET}}}},
    }


@pytest.fixture(scope="module")
def asked(site: Destination) -> Iterator[Destination]:
    """The daemon, with short-lived tokens, and a route whose key lies in a Secret that asks for itself."""
    site.sandbox.issuer.token_life = _LIFE
    site.cluster.apply(_asking(site.issuer), _route(), _filter())
    with daemon.serving(site.cluster.admin, site.sandbox, "--no-leader-elect", directory=site.cluster.directory):
        yield site


def _key(site: Destination, name: str = _SECRET, key: str = "apiKey") -> str:
    found = site.cluster.api.find(SECRETS, Name(NAMESPACE, name)) or {}
    return base64.b64decode((found.get("data") or {}).get(key, "")).decode()


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


def test_the_gateway_follows(asked: Destination) -> None:
    """Its controller copies each key for the filter that injects it, while the key is still good for long."""
    renewed = _another(asked, _key(asked))
    give_up = time.monotonic() + _LIFE.total_seconds() / 4
    while _key(asked, _INJECTED, "credential") != f"Bearer {renewed}":
        assert time.monotonic() < give_up, "the controller has not copied the key"
        time.sleep(_POLL_S)


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
