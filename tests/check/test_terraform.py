"""The advice as Terraform: HCL that a parser reads, shared things once, and nothing of a token that escapes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pygohcl
import pytest

from credrotator.core.model import ObjectKey
from credrotator.diagnosis.terraform import document
from credrotator.providers.aws.advice import trust_policy
from credrotator.providers.azure.advice import federated_credential
from credrotator.providers.azure.source import AzureOidc, EntraApp
from credrotator.providers.gcp.advice import workload_identity
from credrotator.providers.gcp.source import GcpPool, GcpWorkloadIdentity
from credrotator.providers.provider import Advice
from tests.support.twins import aws_source

if TYPE_CHECKING:
    from credrotator.providers.aws.source import AwsOidc

CLAIMS = {"iss": "https://idp.example/realms/ai", "aud": "sts.amazonaws.com", "sub": "service", "azp": "gateway"}
PROVIDER = "issuer_123456789012_idp_example_realms_ai"
ROLE = "role_123456789012_bedrock"
POOL, ACCOUNT = GcpPool("123456789012", "gateway", "idp"), "vertex@my-project.iam.gserviceaccount.com"
APP = EntraApp("contoso.example", "aaaa-bbbb", "https://login.example", "x/.default")


def aws(name: str = "p", source: AwsOidc | None = None, **claims: Any) -> Advice:
    """Return what an AWS policy needs for a token."""
    source = source or aws_source()
    return Advice(ObjectKey("default", name), source, trust_policy(source, {**CLAIMS, **claims}))


def azure(name: str = "q", **claims: Any) -> Advice:
    """Return what an Azure policy needs for a token."""
    key, source = ObjectKey("default", name), AzureOidc(aws_source().oidc, APP)
    return Advice(key, source, federated_credential(key, {**CLAIMS, **claims}))


def gcp(name: str = "r", source: GcpWorkloadIdentity | None = None, **claims: Any) -> Advice:
    """Return what a policy of Google Cloud needs for a token."""
    source = source or GcpWorkloadIdentity(aws_source().oidc, POOL, "my-project", "us-central1", ACCOUNT)
    return Advice(ObjectKey("default", name), source, workload_identity(source, {**CLAIMS, **claims}))


def read(*needs: Advice) -> dict[str, Any]:
    """Return the file as HCL's own parser reads it."""
    parsed: dict[str, Any] = pygohcl.loads(document(needs))
    return parsed


def test_aws() -> None:
    """The issuer as identity provider, and a role that trusts it for this subject and audience."""
    resources = read(aws())["resource"]
    assert resources["aws_iam_openid_connect_provider"][PROVIDER] == {
        "url": "https://idp.example/realms/ai",
        "client_id_list": ["sts.amazonaws.com", "gateway"],
    }
    role = resources["aws_iam_role"][ROLE]
    assert (role["name"], role["path"]) == ("bedrock", "/")
    text = document([aws()])
    assert f"Federated = aws_iam_openid_connect_provider.{PROVIDER}.arn" in text
    assert '"idp.example/realms/ai:sub" = "service"' in text
    assert '"idp.example/realms/ai:aud" = ["sts.amazonaws.com", "gateway"]' in text
    assert f"terraform import aws_iam_role.{ROLE} bedrock" in text


def test_entra() -> None:
    """The application by its client id, and the federated credential of the token."""
    found = read(azure())
    assert found["data"]["azuread_application"]["app_aaaa_bbbb"] == {"client_id": "aaaa-bbbb"}
    (credential,) = found["resource"]["azuread_application_federated_identity_credential"].values()
    assert credential["issuer"] == CLAIMS["iss"]
    assert (credential["subject"], credential["audiences"]) == ("service", ["sts.amazonaws.com"])
    assert "${data.azuread_application.app_aaaa_bbbb.object_id}" in document([azure()])


def test_google_cloud() -> None:
    """The pool's provider for this issuer and audience, and the grant: on the account, or else on the project."""
    resources = read(gcp())["resource"]
    assert resources["google_iam_workload_identity_pool_provider"]["provider_gateway_idp"] == {
        "project": "123456789012",
        "workload_identity_pool_id": "gateway",
        "workload_identity_pool_provider_id": "idp",
        "attribute_mapping": {"google.subject": "assertion.sub"},
        "oidc": {"issuer_uri": "https://idp.example/realms/ai", "allowed_audiences": ["sts.amazonaws.com"]},
    }
    (grant,) = resources["google_service_account_iam_member"].values()
    principal = f"principal://iam.googleapis.com/{POOL.resource}/subject/service"
    assert grant == {
        "service_account_id": f"projects/-/serviceAccounts/{ACCOUNT}",
        "role": "roles/iam.workloadIdentityUser",
        "member": principal,
    }
    direct = replace(GcpWorkloadIdentity(aws_source().oidc, POOL, "my-project", "us-central1"))
    (grant,) = read(gcp(source=direct))["resource"]["google_project_iam_member"].values()
    assert grant == {"project": "my-project", "role": "roles/aiplatform.user", "member": principal}


def test_what_policies_of_google_cloud_share() -> None:
    """One provider with the audiences of all, one grant for one principal on one account."""
    text = document([gcp("a"), gcp("b"), gcp("c", aud="other"), gcp("d", sub="another")])
    resources = pygohcl.loads(text)["resource"]
    (provider,) = resources["google_iam_workload_identity_pool_provider"].values()
    assert provider["oidc"]["allowed_audiences"] == ["sts.amazonaws.com", "other"]
    assert len(resources["google_service_account_iam_member"]) == 2
    assert "# For default/a, default/b, default/c." in text


def test_what_is_shared_stands_once() -> None:
    """One provider with the audiences of all, one role for one ARN, one data source for one application."""
    text = document([aws("a"), aws("b"), aws("c", aud="other"), azure("d"), azure("e")])
    resources = pygohcl.loads(text)["resource"]
    (provider,) = resources["aws_iam_openid_connect_provider"].values()
    assert provider["client_id_list"] == ["sts.amazonaws.com", "gateway", "other"]
    assert list(resources["aws_iam_role"]) == [ROLE]
    assert text.count("sts:AssumeRoleWithWebIdentity") == 2
    assert "# For default/a, default/b, default/c." in text
    assert text.count('data "azuread_application"') == 1
    assert len(resources["azuread_application_federated_identity_credential"]) == 2


def test_paths_partitions_and_life() -> None:
    """A role below a path, with the duration that its policy asks for."""
    source = replace(aws_source(), role_arn="arn:aws-cn:iam::210987654321:role/team/a/x", duration=timedelta(hours=12))
    (role,) = read(aws(source=source))["resource"]["aws_iam_role"].values()
    assert (role["name"], role["path"], role["max_session_duration"]) == ("x", "/team/a/", 43200)


@pytest.mark.parametrize(
    "text",
    ['quo"te', "back\\slash", "${file('/etc/passwd')}", "%{ for x in y }", "line\nbreak", "ümlaut", "$", "\x1b[31m"],
)
def test_hostile_claims(text: str) -> None:
    """What a token says stays text: no template, no new line, no control character."""
    (credential,) = read(azure(sub=text))["resource"]["azuread_application_federated_identity_credential"].values()
    assert credential["subject"] == text.replace("\n", "\\n").replace("\x1b", "\\x1b")
    assert document([azure(sub=text)]).replace("\n", "").isprintable()


def test_nothing_needed() -> None:
    """No file then, and of two vendors only the one that is used."""
    assert document([]) == ""
    assert "azuread" not in document([aws()])
    assert "hashicorp/aws" not in document([azure()])
