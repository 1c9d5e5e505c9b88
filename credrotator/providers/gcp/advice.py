"""What has to stand at Google Cloud for a token to be accepted: a pool's provider, and a grant to its principal. Pure.

Sources: https://cloud.google.com/iam/docs/workload-identity-federation-with-other-providers; documentation of the
Terraform provider hashicorp/google.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, TypedDict, cast

from credrotator.core.claims import audiences
from credrotator.core.errors import printable
from credrotator.providers.gcp.source import GcpWorkloadIdentity
from credrotator.providers.hcl import render, resource_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from credrotator.providers.gcp.source import GcpPool
    from credrotator.providers.provider import Advice

REQUIREMENT = '{ source = "hashicorp/google", version = ">= 4.0" }'
# What requests to Vertex AI need; and what lets the pool's principal call generateAccessToken.
ON_PROJECT, ON_ACCOUNT = "roles/aiplatform.user", "roles/iam.workloadIdentityUser"


class PrincipalGrant(TypedDict):
    """A role, on a project or on a service account, for a principal of the pool."""

    role: str
    on: str
    member: str


class OidcSettings(TypedDict):
    """The part of a pool's provider that fits a token."""

    issuerUri: str
    allowedAudiences: list[str]


class PoolProvider(TypedDict):
    """A provider of a workload identity pool, as the IAM API has it."""

    name: str
    attributeMapping: dict[str, str]
    oidc: OidcSettings


class WorkloadIdentity(TypedDict):
    """What has to stand at Google Cloud for a token."""

    provider: PoolProvider
    grant: PrincipalGrant


def workload_identity(source: GcpWorkloadIdentity, claims: Mapping[str, object]) -> WorkloadIdentity:
    """Return the provider of the pool for a token, as the IAM API has it, and what its principal has to be granted.

    Without a service account the principal itself calls Vertex AI.
    """
    pool, subject = source.pool, printable(claims.get("sub", ""))
    principal = f"principal://iam.googleapis.com/{pool.resource}/subject/{subject}"
    grant: PrincipalGrant = {"role": ON_PROJECT, "on": f"projects/{source.project}", "member": principal}
    if source.service_account:
        grant = {"role": ON_ACCOUNT, "on": source.service_account, "member": principal}
    return {
        "provider": {
            # The IAM API names a provider as its audience does, but relative to the host.
            "name": pool.audience.removeprefix("//iam.googleapis.com/"),
            # google.subject is the one mapping that Google requires, and the grant below goes by it.
            "attributeMapping": {"google.subject": "assertion.sub"},
            "oidc": {"issuerUri": printable(claims.get("iss", "")), "allowedAudiences": audiences(claims)},
        },
        "grant": grant,
    }


def terraform(advice: Iterable[Advice]) -> str:
    """Write one provider for each pool and issuer, and one grant for each principal."""
    allowed: defaultdict[tuple[GcpPool, str], dict[str, None]] = defaultdict(dict)
    principals: defaultdict[tuple[str | None, str, str], list[str]] = defaultdict(list)
    for each in advice:
        assert isinstance(each.source, GcpWorkloadIdentity)  # noqa: S101 - the only source with advice
        source, document = each.source, cast("WorkloadIdentity", each.document)
        oidc = document["provider"]["oidc"]
        allowed[source.pool, oidc["issuerUri"]].update(dict.fromkeys(oidc["allowedAudiences"]))
        principals[source.service_account, source.project, document["grant"]["member"]].append(printable(each.policy))
    providers = [
        {
            "label": resource_name("provider", pool.pool, pool.provider),
            "pool": pool,
            "issuer": issuer,
            "audiences": list(audiences),
        }
        for (pool, issuer), audiences in allowed.items()
    ]
    grants = [
        {
            "label": resource_name("principal", str(number), account or project),
            "policies": policies,
            "account": account,
            "project": project,
            "member": member,
        }
        for number, ((account, project, member), policies) in enumerate(principals.items())
    ]
    return render(__package__, "trust.tf.j2", providers=providers, grants=grants)
