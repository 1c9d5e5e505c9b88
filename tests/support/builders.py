"""Sound objects for tests to start from, and ways to change one thing about them."""

from __future__ import annotations

import copy
import io
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from credrotator.core.model import InvalidPolicy, ObjectKey, OidcClient, Policy, Rotatable, SecretKeyRef, Source
from credrotator.core.secretdata import parse
from credrotator.core.sensitive import Sensitive
from credrotator.files.manifests import ManifestReading, read_manifests
from credrotator.policies.annotations import PREFIX
from credrotator.policies.reader import Defaults
from credrotator.providers import policy_reader
from credrotator.providers.aws.source import AwsCredential, AwsOidc
from credrotator.providers.azure.source import AzureClientSecret, AzureOidc, AzureToken, EntraApp
from credrotator.providers.gcp.source import GcpPool, GcpServiceAccount, GcpToken, GcpWorkloadIdentity

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from credrotator.core.secret_document import Published, SecretDocument, Unreadable

V1ALPHA1 = "aigateway.envoyproxy.io/v1alpha1"
V1BETA1 = "aigateway.envoyproxy.io/v1beta1"
NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
SECRET = ObjectKey("team-a", "ai-eg-bsp-bedrock")

Manifest = dict[str, Any]


def oidc() -> Manifest:
    """An issuer and a client, complete."""
    return {
        "provider": {"issuer": "https://idp.example/realms/ai"},
        "clientID": "gateway",
        "clientSecret": {"name": "oidc-client"},
    }


def policy(name: str, spec: Manifest, version: str = V1BETA1) -> Manifest:
    """A policy in namespace team-a."""
    return {
        "apiVersion": version,
        "kind": "BackendSecurityPolicy",
        "metadata": {"name": name, "namespace": "team-a", "annotations": {}},
        "spec": spec,
    }


def aws(version: str = V1BETA1) -> Manifest:
    """An AWS policy with an exchange."""
    exchange = {"awsRoleArn": "arn:aws:iam::123456789012:role/bedrock", "aud": "sts.amazonaws.com", "oidc": oidc()}
    block = {"region": "us-east-1", "oidcExchangeToken": exchange}
    return policy("bedrock", {"type": "AWSCredentials", "awsCredentials": block}, version)


def azure(version: str = V1BETA1) -> Manifest:
    """An Azure policy with an exchange."""
    block = {"tenantID": "contoso.example", "clientID": "app", "oidcExchangeToken": {"oidc": oidc()}}
    return policy("openai", {"type": "AzureCredentials", "azureCredentials": block}, version)


def azure_secret(version: str = V1BETA1) -> Manifest:
    """An Azure policy with a client secret."""
    block = {"tenantID": "contoso.example", "clientID": "app", "clientSecretRef": {"name": "entra"}}
    return policy("openai", {"type": "AzureCredentials", "azureCredentials": block}, version)


def gcp(version: str = V1BETA1) -> Manifest:
    """A Google Cloud policy with workload identity and the impersonation of a service account."""
    federation = {
        "projectID": "123456789012",
        "workloadIdentityPoolName": "gateway",
        "workloadIdentityProviderName": "idp",
        "oidcExchangeToken": {"oidc": oidc()},
        "serviceAccountImpersonation": {"serviceAccountName": "vertex"},
    }
    block = {"projectName": "my-project", "region": "us-central1", "workloadIdentityFederationConfig": federation}
    return policy("vertex", {"type": "GCPCredentials", "gcpCredentials": block}, version)


def gcp_key(version: str = V1BETA1) -> Manifest:
    """A Google Cloud policy with a service account's key file."""
    block = {"projectName": "my-project", "region": "us-central1", "credentialsFile": {"secretRef": {"name": "key"}}}
    return policy("vertex", {"type": "GCPCredentials", "gcpCredentials": block}, version)


def changed(manifest: Manifest, path: str, value: Any) -> Manifest:
    """Return a copy with the value at a dotted path set; ``...`` removes it."""
    result = copy.deepcopy(manifest)
    node = result
    *parents, last = path.split(".")
    for name in parents:
        node = node.setdefault(name, {})
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return result


def annotated(manifest: Manifest, **annotations: str) -> Manifest:
    """Return a copy with annotations of ours, ``azure_scope`` for ``credrotator.io/azure-scope``."""
    named = {f"credrotator.io/{name.replace('_', '-')}": value for name, value in annotations.items()}
    return changed(manifest, "metadata.annotations", named)


def read_policy(manifest: Mapping[str, Any], origin: str, defaults: Defaults) -> Policy | InvalidPolicy:
    """Read one manifest in the gateway's own form."""
    return policy_reader(defaults).policies.read(manifest, origin)


