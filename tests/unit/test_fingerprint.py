"""The fingerprint of a policy: what a credential depends on, and what it does not."""

from __future__ import annotations

from typing import Any

import pytest

from credrotator.core.model import (
    Policy,
    fingerprint,
)
from credrotator.policies.reader import Defaults
from tests.support.builders import (
    V1ALPHA1,
    Manifest,
    aws,
    azure,
    azure_secret,
    changed,
    gcp,
    gcp_key,
    read_policy,
    valid,
)

EXCHANGE = "spec.awsCredentials.oidcExchangeToken"
OIDC = f"{EXCHANGE}.oidc"
ISSUER = f"{OIDC}.provider.issuer"
FEDERATION = "spec.gcpCredentials.workloadIdentityFederationConfig"


DEPENDS = {
    "role": (aws(), f"{EXCHANGE}.awsRoleArn", "arn:aws:iam::123456789012:role/other"),
    "region": (aws(), "spec.awsCredentials.region", "us-west-2"),
    "issuer": (aws(), ISSUER, "https://idp.example/realms/ai/"),
    "client": (aws(), f"{OIDC}.clientID", "other"),
    "audience": (aws(), f"{EXCHANGE}.aud", "other"),
    "scopes": (aws(), f"{OIDC}.scopes", ["openid"]),
    "resources": (aws(), f"{OIDC}.resources", ["urn:a"]),
    "token endpoint": (aws(), f"{OIDC}.provider.tokenEndpoint", "https://idp.example/token"),
    "duration": (aws(), "metadata.annotations", {"credrotator.io/duration": "1h"}),
    "subject token": (aws(), "metadata.annotations", {"credrotator.io/subject-token": "id_token"}),
    "tenant": (azure(), "spec.azureCredentials.tenantID", "other"),
    "application": (azure(), "spec.azureCredentials.clientID", "other"),
    "Azure's issuer": (
        azure(),
        "spec.azureCredentials.oidcExchangeToken.oidc.provider.issuer",
        "https://other.example",
    ),
    "authority": (
        azure_secret(),
        "metadata.annotations",
        {
            "credrotator.io/azure-authority-host": "login.microsoftonline.us",
            "credrotator.io/azure-scope": "https://cognitiveservices.azure.com/.default",
        },
    ),
    "scope": (azure_secret(), "metadata.annotations", {"credrotator.io/azure-scope": "https://x.example/.default"}),
    "pool": (gcp(), f"{FEDERATION}.workloadIdentityPoolName", "other"),
    "pool's project": (gcp(), f"{FEDERATION}.projectID", "1"),
    "pool's provider": (gcp(), f"{FEDERATION}.workloadIdentityProviderName", "other"),
    "service account": (gcp(), f"{FEDERATION}.serviceAccountImpersonation.serviceAccountName", "other"),
    "no service account": (gcp(), f"{FEDERATION}.serviceAccountImpersonation", ...),
    "project": (gcp(), "spec.gcpCredentials.projectName", "other"),
    "place": (gcp(), "spec.gcpCredentials.region", "europe-west4"),
    "life": (gcp(), "metadata.annotations", {"credrotator.io/duration": "30m"}),
    "key file": (gcp_key(), "spec.gcpCredentials.credentialsFile.secretRef.name", "other"),
}


@pytest.mark.parametrize("what", DEPENDS)
def test_the_fingerprint_changes_with(what: str) -> None:
    """G15: an edit of any of these makes the published credential the wrong one."""
    base, path, value = DEPENDS[what]
    assert fingerprint(valid(base).source) != fingerprint(valid(changed(base, path, value)).source)


def test_the_fingerprint_changes_with_the_provider() -> None:
    """Azure by exchange and by client secret are different credentials, of the same application."""
    assert fingerprint(valid(azure()).source) != fingerprint(valid(azure_secret()).source)


@pytest.mark.parametrize(
    ("base", "path", "value"),
    [
        (aws(), f"{OIDC}.clientSecret.name", "other"),
        (aws(), f"{OIDC}.clientSecret.namespace", "other"),
        (azure_secret(), "spec.azureCredentials.clientSecretRef.name", "other"),
        (gcp(), f"{FEDERATION}.oidcExchangeToken.oidc.clientSecret.name", "other"),
        (gcp_key(), "spec.gcpCredentials.region", "europe-west4"),
        (aws(), "spec.targetRefs", [{"name": "other"}]),
        (aws(), "metadata.name", "other"),
        (aws(), "metadata.uid", "other"),
        (aws(), "metadata.labels", {"a": "b"}),
        (aws(), "apiVersion", V1ALPHA1),
        (aws(), f"{OIDC}.redirectURL", "https://x.example"),
        (aws(), f"{EXCHANGE}.grantType", "client_credentials"),
    ],
)
def test_the_fingerprint_does_not_change_with(base: Manifest, path: str, value: Any) -> None:
    """What does not alter the credential rotates nothing: a new client secret leaves a good credential good."""
    assert fingerprint(valid(base).source) == fingerprint(valid(changed(base, path, value)).source)


def test_the_fingerprint_does_not_change_with_the_origin() -> None:
    """Moving a policy to another file rotates nothing."""
    other = read_policy(aws(), "elsewhere.yaml:7", Defaults())
    assert isinstance(other, Policy)
    assert fingerprint(other.source) == fingerprint(valid(aws()).source)


def test_fingerprints_are_pinned() -> None:
    """The same in every release: a changed fingerprint would rotate every credential at the upgrade."""
    assert fingerprint(valid(aws()).source) == "226a4779ba4f7cea"
    assert fingerprint(valid(azure_secret()).source) == "b765e1d0999ce204"
    assert fingerprint(valid(gcp()).source) == "81d5054c795c3faf"
    assert fingerprint(valid(gcp_key()).source) == "7b873e89b0ff327f"
