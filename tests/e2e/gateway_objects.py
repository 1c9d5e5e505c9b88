"""The objects of a gateway whose routes lead to backends: what Envoy Gateway and its users would have made."""

from collections.abc import Iterator, Sequence

from tests.support.cluster_policies import GROUP, NAMESPACE
from tests.support.parts.api import Json
from tests.support.parts.controller import SYSTEM_NAMESPACE

GATEWAY = "gateway"
# Where the controller writes, for that Gateway, what the filter mounts.
CONFIG_SECRET = f"{GATEWAY}-{NAMESPACE}"
CONFIG_KEY = "filter-config.yaml"

_GATEWAY_GROUP = "gateway.networking.k8s.io"
_ENVOY_GROUP = "gateway.envoyproxy.io"
_HOST = "endpoint"
_MOST_RULES = 15


def gateway() -> list[Json]:
    """Return the Gateway, and the Pod without which the controller takes it for not yet made.

    NOTE: no Deployment in its place. Nobody would ever report it as rolled out, and while a roll-out lasts the
    controller writes the filter's configuration every 5 s.
    """
    labels = {f"{_ENVOY_GROUP}/owning-gateway-name": GATEWAY, f"{_ENVOY_GROUP}/owning-gateway-namespace": NAMESPACE}
    return [
        {
            "apiVersion": f"{_GATEWAY_GROUP}/v1",
            "kind": "GatewayClass",
            "metadata": {"name": GATEWAY},
            "spec": {"controllerName": f"{_ENVOY_GROUP}/gatewayclass-controller"},
        },
        {
            "apiVersion": f"{_GATEWAY_GROUP}/v1",
            "kind": "Gateway",
            "metadata": {"name": GATEWAY, "namespace": NAMESPACE},
            "spec": {
                "gatewayClassName": GATEWAY,
                "listeners": [{"name": "http", "protocol": "HTTP", "port": 80}],
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "envoy", "namespace": SYSTEM_NAMESPACE, "labels": labels},
            "spec": {"containers": [{"name": "envoy", "image": "unused"}]},
        },
        {
            "apiVersion": f"{_ENVOY_GROUP}/v1alpha1",
            "kind": "Backend",
            "metadata": {"name": _HOST, "namespace": NAMESPACE},
            "spec": {"endpoints": [{"fqdn": {"hostname": "models.example", "port": 443}}]},
        },
    ]


def backend(name: str, schema: str, version: str | None = None) -> Json:
    """Return a backend that speaks an API: AWSBedrock, AzureOpenAI, OpenAI."""
    api = {"name": schema, **({"version": version} if version else {})}
    return {
        "apiVersion": f"{GROUP}/v1beta1",
        "kind": "AIServiceBackend",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"schema": api, "backendRef": {"name": _HOST, "kind": "Backend", "group": _ENVOY_GROUP}},
    }


def routes(prefix: str, backends: Sequence[str]) -> Iterator[Json]:
    """Return routes that lead to each backend by a model of its own name, as many rules in each as it may have."""
    for first in range(0, len(backends), _MOST_RULES):
        yield {
            "apiVersion": f"{GROUP}/v1beta1",
            "kind": "AIGatewayRoute",
            "metadata": {"name": f"{prefix}-{first}", "namespace": NAMESPACE},
            "spec": {
                "parentRefs": [{"name": GATEWAY, "kind": "Gateway", "group": _GATEWAY_GROUP}],
                "rules": [_rule(name) for name in backends[first : first + _MOST_RULES]],
            },
        }


def _rule(backend: str) -> Json:
    header = {"type": "Exact", "name": "x-ai-eg-model", "value": backend}
    return {"matches": [{"headers": [header]}], "backendRefs": [{"name": backend}]}