def read_any_form(manifest: Mapping[str, Any], origin: str, defaults: Defaults) -> Policy | InvalidPolicy:
    """Read one manifest in either form."""
    return policy_reader(defaults).read(manifest, origin)


def parse_as(
    document: SecretDocument | None, provider: str, data_key: str | None = None
) -> Published | Unreadable | None:
    """Read a Secret back as one of a provider."""
    return parse(document, SOURCES[provider], data_key)


def read(manifest: Manifest, defaults: Defaults | None = None) -> Policy | InvalidPolicy:
    """Read one manifest."""
    return read_policy(manifest, "policy.yaml:1", defaults or Defaults())


def client_of(found: Policy | Source) -> OidcClient:
    """Return the client with which a policy asks its issuer."""
    source = found.source if isinstance(found, Policy) else found
    assert isinstance(source, AwsOidc | AzureOidc | GcpWorkloadIdentity)
    assert isinstance(source.oidc, OidcClient)
    return source.oidc


def valid(manifest: Manifest, defaults: Defaults | None = None) -> Policy:
    """Read a manifest that has to be a sound policy."""
    found = read(manifest, defaults)
    assert isinstance(found, Policy), found
    return found


def problems(manifest: Manifest, defaults: Defaults | None = None) -> dict[str, str]:
    """Read a manifest that has to be refused; return messages by field path, of which each occurs once."""
    found = read(manifest, defaults)
    assert isinstance(found, InvalidPolicy), found
    assert len({problem.path for problem in found.problems}) == len(found.problems), found.problems
    return {problem.path: problem.message for problem in found.problems}


def secret(name: str, namespace: str = "team-a", **values: str) -> Manifest:
    """A Secret with texts."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values}


def from_stdin(text: str, defaults: Defaults | None = None) -> ManifestReading:
    """Read manifests as from standard input."""
    return read_manifests(["-"], io.StringIO(text), policy_reader(defaults or Defaults()))


def from_files(*paths: Path) -> ManifestReading:
    """Read manifests from files and directories."""
    return read_manifests([str(path) for path in paths], io.StringIO(), policy_reader(Defaults()))


_SECRET = SecretKeyRef(ObjectKey("team-a", "oidc-client"), "client-secret", "x")
_CLIENT = OidcClient("https://idp.example/realms/ai", "gateway", _SECRET)
_APP = EntraApp("contoso.example", "app", "https://login.microsoftonline.com", "https://x.example/.default")
SOURCES: dict[str, Rotatable] = {
    source.provider: source
    for source in (
        AwsOidc(_CLIENT, "arn:aws:iam::123456789012:role/bedrock", "us-east-1"),
        AzureOidc(_CLIENT, _APP),
        AzureClientSecret(_APP, _SECRET),
        GcpWorkloadIdentity(_CLIENT, GcpPool("123456789012", "gateway", "idp"), "my-project", "us-central1"),
        GcpServiceAccount(_SECRET),
    )
}
"""A source of each provider."""


def aws_credential(issued_at: datetime = NOW, life: timedelta = HOUR, session: str = "FwoG/+=%:") -> AwsCredential:
    """Credentials of AWS, with every character that a file format might stumble over."""
    return AwsCredential(
        "ASIAEXAMPLE", Sensitive("wJalr/XUt+nFEMI=%s"), Sensitive(session), "us-east-1", issued_at, issued_at + life
    )


def azure_token(text: str = "eyJ.e30.sig", issued_at: datetime = NOW, life: timedelta = HOUR) -> AzureToken:
    """A token of Entra."""
    return AzureToken(Sensitive(text), issued_at, issued_at + life)


def gcp_token(
    text: str = "ya29.c.x", issued_at: datetime = NOW, life: timedelta = HOUR, region: str | None = "us-central1"
) -> GcpToken:
    """A token of Google Cloud by workload identity; without ``region`` by a key file."""
    project = "my-project" if region else None
    return GcpToken(Sensitive(text), issued_at, issued_at + life, None, project, region)


AWS, AZURE, GCP = (PREFIX + f"{name}-credentials" for name in ("aws", "azure", "gcp"))
"""Annotations of the managed form."""


def is_convertible(policy: Policy) -> bool:
    """Tell whether a drop-in policy has a managed form that does the same."""
    return policy_reader(Defaults()).is_convertible(policy)


def convert(manifest: Mapping[str, Any], policy: Policy) -> dict[str, Any]:
    """Return the managed form of a drop-in policy's manifest."""
    return policy_reader(Defaults()).convert(manifest, policy)
