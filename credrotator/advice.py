"""What has to stand at AWS and at Entra for a token to be accepted, written from the claims of the token itself. Pure.

Sources: https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_create_for-idp_oidc.html;
https://learn.microsoft.com/entra/workload-id/workload-identity-federation-create-trust
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from credrotator.errors import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credrotator.model import AwsOidc, ObjectKey

_UNFIT = re.compile(r"[^0-9A-Za-z_-]")
"""What a federated credential's name cannot hold."""
SHOWN = ("iss", "aud", "azp", "sub")
"""Claims that decide whether the other side accepts the token."""


def audiences(claims: Mapping[str, object]) -> list[str]:
    """Return ``aud`` as a list, whichever of its two forms the token uses (RFC 7519 §4.1.3)."""
    found = claims.get("aud")
    values = found if isinstance(found, list) else [found] if found else []
    return [printable(value) for value in values]


def aws_trust_policy(source: AwsOidc, claims: Mapping[str, object]) -> dict[str, Any]:
    """Return the role's trust policy for this token.

    IAM compares its ``aud`` key with the token's ``azp`` where there is one, so both values are let in.
    """
    # Google's own tokens, for one, name their issuer without a scheme.
    issuer = printable(claims.get("iss", source.oidc.issuer)).rpartition("://")[2]
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
