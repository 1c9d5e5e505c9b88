"""The chart on a real API server: objects are valid, installed, changed and removed; rights are what they say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.chart.reference import CHART
from tests.chart.rendering import NAME, NAMESPACE
from tests.chart.switches import SWITCHES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chart.rendering import Helm
    from tests.support.parts.cluster import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(40 * 60)]

ACCOUNT = f"system:serviceaccount:{NAMESPACE}:{NAME}"
# What its operator's own definitions would validate.
FOREIGN = {"ServiceMonitor", "PrometheusRule"}


@pytest.mark.parametrize("values", SWITCHES, ids=str)
def test_every_object_is_valid(helm: Helm, kubernetes: Cluster, values: dict[str, Any]) -> None:
    """The API server takes what each switch renders, and knows every field of it."""
    objects = [found for found in helm.render(values).objects if found["kind"] not in FOREIGN]
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    kubernetes.kubectl("create", "--dry-run=server", "--validate=strict", "--filename=-", stdin=manifest)


@pytest.mark.parametrize("values", SWITCHES, ids=str)
def test_the_pod_meets_the_restricted_standard(helm: Helm, kubernetes: Cluster, values: dict[str, Any]) -> None:
    """A namespace that enforces Kubernetes' strictest pod security standard takes the pod."""
    namespace = {"name": "restricted", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    kubernetes.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": namespace})
    template = helm.render(values).template()
    spec = {"restartPolicy": "Always", **template["spec"], "priorityClassName": None}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod", "namespace": "restricted"}, "spec": spec}
    kubernetes.kubectl("create", "--dry-run=server", "--validate=strict", "--filename=-", stdin=json.dumps(pod))


def test_install_change_and_remove(kubernetes: Cluster, tmp_path: Path) -> None:
    """A release goes from a daemon for all namespaces to a job for one and back, and leaves nothing behind."""

    def release(command: str, **values: Any) -> str:
        file = tmp_path / "values.yaml"
        file.write_text(yaml.safe_dump(values))
        return kubernetes.helm(command, "eu", str(CHART), "--namespace", NAMESPACE, "--values", str(file))

    notes = release("install")
    assert "credrotator status -A" in notes
    assert may(kubernetes, "create", "secrets", "team-b")
    assert "any https issuer" in notes
    notes = release("upgrade", mode="cronjob", watchNamespaces=["team-a"], allowedIssuers=["https://idp.example.com/*"])
    assert "any https issuer" not in notes
    assert may(kubernetes, "create", "secrets", "team-a")
    assert not may(kubernetes, "get", "secrets", "team-b")
    assert "deployment" not in standing(kubernetes)
    # Without any values Helm takes those of the release before.
    release("upgrade", mode="deployment")
    assert "deployment.apps/" + NAME in standing(kubernetes)
    kubernetes.helm("uninstall", "eu", "--namespace", NAMESPACE)
    assert standing(kubernetes) == ""


def standing(kubernetes: Cluster) -> str:
    """Return what the cluster has of the release."""
    kinds = "deployments,cronjobs,services,serviceaccounts,networkpolicies,poddisruptionbudgets"
    rights = "roles,rolebindings,clusterroles,clusterrolebindings"
    selector = "app.kubernetes.io/instance=eu"
    return kubernetes.kubectl("get", f"{kinds},{rights}", "--all-namespaces", f"--selector={selector}", "--output=name")


def may(kubernetes: Cluster, verb: str, resource: str, namespace: str, account: str = ACCOUNT) -> bool:
    """Ask the API server whether an account may do something in a namespace; ``secrets x``: to the one named x."""
    resource, _, item = resource.partition(" ")
    group, _, plural = resource.rpartition("/")
    what = {"verb": verb, "group": group, "resource": plural, "name": item, "namespace": namespace}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": account,
            "groups": ["system:serviceaccounts", "system:authenticated"],
            "resourceAttributes": what,
        },
    }
    answer = kubernetes.kubectl("create", "--filename=-", "--output=json", stdin=json.dumps(review))
    return bool(json.loads(answer)["status"]["allowed"])


def test_the_rights_are_tight(helm: Helm, kubernetes: Cluster) -> None:
    """Asked one by one, the API server grants what the work needs, and none of what it does not."""
    objects = [
        found
        for found in helm.render({"watchNamespaces": ["team-a"], "clientSecretNamespaces": ["vault"]}).objects
        if "Role" in found["kind"]
    ]
    kubernetes.apply(*objects)
    gateway, grants, leases = "aigateway.envoyproxy.io", "gateway.networking.k8s.io", "coordination.k8s.io"
    granted = [
        *((verb, f"{gateway}/backendsecuritypolicies", "team-a") for verb in ("get", "list", "watch")),
        *((verb, "secrets", "team-a") for verb in ("get", "list", "watch", "create", "update")),
        ("delete", "secrets credrotator-bell-0", "team-a"),
        *((verb, "secrets", "vault") for verb in ("get", "list", "watch")),
        ("list", f"{grants}/referencegrants", "vault"),
        ("create", "events", "team-a"),
        ("patch", "events", "team-a"),
        ("create", f"{leases}/leases", NAMESPACE),
    ]
    refused = [
        *((verb, f"{gateway}/backendsecuritypolicies", "team-a") for verb in ("create", "update", "patch", "delete")),
        *((verb, "secrets", "team-a") for verb in ("patch", "delete", "deletecollection")),
        *((verb, "secrets", "vault") for verb in ("create", "update", "delete")),
        *((verb, "secrets", NAMESPACE) for verb in ("get", "list", "create")),
        *((verb, "secrets", "team-b") for verb in ("get", "list", "watch", "create")),
        # Only the one Lease, so not without its name.
        *((verb, f"{leases}/leases", NAMESPACE) for verb in ("get", "list", "update", "delete")),
        ("create", "serviceaccounts/token", NAMESPACE),
        ("get", "configmaps", "team-a"),
        ("create", "pods", "team-a"),
    ]
    assert [right for right in granted if not may(kubernetes, *right)] == []
    assert [right for right in refused if may(kubernetes, *right)] == []
