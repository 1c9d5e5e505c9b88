"""Policies as they stand in a cluster, with the sandbox as issuer, STS and tenant, and the Secrets beside them."""

import json
from collections.abc import Mapping
from typing import Any

from credrotator.sandbox import (
    DEFAULT_APP,
    DEFAULT_APP_SECRET,
    DEFAULT_CLIENT,
    DEFAULT_CLIENT_SECRET,
    DEFAULT_POOL,
    DEFAULT_ROLE,
    DEFAULT_TENANT,
)
from tests.support.parts.api import Json, Resource

GROUP = "aigateway.envoyproxy.io"
POLICIES = Resource(f"{GROUP}/v1beta1", "backendsecuritypolicies")
SECRETS = Resource("v1", "secrets")
NAMESPACE = "default"
REGION = "us-east-1"

# The names of the Secrets that all policies share.
ISSUER_CLIENT = "issuer-client"
ENTRA_CLIENT = "entra-client"

_TOKEN_EXCHANGE = "api://AzureADTokenExchange"
AWS_ANNOTATION = "credrotator.io/aws-credentials"
_AZURE_ANNOTATION = "credrotator.io/azure-credentials"


def secret_of(policy: str) -> str:
    """Return the name of a policy's Secret: the gateway's, or in the managed form, the policy's own."""
    return policy if policy.startswith("managed") else f"ai-eg-bsp-{policy}"


def client_secrets(namespace: str = NAMESPACE) -> list[Json]:
    """Return the Secrets with which the policies prove themselves at the issuer and at Entra."""
    return [
        secret(ISSUER_CLIENT, {"client-secret": DEFAULT_CLIENT_SECRET}, namespace=namespace),
        secret(ENTRA_CLIENT, {"client-secret": DEFAULT_APP_SECRET}, namespace=namespace),
    ]


def aws(name: str, issuer: str, *, role: str = DEFAULT_ROLE, namespace: str = NAMESPACE) -> Json:
    """Return a policy that assumes a role with a web identity."""
    return policy(
        name, {"type": "AWSCredentials", "awsCredentials": aws_exchange(issuer, role, namespace)}, namespace=namespace
    )


def aws_file(name: str, *, namespace: str = NAMESPACE) -> Json:
    """Return a policy whose credentials file lies in the Secret of the same name."""
    spec = {
        "type": "AWSCredentials",
        "awsCredentials": {"region": REGION, "credentialsFile": {"secretRef": {"name": name}}},
    }
    return policy(name, spec, namespace=namespace)


def aws_managed(name: str, issuer: str, *, role: str = DEFAULT_ROLE, namespace: str = NAMESPACE) -> Json:
    """Return the managed form of `aws`: to the gateway a file in a Secret, to credrotator an annotation."""
    manifest = aws_file(secret_of(name), namespace=namespace)
    manifest["metadata"]["annotations"] = {AWS_ANNOTATION: json.dumps(aws_exchange(issuer, role, namespace))}
    return manifest


def azure_federated(name: str, issuer: str, *, namespace: str = NAMESPACE) -> Json:
    """Return a policy that presents the issuer's token to Entra."""
    return policy(
        name,
        _azure(DEFAULT_APP, oidcExchangeToken={"aud": _TOKEN_EXCHANGE, "oidc": _oidc(issuer, namespace)}),
        namespace=namespace,
    )


def azure_managed(name: str, *, app: str = DEFAULT_APP, namespace: str = NAMESPACE) -> Json:
    """Return the managed form of `azure_secret`: to the gateway an API key in a Secret."""
    wanted = _azure(app, clientSecretRef={"name": ENTRA_CLIENT})["azureCredentials"]
    annotations = {_AZURE_ANNOTATION: json.dumps(wanted)}
    spec = {"type": "APIKey", "apiKey": {"secretRef": {"name": secret_of(name)}}}
    return policy(name, spec, annotations=annotations, namespace=namespace)


def azure_secret(name: str, *, app: str = DEFAULT_APP, namespace: str = NAMESPACE) -> Json:
    """Return a policy that presents a client secret to Entra."""
    return policy(name, _azure(app, clientSecretRef={"name": ENTRA_CLIENT}), namespace=namespace)


def gcp(name: str, issuer: str, *, namespace: str = NAMESPACE) -> Json:
    """Return a policy that exchanges the issuer's token at Google Cloud, and impersonates a service account."""
    federation = {
        "projectID": "123456789012",
        "workloadIdentityPoolName": "gateway",
        "workloadIdentityProviderName": "idp",
        "oidcExchangeToken": {"aud": f"https:{DEFAULT_POOL}", "oidc": _oidc(issuer, namespace)},
        "serviceAccountImpersonation": {"serviceAccountName": "vertex"},
    }
    return policy(name, _gcp(workloadIdentityFederationConfig=federation), namespace=namespace)


def gcp_key(name: str, *, namespace: str = NAMESPACE) -> Json:
    """Return a policy with a service account's key file, in the Secret of the same name."""
    return policy(name, _gcp(credentialsFile={"secretRef": {"name": name}}), namespace=namespace)


def _gcp(**way: Json) -> Json:
    block = {"projectName": "sandbox-project", "region": "us-central1", **way}
    return {"type": "GCPCredentials", "gcpCredentials": block}


def api_key(name: str, *, namespace: str = NAMESPACE) -> Json:
    """Return a policy whose key lies in the Secret of the same name."""
    return policy(name, {"type": "APIKey", "apiKey": {"secretRef": {"name": name}}}, namespace=namespace)


def aws_exchange(issuer: str, role: str, namespace: str = NAMESPACE) -> Json:
    """Return the `awsCredentials` of a policy with a web identity."""
    exchange = {"aud": "sts.amazonaws.com", "awsRoleArn": role, "oidc": _oidc(issuer, namespace)}
    return {"region": REGION, "oidcExchangeToken": exchange}


def policy(
    name: str, spec: Mapping[str, Any], *, annotations: Mapping[str, str] | None = None, namespace: str = NAMESPACE
) -> Json:
    """Return a policy for the backend of the same name."""
    target = {"group": GROUP, "kind": "AIServiceBackend", "name": name}
    return {
        "apiVersion": POLICIES.api_version,
        "kind": "BackendSecurityPolicy",
        "metadata": {"name": name, "namespace": namespace, "annotations": dict(annotations or {})},
        "spec": {"targetRefs": [target], **spec},
    }


def secret(
    name: str,
    data: Mapping[str, str],
    *,
    annotations: Mapping[str, str] | None = None,
    owner: Json | None = None,
    namespace: str = NAMESPACE,
) -> Json:
    """Return a Secret, in the clear, owned by a policy that the API server has returned."""
    metadata: Json = {"name": name, "namespace": namespace, "annotations": dict(annotations or {})}
    if owner:
        metadata["ownerReferences"] = [
            {
                "apiVersion": owner["apiVersion"],
                "kind": owner["kind"],
                "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"],
                "controller": True,
            }
        ]
    return {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "stringData": dict(data)}


def _azure(app: str, **credential: object) -> Json:
    azure = {"clientID": app, "tenantID": DEFAULT_TENANT, **credential}
    return {"type": "AzureCredentials", "azureCredentials": azure}


def _oidc(issuer: str, namespace: str = NAMESPACE) -> Json:
    # NOTE: without its namespace the gateway's own rotator fails, and could take over from nobody.
    secret = {"name": ISSUER_CLIENT, "namespace": namespace}
    return {"provider": {"issuer": issuer}, "clientID": DEFAULT_CLIENT, "clientSecret": secret}
