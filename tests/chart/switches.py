"""Values that turn each part of the chart on, off, or into something else."""

from __future__ import annotations

from typing import Any

CRONJOB = {"mode": "cronjob"}
SWITCHES: list[dict[str, Any]] = [
    {},
    CRONJOB,
    {"watchNamespaces": ["team-a", "team-b"], "clientSecretNamespaces": ["vault"]},
    {**CRONJOB, "watchNamespaces": ["team-a"], "clientSecretNamespaces": ["vault"]},
    {"replicas": 1, "leaderElection": {"enabled": False}},
    {"fullnameOverride": "x" * 52, "leaderElection": {"lease": "other"}},
    {"nameOverride": "rotator", "selector": "tier in (a,b),!c"},
    {"image": {"digest": "sha256:" + "a" * 64, "pullPolicy": "Always"}, "imagePullSecrets": [{"name": "registry"}]},
    {
        "allowedIssuers": ["https://idp.example.com/*"],
        "azure": {"authorityHost": "a.example", "scope": "api://x/.default"},
    },
    {"aws": {"stsEndpointUrl": "https://sts.example.com", "useFipsEndpoint": True}, "timeout": "1m", "workers": 4},
    {"tokenFiles": [{"name": "aws", "audience": "sts.amazonaws.com"}]},
    {"caBundle": {"configMap": "ca", "key": "bundle.pem"}},
    {"caBundle": {"secret": "ca"}},
    {"proxy": {"https": "http://proxy:3128", "http": "http://proxy:3128", "noProxy": ["10.96.0.0/12"]}},
    {
        "env": {"A": 1, "B": True},
        "extraEnv": [{"name": "C", "value": "c"}],
        "extraEnvFrom": [{"secretRef": {"name": "s"}}],
    },
    {"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}, "service": {"annotations": {"a": "b"}}},
    {"prometheusRule": {"enabled": True, "labels": {"a": "b"}, "alertLabels": {"team": "x"}}},
    {"dashboard": {"enabled": True, "annotations": {"grafana_folder": "AI gateway"}}},
    {"podDisruptionBudget": {"enabled": False}, "networkPolicy": {"enabled": False}, "rbac": {"create": False}},
    {"networkPolicy": {"metricsFrom": [{"namespaceSelector": {}}], "extraEgress": [{"to": [{"podSelector": {}}]}]}},
    {"networkPolicy": {"dnsPorts": [], "extraPorts": [8443]}},
    {"serviceAccount": {"create": False, "name": "mine"}},
    {"admission": {"enabled": True}},
    {
        "admission": {"enabled": True, "actions": ["Warn", "Audit"]},
        "allowedIssuers": ["https://*.idp.example.com/realms/?x/*"],
        "watchNamespaces": ["team-a"],
    },
    {"serviceAccount": {"annotations": {"azure.workload.identity/client-id": "x"}}, "podLabels": {"a": "b"}},
    {"podAnnotations": {"a": "1"}, "priorityClassName": "high", "nodeSelector": {"a": "b"}, "verbosity": 2},
    {"tolerations": [{"operator": "Exists"}], "affinity": {"nodeAffinity": {}}, "topologySpreadConstraints": []},
    {"extraVolumes": [{"name": "v", "emptyDir": {}}], "extraVolumeMounts": [{"name": "v", "mountPath": "/v"}]},
    {"podSecurityContext": {"runAsUser": None, "runAsGroup": None}, "global": {"x": 1}},
]
