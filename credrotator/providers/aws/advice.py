"""What has to stand at AWS for a token to be accepted: the role's trust policy, as JSON and as Terraform. Pure.

Sources: https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_create_for-idp_oidc.html; documentation of the
Terraform provider hashicorp/aws (thumbprint_list is optional since 5.81).
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypedDict, cast

from credrotator.core.claims import audiences, one_or_all
from credrotator.core.errors import printable
from credrotator.core.model import OidcClient
from credrotator.providers.aws.source import AwsOidc, ChainedRole
from credrotator.providers.hcl import render, resource_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from credrotator.providers.provider import Advice

REQUIREMENT = '{ source = "hashicorp/aws", version = ">= 5.81" }'


Equals = dict[str, str | list[str]]
"""What is compared: a key of the request, and the value or values that are let in."""


class IamCondition(TypedDict):
    """When a statement holds."""

    StringEquals: Equals


class Statement(TypedDict, total=False):
    """One statement: whom a role trusts with which actions, or what a role may do to what."""

    Effect: Literal["Allow"]
    Principal: dict[str, str]
    Action: str | list[str]
    Resource: str
    Condition: IamCondition


class IamPolicy(TypedDict):
    """An IAM policy. Source: IAM user guide, "IAM JSON policy element reference"."""

    Version: Literal["2012-10-17"]
    Statement: list[Statement]


def trust_policy(source: AwsOidc, claims: Mapping[str, object]) -> IamPolicy:
    """Return the role's trust policy for a token.

    IAM compares its ``aud`` key with the token's ``azp`` where there is one, so both values are let in.
    """
    # Google's own tokens, for one, name their issuer without a scheme.
    named = source.oidc.issuer if isinstance(source.oidc, OidcClient) else ""
    issuer = printable(claims.get("iss", named)).rpartition("://")[2]
    partition = source.role_arn.split(":", 2)[1]
    # STS compares the condition ``aud`` with azp where a token has that claim (IAM user guide, "Available keys for AWS
    # OIDC federation").
    accepted = [*audiences(claims), *([printable(claims["azp"])] if claims.get("azp") else [])]
    equals: Equals = {f"{issuer}:aud": one_or_all(accepted)}
    if claims.get("sub"):
        equals[f"{issuer}:sub"] = printable(claims["sub"])
    trusted = {"Federated": f"arn:{partition}:iam::{source.account}:oidc-provider/{issuer}"}
    action, condition = "sts:AssumeRoleWithWebIdentity", IamCondition(StringEquals=equals)
    return _document({"Effect": "Allow", "Principal": trusted, "Action": action, "Condition": condition})


class RoleLink(TypedDict):
    """What a further role of a chain needs: two IAM policies, and whose they are by ARN."""

    roleArn: str
    trustPolicy: IamPolicy
    callerRoleArn: str
    callerPolicy: IamPolicy


def role_chain(source: AwsOidc) -> list[RoleLink]:
    """Return what each further role of a chain needs: its trust policy, and a permission of the role that assumes it.

    Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_common-scenarios_third-party.html (ExternalId).
    """
    callers = [source.role_arn, *(role.arn for role in source.chain)]
    return [
        {
            "roleArn": role.arn,
            "trustPolicy": _document(_trusting(role, caller)),
            "callerRoleArn": caller,
            "callerPolicy": _document({"Effect": "Allow", "Action": _actions(role), "Resource": role.arn}),
        }
        # ``callers`` is one longer: nobody assumes anything by the last role.
        for caller, role in zip(callers, source.chain, strict=False)
    ]


def _document(statement: Statement) -> IamPolicy:
    return {"Version": "2012-10-17", "Statement": [statement]}


def _actions(role: ChainedRole) -> list[str]:
    further = (("sts:TagSession", role.tags), ("sts:SetSourceIdentity", role.source_identity))
    return ["sts:AssumeRole", *(action for action, asked in further if asked)]


def _trusting(role: ChainedRole, caller: str) -> Statement:
    statement: Statement = {"Effect": "Allow", "Principal": {"AWS": caller}, "Action": _actions(role)}
    if role.external_id:
        statement["Condition"] = {"StringEquals": {"sts:ExternalId": role.external_id}}
    return statement


@dataclass
class _Role:
    """A role, and all that the trust policies of it say: an identity provider, and what is compared."""

    label: str
    path: str
    name: str
    life_s: int = 0
    policies: list[str] = field(default_factory=list)
    conditions: list[tuple[str, Equals]] = field(default_factory=list)


def terraform(advice: Iterable[Advice]) -> str:
    """Write one identity provider for each issuer and account, and one role for each ARN."""
    clients: defaultdict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    roles: dict[str, _Role] = {}
    sources = []
    for each in advice:
        assert isinstance(each.source, AwsOidc)  # noqa: S101 - the only source of this provider
        sources.append(each.source)
        issuer, equals = _trusted(cast("IamPolicy", each.document))
        accepted = equals[f"{issuer}:aud"]
        names = [accepted] if isinstance(accepted, str) else accepted
        clients[each.source.account, issuer].update(dict.fromkeys(names))
        _add(roles, each, each.source, (_provider_label(each.source.account, issuer), equals))
    providers = [
        {"account": account, "issuer": issuer, "label": _provider_label(account, issuer), "clients": list(listed)}
        for (account, issuer), listed in clients.items()
    ]
    chained = {link["roleArn"]: _chained(link) for source in sources for link in role_chain(source)}
    labels = {arn: role.label for arn, role in roles.items()} | {arn: each["label"] for arn, each in chained.items()}
    steps = [{**each, "caller_label": labels.get(each["caller"], "")} for each in chained.values()]
    return render(__package__, "trust.tf.j2", providers=providers, roles=list(roles.values()), chained=steps)


def _chained(link: RoleLink) -> dict[str, str]:
    account, resource = link["roleArn"].split(":", 5)[4:]
    path, _, name = resource.removeprefix("role").rpartition("/")
    trusted, permitted = json.dumps(link["trustPolicy"]), json.dumps(link["callerPolicy"])
    label = resource_name("role", account, f"{path}/", name)
    return {
        "label": label,
        "account": account,
        "name": name,
        "path": f"{path}/",
        "caller": link["callerRoleArn"],
        "trust": trusted,
        "permission": permitted,
    }


def _add(roles: dict[str, _Role], advice: Advice, source: AwsOidc, condition: tuple[str, Equals]) -> None:
    path, _, name = source.role_arn.split(":", 5)[5].removeprefix("role").rpartition("/")
    label = resource_name("role", source.account, f"{path}/", name)
    role = roles.setdefault(source.role_arn, _Role(label, f"{path}/", name))
    # Several policies may share a role; its MaxSessionDuration has to be that of the longest.
    role.life_s = max(role.life_s, int(source.duration.total_seconds()) if source.duration else 0)
    role.policies.append(printable(advice.policy))
    if condition not in role.conditions:
        role.conditions.append(condition)


def _trusted(document: IamPolicy) -> tuple[str, Equals]:
    """Return the issuer of a trust policy, without its scheme, and what is compared."""
    (statement,) = document["Statement"]
    issuer = statement["Principal"]["Federated"].partition(":oidc-provider/")[2]
    return issuer, statement["Condition"]["StringEquals"]


def _provider_label(account: str, issuer: str) -> str:
    return resource_name("issuer", account, issuer)
