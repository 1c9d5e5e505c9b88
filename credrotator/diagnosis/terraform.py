"""What has to stand at AWS, at Entra and at Google Cloud, as Terraform. Pure.

Owns the HCL, and what several policies share: one IAM identity provider for each issuer and account, one role for each
ARN, one data source for each application, one provider of a pool, one grant for each principal. Sources: Terraform
language, "Configuration Syntax" and "Strings and Templates"; documentation of the providers hashicorp/aws
(thumbprint_list is optional since 5.81), hashicorp/azuread and hashicorp/google.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from credrotator.core.errors import printable
from credrotator.core.model import AwsOidc, AzureOidc, GcpWorkloadIdentity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from credrotator.core.model import GcpPool, ObjectKey

REQUIRED = {
    "aws": '{ source = "hashicorp/aws", version = ">= 5.81" }',
    "azuread": '{ source = "hashicorp/azuread", version = ">= 2.44" }',
    "google": '{ source = "hashicorp/google", version = ">= 4.0" }',
}
_NOT_IN_NAME = re.compile(r"[^0-9a-z]+")


@dataclass(frozen=True, slots=True)
class Need:
    """What one policy needs on the other side, as JSON.

    A trust policy (AWS), a federated credential (Entra), or a pool's provider and a grant (Google Cloud).
    """

    policy: ObjectKey
    source: AwsOidc | AzureOidc | GcpWorkloadIdentity
    advice: Mapping[str, Any]


@dataclass
class _Role:
    """A role, and all that the trust policies of it say: an identity provider, and what is compared."""

    account: str
    path: str
    name: str
    life_s: int = 0
    policies: list[str] = field(default_factory=list)
    conditions: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)


def document(needs: Iterable[Need]) -> str:
    """Return a whole file for some policies; empty where they need nothing."""
    listed = list(needs)
    aws = [(need, need.source) for need in listed if isinstance(need.source, AwsOidc)]
    entra = [(need, need.source) for need in listed if isinstance(need.source, AzureOidc)]
    google = [(need, need.source) for need in listed if isinstance(need.source, GcpWorkloadIdentity)]
    used = ["aws"] * bool(aws) + ["azuread"] * bool(entra) + ["google"] * bool(google)
    if not used:
        return ""
    width = max(map(len, used))
    required = "".join(f"    {name:{width}} = {REQUIRED[name]}\n" for name in used)
    blocks = [
        f"terraform {{\n  required_providers {{\n{required}  }}\n}}\n",
        *_aws(aws),
        *_entra(entra),
        *_google(google),
    ]
    return "\n".join(blocks)


def _aws(needs: Iterable[tuple[Need, AwsOidc]]) -> Iterator[str]:
    providers: defaultdict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    roles: dict[str, _Role] = {}
    for need, source in needs:
        (statement,) = need.advice["Statement"]
        issuer = statement["Principal"]["Federated"].partition(":oidc-provider/")[2]
        equals: Mapping[str, Any] = statement["Condition"]["StringEquals"]
        account, resource = source.role_arn.split(":", 5)[4:]
        audiences = equals[f"{issuer}:aud"]
        providers[account, issuer].update(dict.fromkeys([audiences] if isinstance(audiences, str) else audiences))
        path, _, name = resource.removeprefix("role").rpartition("/")
        role = roles.setdefault(source.role_arn, _Role(account, f"{path}/", name))
        role.life_s = max(role.life_s, int(source.duration.total_seconds()) if source.duration else 0)
        role.policies.append(printable(need.policy))
        if (condition := (_name("issuer", account, issuer), equals)) not in role.conditions:
            role.conditions.append(condition)
    for (account, issuer), clients in providers.items():
        yield (
            f"# The issuer as account {account} knows it; one for all roles that trust it.\n"
            f'resource "aws_iam_openid_connect_provider" "{_name("issuer", account, issuer)}" {{\n'
            f"  url            = {_text('https://' + issuer)}\n"
            f"  client_id_list = {_value(list(clients))}\n"
            "}\n"
        )
    for role in roles.values():
        yield _role(role)


def _role(role: _Role) -> str:
    label = _name("role", role.account, role.path, role.name)
    life = f"  max_session_duration = {role.life_s}\n" if role.life_s else ""
    return (
        f"# For {', '.join(role.policies)}. A role that is there already is taken over by\n"
        f"# terraform import aws_iam_role.{label} {role.name}\n"
        f'resource "aws_iam_role" "{label}" {{\n'
        f"  name = {_text(role.name)}\n"
        f"  path = {_text(role.path)}\n"
        f"{life}"
        "  assume_role_policy = jsonencode({\n"
        '    Version = "2012-10-17"\n'
        "    Statement = [\n" + "".join(map(_statement, role.conditions)) + "    ]\n"
        "  })\n"
        "}\n"
    )


def _statement(condition: tuple[str, Mapping[str, Any]]) -> str:
    provider, pairs = condition
    equals = "".join(f"            {_text(name)} = {_value(value)}\n" for name, value in pairs.items())
    return (
        "      {\n"
        '        Effect    = "Allow"\n'
        '        Action    = "sts:AssumeRoleWithWebIdentity"\n'
        f"        Principal = {{ Federated = aws_iam_openid_connect_provider.{provider}.arn }}\n"
        "        Condition = {\n"
        "          StringEquals = {\n"
        f"{equals}"
        "          }\n"
        "        }\n"
        "      },\n"
    )


def _entra(needs: Iterable[tuple[Need, AzureOidc]]) -> Iterator[str]:
    applications: set[str] = set()
    for need, source in needs:
        application = _name("app", source.app.client_id)
        if application not in applications:
            applications.add(application)
            yield f'data "azuread_application" "{application}" {{\n  client_id = {_text(source.app.client_id)}\n}}\n'
        credential = need.advice
        yield (
            f"# For {printable(need.policy)}.\n"
            f'resource "azuread_application_federated_identity_credential" "{_name(credential["name"])}" {{\n'
            f'  application_id = "/applications/${{data.azuread_application.{application}.object_id}}"\n'
            f"  display_name   = {_text(credential['name'])}\n"
            f"  issuer         = {_text(credential['issuer'])}\n"
            f"  subject        = {_text(credential['subject'])}\n"
            f"  audiences      = {_value(credential['audiences'])}\n"
            "}\n"
        )


def _google(needs: Iterable[tuple[Need, GcpWorkloadIdentity]]) -> Iterator[str]:
    audiences: defaultdict[tuple[GcpPool, str], dict[str, None]] = defaultdict(dict)
    grants: defaultdict[tuple[str | None, str, str], list[str]] = defaultdict(list)
    for need, source in needs:
        oidc, grant = need.advice["provider"]["oidc"], need.advice["grant"]
        audiences[source.pool, oidc["issuerUri"]].update(dict.fromkeys(oidc["allowedAudiences"]))
        grants[source.service_account, source.project, grant["member"]].append(printable(need.policy))
    for (pool, issuer), allowed in audiences.items():
        label = _name("provider", pool.pool, pool.provider)
        yield (
            f'resource "google_iam_workload_identity_pool_provider" "{label}" {{\n'
            f"  project                            = {_text(pool.project)}\n"
            f"  workload_identity_pool_id          = {_text(pool.pool)}\n"
            f"  workload_identity_pool_provider_id = {_text(pool.provider)}\n"
            '  attribute_mapping                  = { "google.subject" = "assertion.sub" }\n'
            "  oidc {\n"
            f"    issuer_uri        = {_text(issuer)}\n"
            f"    allowed_audiences = {_value(list(allowed))}\n"
            "  }\n"
            "}\n"
        )
    for number, ((account, project, member), policies) in enumerate(grants.items()):
        name = _name("principal", str(number), account or project)
        kind, where, whose = "google_project_iam_member", "project", project
        role = "roles/aiplatform.user"
        if account:
            kind, where = "google_service_account_iam_member", "service_account_id"
            whose, role = f"projects/-/serviceAccounts/{account}", "roles/iam.workloadIdentityUser"
        width = len(where)
        yield (
            f"# For {', '.join(policies)}.\n"
            f'resource "{kind}" "{name}" {{\n'
            f"  {where} = {_text(whose)}\n"
            f"  {'role':{width}} = {_text(role)}\n"
            f"  {'member':{width}} = {_text(member)}\n"
            "}\n"
        )


def _name(*parts: str) -> str:
    """Make the name of a resource; the first part begins with a letter, as it has to."""
    return _NOT_IN_NAME.sub("_", "_".join(parts).lower()).strip("_")


def _value(found: str | list[str]) -> str:
    return _text(found) if isinstance(found, str) else f"[{', '.join(map(_text, found))}]"


def _text(found: str) -> str:
    """Quote a text: HCL's escapes are among those of JSON, and a template begins with ``${`` or ``%{``."""
    return json.dumps(found, ensure_ascii=False).replace("${", "$${").replace("%{", "%%{")
