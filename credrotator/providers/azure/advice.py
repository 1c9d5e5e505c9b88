"""What has to stand at Microsoft Entra for a token to be accepted: a federated identity credential. Pure.

Sources: https://learn.microsoft.com/entra/workload-id/workload-identity-federation-create-trust; documentation of the
Terraform provider hashicorp/azuread.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypedDict

from credrotator.core.claims import audiences
from credrotator.core.errors import printable
from credrotator.providers.azure.source import AzureOidc
from credrotator.providers.hcl import render, resource_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from credrotator.core.model import ObjectKey
    from credrotator.providers.provider import Advice

REQUIREMENT = '{ source = "hashicorp/azuread", version = ">= 2.44" }'
# Graph: 3 to 120 characters that are fit for a URL.
NAME_LIMIT = 120
_UNFIT = re.compile(r"[^0-9A-Za-z_-]")
"""What a federated credential's name cannot hold."""


class FederatedCredential(TypedDict):
    """A federated identity credential, as Microsoft Graph has it."""

    name: str
    issuer: str
    subject: str
    audiences: list[str]


def federated_credential(policy: ObjectKey, claims: Mapping[str, object]) -> FederatedCredential:
    """Return the application's federated identity credential for a token, as ``az`` and Graph take it."""
    return {
        "name": _UNFIT.sub("-", f"credrotator-{policy.namespace}-{policy.name}")[:NAME_LIMIT],
        "issuer": printable(claims.get("iss", "")),
        "subject": printable(claims.get("sub", "")),
        # Graph takes a list and accepts exactly one entry in it.
        "audiences": audiences(claims)[:1],
    }


def terraform(advice: Iterable[Advice]) -> str:
    """Write a data source for each application, and a federated credential for each policy."""
    applications: dict[str, str] = {}
    credentials = []
    for each in advice:
        assert isinstance(each.source, AzureOidc)  # noqa: S101 - the only source with advice
        client_id = each.source.app.client_id
        # One data source for an application that several policies share: the same block twice is an error in Terraform.
        label = applications.setdefault(client_id, resource_name("app", client_id))
        name = str(each.document["name"])
        credentials.append(
            {"policy": printable(each.policy), "label": resource_name(name), "application": label, **each.document}
        )
    return render(__package__, "trust.tf.j2", applications=applications, credentials=credentials)
