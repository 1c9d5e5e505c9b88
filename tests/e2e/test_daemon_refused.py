"""What the API server refuses, and what nobody granted: the daemon says so, keeps what it has, and goes on."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from tests.e2e import published_secrets
from tests.e2e.gateway_site import Destination
from tests.e2e.published_secrets import PublishedSecrets
from tests.support import cluster_policies
from tests.support.cluster_policies import GROUP, NAMESPACE, client_secrets, secret_of
from tests.support.parts import daemon
from tests.support.parts.api import Json, Name

_START = timedelta(seconds=30)
# A refusal is tried again after a minute, and then after two.
_AGAIN = timedelta(minutes=3)
_POLL_S = 0.2
_VAULT = "vault"
_ACCOUNT = Name(NAMESPACE, "limited")
_RIGHTS: list[Json] = [
    {"apiGroups": [GROUP], "resources": ["backendsecuritypolicies"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": [GROUP], "resources": ["backendsecuritypolicies/status"], "verbs": ["patch"]},
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
    {"apiGroups": ["gateway.networking.k8s.io"], "resources": ["referencegrants"], "verbs": ["get", "list"]},
]
_WRITING: Json = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "update", "delete"]}


def _role(namespace: str, rules: list[Json]) -> list[Json]:
    rbac, metadata = "rbac.authorization.k8s.io", {"name": _ACCOUNT.name, "namespace": namespace}
    subject = {"kind": "ServiceAccount", "namespace": _ACCOUNT.namespace, "name": _ACCOUNT.name}
    role = {"apiGroup": rbac, "kind": "Role", "name": _ACCOUNT.name}
    return [
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": metadata, "rules": rules},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": role,
            "subjects": [subject],
        },
    ]


def _grant() -> Json:
    """Return the consent of the vault's owner to a policy of the other namespace."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1beta1",
        "kind": "ReferenceGrant",
        "metadata": {"name": "policies", "namespace": _VAULT},
        "spec": {
            "from": [{"group": GROUP, "kind": "BackendSecurityPolicy", "namespace": NAMESPACE}],
            "to": [{"group": "", "kind": "Secret"}],
        },
    }


@pytest.fixture(scope="module")
def published(prepared: Destination) -> Iterator[PublishedSecrets]:
    """A daemon that may read everything and write nothing, and policies of which one refers to another namespace."""
    cluster, issuer = prepared.cluster, prepared.issuer
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"namespace": NAMESPACE, "name": _ACCOUNT.name},
    }
    vault = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _VAULT}}
    cluster.apply(account, vault, *_role(NAMESPACE, _RIGHTS), *_role(_VAULT, _RIGHTS), *client_secrets(_VAULT))
    afar = cluster_policies.aws("afar", issuer)
    afar["spec"]["awsCredentials"]["oidcExchangeToken"]["oidc"]["clientSecret"]["namespace"] = _VAULT
    prepared.add("refused", [cluster_policies.aws("near", issuer), afar])
    kubeconfig = cluster.kubeconfig_of(_ACCOUNT)
    with (
        published_secrets.following(cluster.api) as published,
        daemon.serving(kubeconfig, prepared.sandbox, "--no-leader-elect", directory=cluster.directory),
    ):
        yield published


def _comes(condition: Callable[[], bool]) -> bool:
    give_up = time.monotonic() + _START.total_seconds()
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(_POLL_S)
    return True


def _failures(site: Destination, policy: str) -> set[str]:
    """Return the reasons that a policy's Events give."""
    listed = site.cluster.kubectl("get", "events", "--namespace", NAMESPACE, "--output=json")
    # Others write Events here too, not all of them about an object that has a name.
    events = [event for event in json.loads(listed)["items"] if event["involvedObject"].get("name") == policy]
    return {event["message"].partition(":")[0] for event in events if event["reason"] == "RotationFailed"}


def test_fault_27_what_is_refused_is_said_and_mended(prepared: Destination, published: PublishedSecrets) -> None:
    """Each policy has an Event with the reason; when right and consent are given, both are published by themselves.

    The credential that could not be written was kept: STS is asked once for each policy, and not again.
    """
    assert _comes(lambda: "ApiServerForbidden" in _failures(prepared, "near"))
    assert _comes(lambda: "RefNotPermitted" in _failures(prepared, "afar"))
    assert prepared.exchanges == 1

    prepared.cluster.apply(*_role(NAMESPACE, [*_RIGHTS, _WRITING]), _grant())
    for policy in ("near", "afar"):
        assert published.wait(secret_of(policy), 0, within=_AGAIN), policy
    assert prepared.exchanges == 2
