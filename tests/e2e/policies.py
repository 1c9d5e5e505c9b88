"""The manifests that the suite gives to credrotator, as a person would write them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.e2e import realms

_Json = dict[str, Any]


def write(path: Path, *groups: list[_Json]) -> None:
    """Write objects as one multi-document file."""
    path.write_text(yaml.safe_dump_all([manifest for group in groups for manifest in group]))


def aws(
    name: str,
    issuer: str,
    *,
    client: str = realms.AWS_CLIENT,
    secret: str = realms.CLIENT_SECRET,
    role: str = realms.AWS_ROLE,
) -> list[_Json]:
    """Return a policy that assumes a role with a web identity of the issuer, and its client secret."""
    oidc = {"provider": {"issuer": issuer}}
    return aws_with(name, oidc, client=client, secret=secret, role=role)


def aws_with(
    name: str,
    oidc: _Json,
    *,
    client: str,
    secret: str,
    audience: str = realms.AWS_AUDIENCE,
    role: str = realms.AWS_ROLE,
) -> list[_Json]:
    """Return such a policy whose block `oidc` names the issuer and what is asked of it, and its client secret."""
    exchange = {
        "aud": audience,
        "awsRoleArn": role,
        "oidc": {**oidc, "clientID": client, "clientSecret": {"name": f"{name}-client"}},
    }
    spec = {
        "type": "AWSCredentials",
        "awsCredentials": {"region": "us-east-1", "oidcExchangeToken": exchange},
    }
    return [_policy(name, spec), _secret(f"{name}-client", secret)]


def azure_federated(name: str, issuer: str, *, client: str = realms.ENTRA_CLIENT) -> list[_Json]:
    """Return a policy that presents the issuer's token to Entra as a client assertion, and its client secret."""
    exchange = {
        "aud": "api://AzureADTokenExchange",
        "oidc": _oidc(issuer, client, f"{name}-client"),
    }
    spec = _azure(realms.FEDERATED_APP, oidcExchangeToken=exchange)
    return [_policy(name, spec), _secret(f"{name}-client", realms.CLIENT_SECRET)]


def azure_secret(name: str, *, secret: str = realms.APP_SECRET) -> list[_Json]:
    """Return a policy that presents a client secret to Entra, and that secret."""
    spec = _azure(realms.SECRET_APP, clientSecretRef={"name": f"{name}-client"})
    return [_policy(name, spec), _secret(f"{name}-client", secret)]


def _azure(app: str, **credential: object) -> _Json:
    azure = {"clientID": app, "tenantID": realms.TENANT, **credential}
    return {"type": "AzureCredentials", "azureCredentials": azure}


def _oidc(issuer: str, client: str, secret: str) -> _Json:
    return {"provider": {"issuer": issuer}, "clientID": client, "clientSecret": {"name": secret}}


def _policy(name: str, spec: Mapping[str, Any]) -> _Json:
    return {
        "apiVersion": "aigateway.envoyproxy.io/v1beta1",
        "kind": "BackendSecurityPolicy",
        "metadata": {"name": name, "namespace": "default"},
        "spec": dict(spec),
    }


def _secret(name: str, value: str) -> _Json:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "default"},
        "stringData": {"client-secret": value},
    }
