"""What has to stand at AWS, Entra or Google Cloud for a token to be accepted, written from the token's claims. Pure.

Sources: https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_create_for-idp_oidc.html;
https://learn.microsoft.com/entra/workload-id/workload-identity-federation-create-trust;
https://cloud.google.com/iam/docs/workload-identity-federation-with-other-providers
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from credrotator.core.claims import audiences
from credrotator.core.errors import printable
from credrotator.core.model import OidcClient

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credrotator.core.model import AwsOidc, GcpWorkloadIdentity, ObjectKey

_UNFIT = re.compile(r"[^0-9A-Za-z_-]")
"""What a federated credential's name cannot hold."""
SHOWN = ("iss", "aud", "azp", "sub")
"""Claims that decide whether the other side accepts the token."""


def aws_trust_policy(source: AwsOidc, claims: Mapping[str, object]) -> dict[str, Any]:
    """Return the role's trust policy for this token.

    IAM compares its ``aud`` key with the token's ``azp`` where there is one, so both values are let in.
    """
    # Google's own tokens, for one, name their issuer without a scheme.
    named = source.oidc.issuer if isinstance(source.oidc, OidcClient) else ""
    issuer = printable(claims.get("iss", named)).rpartition("://")[2]
    _, partition, _, _, account, _ = source.role_arn.split(":", 5)
    accepted = [*audiences(claims), *([printable(claims["azp"])] if claims.get("azp") else [])]
    equals: dict[str, Any] = {f"{issuer}:aud": accepted[0] if len(accepted) == 1 else accepted}
    if claims.get("sub"):
        equals[f"{issuer}:sub"] = printable(claims["sub"])
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Federated": f"arn:{partition}:iam::{account}:oidc-provider/{issuer}"},
                "Action": "sts:AssumeRoleWithWebIdentity",
                "Condition": {"StringEquals": equals},
            }
        ],
    }


def entra_federated_credential(policy: ObjectKey, claims: Mapping[str, object]) -> dict[str, Any]:
    """Return the application's federated identity credential for this token, as ``az`` and Graph take it."""
    return {
        "name": _UNFIT.sub("-", f"credrotator-{policy.namespace}-{policy.name}")[:120],
        "issuer": printable(claims.get("iss", "")),
        "subject": printable(claims.get("sub", "")),
        "audiences": audiences(claims)[:1],
    }


def gcp_workload_identity(source: GcpWorkloadIdentity, claims: Mapping[str, object]) -> dict[str, Any]:
    """Return the provider of the pool for this token, as the IAM API has it, and what its principal has to be granted.

    Without a service account the principal itself calls Vertex AI.
    """
    pool, subject = source.pool, printable(claims.get("sub", ""))
    principal = f"principal://iam.googleapis.com/{pool.resource}/subject/{subject}"
    grant = {"role": "roles/aiplatform.user", "on": f"projects/{source.project}", "member": principal}
    if source.service_account:
        grant = {"role": "roles/iam.workloadIdentityUser", "on": source.service_account, "member": principal}
    return {
        "provider": {
            "name": pool.audience.removeprefix("//iam.googleapis.com/"),
            "attributeMapping": {"google.subject": "assertion.sub"},
            "oidc": {"issuerUri": printable(claims.get("iss", "")), "allowedAudiences": audiences(claims)},
        },
        "grant": grant,
    }
