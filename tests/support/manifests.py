"""Policies as a cluster has them, for tests over the simulated API server."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from credrotator.core.model import ObjectKey, Owner, RotatablePolicy
from credrotator.policies.reader import Defaults
from tests.support.builders import AWS, read_any_form

if TYPE_CHECKING:
    from tests.support.kube.simulator import ApiServer

Json = dict[str, Any]
POLICIES = "backendsecuritypolicies"
VERSION = "v1beta1"
ISSUER = "https://idp.example"
BEDROCK = ObjectKey("default", "bedrock")
BEDROCK_SECRET = ObjectKey("default", "ai-eg-bsp-bedrock")


def oidc(issuer: str = ISSUER, reference: str = "oidc-client", namespace: str | None = None) -> Json:
    """An issuer and a client."""
    named = {"name": reference, **({"namespace": namespace} if namespace else {})}
    return {"provider": {"issuer": issuer}, "clientID": "gateway", "clientSecret": named}


def exchange(client: Json | None = None, role: str = "bedrock") -> Json:
    """What AWS is asked for."""
    token = {"awsRoleArn": f"arn:aws:iam::123456789012:role/{role}", "oidc": client or oidc()}
    return {"region": "us-east-1", "oidcExchangeToken": token}


def manifest(name: str, spec: Json, **metadata: Any) -> Json:
    """A policy of namespace default."""
    return {
        "apiVersion": f"aigateway.envoyproxy.io/{VERSION}",
        "kind": "BackendSecurityPolicy",
        "metadata": {"namespace": "default", **metadata, "name": name},
        "spec": spec,
    }


def aws(name: str = "bedrock", client: Json | None = None, role: str = "bedrock", **metadata: Any) -> Json:
    """A policy that is rotated at AWS, in the gateway's own form."""
    return manifest(name, {"type": "AWSCredentials", "awsCredentials": exchange(client, role)}, **metadata)


def managed(name: str = "bedrock") -> Json:
    """The same in the managed form, publishing into a Secret ``<name>-credentials``."""
    block = {"region": "us-east-1", "credentialsFile": {"secretRef": {"name": f"{name}-credentials"}}}
    annotations = {AWS: json.dumps(exchange())}
    return manifest(name, {"type": "AWSCredentials", "awsCredentials": block}, annotations=annotations)


def azure_secret(name: str = "openai") -> Json:
    """A policy that gets Entra's tokens by a client secret."""
    block = {"tenantID": "contoso.example", "clientID": "app", "clientSecretRef": {"name": "entra"}}
    return manifest(name, {"type": "AzureCredentials", "azureCredentials": block})


def gcp(name: str = "vertex") -> Json:
    """A policy that gets Google Cloud's tokens by workload identity."""
    federation = {
        "projectID": "123456789012",
        "workloadIdentityPoolName": "gateway",
        "workloadIdentityProviderName": "idp",
        "oidcExchangeToken": {"oidc": oidc()},
        "serviceAccountImpersonation": {"serviceAccountName": "vertex"},
    }
    block = {"projectName": "my-project", "region": "us-central1", "workloadIdentityFederationConfig": federation}
    return manifest(name, {"type": "GCPCredentials", "gcpCredentials": block})


def gcp_key(name: str = "vertex") -> Json:
    """A policy that gets Google Cloud's tokens by a service account's key file."""
    block = {"projectName": "my-project", "region": "us-central1", "credentialsFile": {"secretRef": {"name": "key"}}}
    return manifest(name, {"type": "GCPCredentials", "gcpCredentials": block})


def static(name: str = "static", reference: str = "key") -> Json:
    """A policy with an API key."""
    return manifest(name, {"type": "APIKey", "apiKey": {"secretRef": {"name": reference}}})


def secret(name: str, namespace: str = "default", **values: str) -> Json:
    """A Secret with texts; ``client_secret`` for the key ``client-secret``."""
    data = {key.replace("_", "-"): base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {"metadata": {"name": name, "namespace": namespace}, "data": data}


def grant(name: str, source: str, namespace: str, secret_name: str | None = None) -> Json:
    """A ReferenceGrant for policies of one namespace to the Secrets, or one Secret, of another."""
    origin = {"group": "aigateway.envoyproxy.io", "kind": "BackendSecurityPolicy", "namespace": source}
    target = {"group": "", "kind": "Secret", **({"name": secret_name} if secret_name else {})}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"from": [origin], "to": [target]}}


def read(found: Json) -> RotatablePolicy:
    """Read a policy as the daemon does."""
    policy = read_any_form(found, "the API server", Defaults())
    assert isinstance(policy, RotatablePolicy), policy
    return policy


def owner(found: Json) -> Owner:
    """Name a policy as an owner."""
    return read(found).owner


def values(server: ApiServer, name: str, namespace: str = "default") -> dict[str, str] | None:
    """Return a Secret's data as text, None if there is no such Secret."""
    found = server.get("secrets", name, namespace)
    if found is None:
        return None
    return {key: base64.b64decode(value).decode() for key, value in (found.get("data") or {}).items()}


def speak(server: ApiServer, name: str, at: str, kind: str = "Accepted") -> None:
    """Write a policy's status as the gateway's controller does: wholesale."""
    condition = {
        "type": kind,
        "status": "True",
        "reason": "ReconciliationSucceeded",
        "message": "",
        "lastTransitionTime": at,
    }
    server.patch(POLICIES, name, {"status": {"conditions": [condition]}}, subresource="status")
