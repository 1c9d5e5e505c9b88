"""What the chart renders, for each of its switches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.chart.reference import CHART
from tests.chart.rendering import NAME, NAMESPACE, Refused
from tests.chart.switches import CRONJOB, SWITCHES

if TYPE_CHECKING:
    from tests.chart.rendering import Helm

OF_THE_CLUSTER = ("Cluster", "ValidatingAdmissionPolicy")
"""Beginnings of the kinds that have no namespace."""
# The first test waits for Helm, which takes minutes to build on a cold machine.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(20 * 60)]


@pytest.mark.parametrize("values", SWITCHES, ids=str)
def test_lint_finds_nothing(helm: Helm, values: dict[str, Any]) -> None:
    """`helm lint --strict` is content with the chart, whatever the switches."""
    assert "0 chart(s) failed" in helm.run("lint", "--strict", str(CHART), values=values)


@pytest.mark.parametrize("values", SWITCHES, ids=str)
def test_every_switch_renders_whole_objects(helm: Helm, values: dict[str, Any]) -> None:
    """What comes out is YAML without double keys; each object has its kind, name, namespace and labels."""
    rendered = helm.render(values)
    assert rendered.objects
    identities = set()
    for found in rendered.objects:
        metadata = found["metadata"]
        identities.add((found["apiVersion"], found["kind"], metadata.get("namespace"), metadata["name"]))
        assert metadata["labels"]["app.kubernetes.io/instance"] == "eu"
        assert ("namespace" in metadata) is not found["kind"].startswith(OF_THE_CLUSTER)
    assert len(identities) == len(rendered.objects)


def test_defaults(helm: Helm) -> None:
    """Out of the box: a daemon of two replicas for all namespaces, with all that belongs to it."""
    rendered = helm.render()
    assert rendered.kinds() == [
        "ClusterRole", "ClusterRoleBinding", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "Role",
        "RoleBinding", "Service", "ServiceAccount",
    ]  # fmt: skip
    assert rendered.one("Deployment")["spec"]["replicas"] == 2
    assert rendered.container()["args"] == [
        "run", "--listen=0.0.0.0:8080", "--leader-elect", "--all-namespaces",
    ]  # fmt: skip
    assert rendered.environment() == {
        "CREDROTATOR_LEASE": f"{NAMESPACE}/{NAME}",
        "CREDROTATOR_TIMEOUT": "30s",
        "CREDROTATOR_WORKERS": "24",
    }


def test_selectors_find_the_pods(helm: Helm) -> None:
    """Deployment, Service, PodDisruptionBudget, NetworkPolicy and ServiceMonitor select what they mean."""
    rendered = helm.render({"serviceMonitor": {"enabled": True}, "podLabels": {"a": "b"}})
    labels = rendered.template()["metadata"]["labels"].items()
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert rendered.one(kind)["spec"]["selector"]["matchLabels"].items() <= labels
    assert rendered.one("Service")["spec"]["selector"].items() <= labels
    assert rendered.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"].items() <= labels
    selected = rendered.one("ServiceMonitor")["spec"]["selector"]["matchLabels"].items()
    assert selected <= rendered.one("Service")["metadata"]["labels"].items()
    for spread in rendered.template()["spec"]["topologySpreadConstraints"]:
        assert spread["labelSelector"]["matchLabels"].items() <= labels


@pytest.mark.parametrize("values", [{}, CRONJOB], ids=str)
def test_the_pod_is_hardened(helm: Helm, values: dict[str, Any]) -> None:
    """Non-root with a fixed id, nothing writable but /tmp, no capabilities, the runtime's seccomp profile, limits."""
    rendered = helm.render(values)
    pod, container = rendered.template()["spec"], rendered.container()
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "privileged": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]
    assert container["resources"]["limits"]["memory"]
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert rendered.one("ServiceAccount")["automountServiceAccountToken"] is False
    assert pod["automountServiceAccountToken"] is True


def test_user_ids_can_be_left_to_the_platform(helm: Helm) -> None:
    """With null the ids are gone, and the rest of the context stays."""
    pod = helm.render({"podSecurityContext": {"runAsUser": None, "runAsGroup": None}}).template()["spec"]
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_probes_ask_what_they_mean(helm: Helm) -> None:
    """Liveness and start look at /healthz, readiness at /readyz, on the port that is listened on."""
    container = helm.render({"listen": {"address": "[::]", "port": 9090}}).container()
    assert "--listen=[::]:9090" in container["args"]
    assert container["ports"][0]["containerPort"] == 9090
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}


def test_cronjob(helm: Helm) -> None:
    """The job runs one pass, never two at once; nothing of the daemon's is there."""
    rendered = helm.render({**CRONJOB, "cronjob": {"schedule": "*/5 * * * *", "within": "8m"}})
    assert rendered.kinds() == ["ClusterRole", "ClusterRoleBinding", "CronJob", "NetworkPolicy", "ServiceAccount"]
    spec = rendered.one("CronJob")["spec"]
    assert (spec["schedule"], spec["concurrencyPolicy"], spec["timeZone"]) == ("*/5 * * * *", "Forbid", "Etc/UTC")
    assert rendered.template()["spec"]["restartPolicy"] == "Never"
    assert rendered.container()["args"][:2] == ["rotate", "--within=8m"]
    assert "--all-namespaces" in rendered.container()["args"]
    assert rendered.one("NetworkPolicy")["spec"]["ingress"] == []


