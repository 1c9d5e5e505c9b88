"""What ``v1alpha1`` of the gateway's API has, release by release; read in the definitions of its charts."""

from __future__ import annotations

from typing import Any

from credrotator.policies.served import ServedSchema

_V02 = ("APIKey", "AWSCredentials", "AzureCredentials")
_V03 = (*_V02, "GCPCredentials")
_V04 = ("APIKey", "AWSCredentials", "AzureAPIKey", "AzureCredentials", "GCPCredentials", "AnthropicAPIKey")
ALPHA_SCHEMAS = {
    "v0.2": ServedSchema(_V02, targets=False),
    "v0.3": ServedSchema(_V03, targets=True),
    "v0.4": ServedSchema(_V04, targets=True),
}
"""By the release that began it; v1.1 serves the last one still."""


def openapi(served: ServedSchema) -> dict[str, Any]:
    """Return the OpenAPI document of an API server with such a schema, as far as it matters."""
    spec: dict[str, Any] = {"type": {"type": "string", "enum": list(served.types)}}
    if served.targets:
        spec["targetRefs"] = {"type": "array"}
    policy = {"properties": {"spec": {"properties": spec}}}
    others = {"io.envoyproxy.aigateway.v1alpha1.BackendSecurityPolicyList": {"type": "object"}}
    return {
        "components": {"schemas": {**others, "io.envoyproxy.aigateway.v1alpha1.BackendSecurityPolicy": policy}},
    }
