"""The chart's rights are those that its README documents: by verb, without wildcards, where they are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from credrotator.core.model import ObjectKey
from credrotator.kube.delivery import TRANSIENT_SECRETS
from credrotator.kube.filter_config import config_names
from tests.chart.rendering import NAME, NAMESPACE

if TYPE_CHECKING:
    from tests.chart.rendering import Helm

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(20 * 60)]

READS = {
    "aiservicebackends.aigateway.envoyproxy.io": ["get", "list"],
    "aigatewayroutes.aigateway.envoyproxy.io": ["get", "list"],
    "referencegrants.gateway.networking.k8s.io": ["get", "list"],
}
ONCE = {
    **READS,
    "backendsecuritypolicies.aigateway.envoyproxy.io": ["get", "list"],
    "backendsecuritypolicies/status.aigateway.envoyproxy.io": ["patch"],
    "secrets": ["get", "list", "create", "update"],
    f"secrets {','.join(TRANSIENT_SECRETS)}": ["delete"],
    "events": ["create", "patch"],
}
DAEMON = {
    **ONCE,
    "backendsecuritypolicies.aigateway.envoyproxy.io": ["get", "list", "watch"],
    "secrets": ["get", "list", "create", "update", "watch"],
}
LEASE = {"leases.coordination.k8s.io": ["create"], f"leases.coordination.k8s.io {NAME}": ["get", "update"]}


def test_cluster_wide(helm: Helm) -> None:
    """Without watchNamespaces: one ClusterRole, and the Lease in the release's namespace only."""
    rendered = helm.render()
    assert rendered.rights("ClusterRole") == dict(sorted(DAEMON.items()))
    assert rendered.rights("Role", NAMESPACE) == LEASE


def test_per_namespace(helm: Helm) -> None:
    """With watchNamespaces nothing is cluster-wide; each of them gets the same Role, others only what they are for."""
    rendered = helm.render({"watchNamespaces": ["a", "b"], "clientSecretNamespaces": ["b", "vault"]})
    assert not [kind for kind in rendered.kinds() if kind.startswith("Cluster")]
    assert rendered.rights("Role", "a") == rendered.rights("Role", "b") == dict(sorted(DAEMON.items()))
    assert rendered.rights("Role", "vault") == {
        "referencegrants.gateway.networking.k8s.io": ["get", "list"],
        "secrets": ["get", "list", "watch"],
    }
    assert rendered.environment()["CREDROTATOR_NAMESPACE"] == "a b"
    assert "--all-namespaces" not in rendered.container()["args"]


def test_tokens_of_service_accounts(helm: Helm) -> None:
    """None but of the accounts that are named, or of the namespaces: whoever has the right can act as they do."""
    granted = [{"namespace": "a", "accounts": ["bedrock", "vertex"]}, {"namespace": "b"}]
    for values in ({"watchNamespaces": ["a", "b"]}, {}, {"mode": "cronjob"}):
        rendered = helm.render({**values, "serviceAccountTokens": granted})
        roles = {role["metadata"]["namespace"]: role["rules"] for role in rendered.all("Role") if _is_for_tokens(role)}
        rule = {"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"]}
        assert roles == {"a": [{**rule, "resourceNames": ["bedrock", "vertex"]}], "b": [rule]}
        bound = [binding for binding in rendered.all("RoleBinding") if _is_for_tokens(binding)]
        assert [binding["metadata"]["namespace"] for binding in bound] == ["a", "b"]
    assert "serviceaccounts/token" not in str(helm.render().objects)


def test_filter_configurations(helm: Helm) -> None:
    """Only those of the named Gateways, by the names that the program asks for; the job and the default get none."""
    gateways = [{"namespace": "prod", "name": "envoy"}, {"namespace": "b", "name": "g" * 253}]
    rendered = helm.render({"verifyDelivery": {"gateways": gateways}})
    (role,) = [role for role in rendered.all("Role") if role["metadata"]["name"].endswith("-filters")]
    names = [config_names(ObjectKey(each["namespace"], each["name"])) for each in gateways]
    (rule,) = role["rules"]
    assert role["metadata"]["namespace"] == "envoy-gateway-system"
    assert (rule["resources"], rule["verbs"]) == (["secrets"], ["get"])
    assert rule["resourceNames"] == [name for each in names for name in (each.whole, each.index, *each.parts)]
    assert rendered.environment()["CREDROTATOR_VERIFY_DELIVERY"].split() == ["prod/envoy", f"b/{'g' * 253}"]
    for values in ({}, {"mode": "cronjob", "verifyDelivery": {"gateways": gateways}}):
        assert "filters" not in str(helm.render(values).all("Role"))


def _is_for_tokens(item: dict[str, Any]) -> bool:
    return bool(item["metadata"]["name"].endswith("-tokens"))


def test_the_job_watches_nothing(helm: Helm) -> None:
    """A pass reads once: no watch, and no Lease; of Secrets, it lists those that ask for themselves."""
    rendered = helm.render({"mode": "cronjob"})
    assert rendered.rights("ClusterRole") == dict(sorted(ONCE.items()))
    assert rendered.all("Role") == []
    held = helm.render({"mode": "cronjob", "watchNamespaces": ["a"], "clientSecretNamespaces": ["vault"]})
    assert held.rights("Role", "vault")["secrets"] == ["get"]


@pytest.mark.parametrize("values", [{}, {"mode": "cronjob"}, {"watchNamespaces": ["a"]}], ids=str)
def test_no_wildcards(helm: Helm, values: dict[str, Any]) -> None:
    """No rule names everything of anything."""
    rendered = helm.render(values)
    for role in [*rendered.all("Role"), *rendered.all("ClusterRole")]:
        for rule in role["rules"]:
            for part in rule.values():
                assert not [item for item in part if "*" in item]


def test_bindings_are_for_the_account_of_the_pod(helm: Helm) -> None:
    """Every Role is bound, in its own namespace, to the account that the pod runs under, and to nobody else."""
    tokens = {"serviceAccountTokens": [{"namespace": "a", "accounts": ["bedrock"]}]}
    filters = {"verifyDelivery": {"gateways": [{"namespace": "prod", "name": "envoy"}]}}
    for values in (
        tokens,
        filters,
        {"watchNamespaces": ["a", "b"]},
        {"serviceAccount": {"create": False, "name": "mine"}},
    ):
        rendered = helm.render(values)
        account = {
            "kind": "ServiceAccount",
            "name": rendered.template()["spec"]["serviceAccountName"],
            "namespace": NAMESPACE,
        }
        roles = {
            (role["kind"], role["metadata"].get("namespace"), role["metadata"]["name"])
            for role in [*rendered.all("Role"), *rendered.all("ClusterRole")]
        }
        bound = set()
        for binding in [*rendered.all("RoleBinding"), *rendered.all("ClusterRoleBinding")]:
            assert binding["subjects"] == [account]
            bound.add((binding["roleRef"]["kind"], binding["metadata"].get("namespace"), binding["roleRef"]["name"]))
        assert bound == roles


def test_two_releases_do_not_meet(helm: Helm) -> None:
    """Names of Roles outside the release's namespace hold that namespace."""
    assert helm.render().one("ClusterRole")["metadata"]["name"] == f"{NAMESPACE}:{NAME}"


def test_rights_can_be_left_to_others(helm: Helm) -> None:
    """With rbac.create off the chart grants nothing."""
    kinds = helm.render({"rbac": {"create": False}}).kinds()
    assert not [kind for kind in kinds if "Role" in kind]