@pytest.mark.parametrize(("replicas", "made"), [(1, 0), (2, 1), (3, 1)])
def test_a_budget_needs_more_than_one_replica(helm: Helm, replicas: int, made: int) -> None:
    """With one replica a PodDisruptionBudget would only block the draining of its node."""
    assert len(helm.render({"replicas": replicas}).all("PodDisruptionBudget")) == made


def test_extra_arguments_come_last(helm: Helm) -> None:
    """What a user adds stands behind all arguments of the chart, so that it wins."""
    rendered = helm.render({"verbosity": 1, "extraArgs": ["--more", "--workers=3"]})
    assert rendered.container()["args"][:2] == ["-v", "run"]
    assert rendered.container()["args"][-3:] == ["--all-namespaces", "--more", "--workers=3"]


@pytest.mark.parametrize(("kind", "volume"), [("configMap", "configMap"), ("secret", "secret")])
def test_extra_ca(helm: Helm, kind: str, volume: str) -> None:
    """The CA is mounted as a directory, so that a new one arrives, and named where every command finds it."""
    rendered = helm.render({"caBundle": {kind: "corporate", "key": "bundle.pem"}})
    assert rendered.environment()["CREDROTATOR_CA_FILE"] == "/etc/credrotator/ca/bundle.pem"
    mount = rendered.container()["volumeMounts"][1]
    assert mount == {"name": "ca", "mountPath": "/etc/credrotator/ca", "readOnly": True}
    assert volume in rendered.template()["spec"]["volumes"][1]


def test_token_files(helm: Helm) -> None:
    """The kubelet keeps a token for each audience; they are named where every command in the pod finds them."""
    files = [
        {"name": "aws", "audience": "sts.amazonaws.com"},
        {"name": "aws", "namespace": "team-a", "audience": "team-a", "expirationSeconds": 600},
    ]
    rendered = helm.render({"tokenFiles": files})
    place = "/var/run/secrets/credrotator.io/tokens"
    assert rendered.environment()["CREDROTATOR_TOKEN_FILE"] == f"aws={place}/aws team-a/aws={place}/team-a.aws"
    assert rendered.container()["volumeMounts"][1] == {"name": "tokens", "mountPath": place, "readOnly": True}
    assert rendered.template()["spec"]["volumes"][1]["projected"]["sources"] == [
        {"serviceAccountToken": {"path": "aws", "audience": "sts.amazonaws.com", "expirationSeconds": 3600}},
        {"serviceAccountToken": {"path": "team-a.aws", "audience": "team-a", "expirationSeconds": 600}},
    ]
    assert helm.render(CRONJOB | {"tokenFiles": files[:1]}).environment()["CREDROTATOR_TOKEN_FILE"]


def test_proxies_leave_the_cluster_out(helm: Helm) -> None:
    """With a proxy, the cluster's own names and the API server's address are not sent there."""
    rendered = helm.render({"proxy": {"https": "http://proxy:3128", "noProxy": ["10.96.0.0/12"]}})
    excepted = rendered.environment()["NO_PROXY"].split(",")
    assert rendered.environment()["HTTPS_PROXY"] == "http://proxy:3128"
    assert {".svc", ".cluster.local", "$(KUBERNETES_SERVICE_HOST)", "10.96.0.0/12"} <= set(excepted)
    assert not helm.render().environment().keys() & {"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"}


def test_network_policy(helm: Helm) -> None:
    """Out: names, the API server, https and the ports that were added. In: the metrics."""
    spec = helm.render({"networkPolicy": {"extraPorts": [8443]}}).one("NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["ingress"] == [{"ports": [{"port": "http", "protocol": "TCP"}]}]
    names, calls = spec["egress"]
    assert {(port["port"], port["protocol"]) for port in names["ports"]} == {(53, "UDP"), (53, "TCP")}
    assert [port["port"] for port in calls["ports"]] == [443, 6443, 8443]


def test_image_by_digest(helm: Helm) -> None:
    """The digest wins over the tag; without either the tag is the chart's appVersion."""
    digest = "sha256:" + "a" * 64
    assert helm.render({"image": {"digest": digest}}).container()["image"] == f"credrotator@{digest}"
    assert helm.render({"image": {"tag": "1.2"}}).container()["image"] == "credrotator:1.2"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"mode": "x"}, "value must be one of 'deployment', 'cronjob'"),
        ({"watchNamespace": ["a"]}, "additional properties 'watchNamespace' not allowed"),
        ({"timeout": 30}, "at '/timeout': got number, want string"),
        ({"caBundle": {"configMap": "a", "secret": "b"}}, "caBundle: name a configMap or a secret, not both"),
        ({"tokenFiles": [{"name": "a", "audience": "b"}] * 2}, "two have the same name for the same namespace"),
        ({"leaderElection": {"enabled": False}}, "two would write at once; set replicas=1"),
        ({"clientSecretNamespaces": ["a"]}, "clientSecretNamespaces is for watchNamespaces"),
        ({"serviceAccount": {"create": False}}, "name the account in serviceAccount.name"),
    ],
    ids=str,
)
def test_wrong_values_are_refused_in_words(helm: Helm, values: dict[str, Any], words: str) -> None:
    """The error says which value is wrong, and what would be right."""
    with pytest.raises(Refused) as caught:
        helm.render(values)
    assert words in str(caught.value)
