"""AWS roles that are assumed one by another: the requests, who trusts whom, and what a refusal is told."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pygohcl
import pytest

from credrotator.core.errors import Denied, Transient
from credrotator.core.model import fingerprint
from credrotator.providers.aws.advice import role_chain, terraform, trust_policy
from credrotator.providers.aws.source import ChainedRole
from credrotator.providers.provider import Advice
from credrotator.sandbox import DEFAULT_ROLE, Echo, Role, ServiceError
from tests.support.exchanging import POLICY as POLICY_KEY
from tests.support.exchanging import Backend, refused

if TYPE_CHECKING:
    from credrotator.providers.aws.source import AwsCredential

SECOND, THIRD = "arn:aws:iam::210987654321:role/shared", "arn:aws:iam::321098765432:role/last"
POLICY = json.dumps({"Version": "2012-10-17", "Statement": []}, separators=(",", ":"))
FULL = ChainedRole(SECOND, "ours:42", (("cost", "ai"), ("team", "a")), POLICY, "gateway")


@pytest.fixture
def aws(world: Backend) -> Backend:
    """Add a role in another account that trusts the default one by an external id, and a third that trusts it."""
    world.sandbox.sts.roles[SECOND] = Role(callers={DEFAULT_ROLE: "ours:42"})
    world.sandbox.sts.roles[THIRD] = Role(callers={SECOND: ""})
    return world


def chained(aws: Backend, *chain: ChainedRole, **changes: Any) -> AwsCredential:
    """Get a credential by a chain of roles."""
    return aws.exchange_aws(chain=chain, **changes)


def test_the_requests(aws: Backend) -> None:
    """The second call is signed with the first one's credential, and says all that the policy says; nothing else."""
    credential = chained(aws, FULL)
    first, second = aws.sandbox.sts.requests
    assert first.form["Action"] == "AssumeRoleWithWebIdentity"
    form = second.form.to_dict()
    assert form == {
        "Action": "AssumeRole",
        "Version": "2011-06-15",
        "RoleArn": SECOND,
        "RoleSessionName": "ai-gateway-bedrock",
        "ExternalId": "ours:42",
        "SourceIdentity": "gateway",
        "Policy": POLICY,
        "Tags.member.1.Key": "cost",
        "Tags.member.1.Value": "ai",
        "Tags.member.2.Key": "team",
        "Tags.member.2.Value": "a",
    }
    own, last = aws.sandbox.sts.sessions.values()
    assert own.access_key_id in second.headers["Authorization"]
    assert credential.access_key_id == last.access_key_id
    assert (last.account, dict(last.tags), last.source_identity) == (
        "210987654321",
        {"cost": "ai", "team": "a"},
        "gateway",
    )


def test_three_roles(aws: Backend) -> None:
    """Each is assumed with the credential of the one before it; the last one's is the policy's."""
    credential = chained(aws, FULL, ChainedRole(THIRD), duration=timedelta(minutes=20))
    last = list(aws.sandbox.sts.sessions.values())[-1]
    assert (credential.access_key_id, last.account) == (last.access_key_id, "321098765432")
    durations = [request.form.get("DurationSeconds") for request in aws.sandbox.sts.requests]
    assert durations == ["1200", None, "1200"]


@pytest.mark.parametrize(
    ("role", "action"),
    [
        (ChainedRole(SECOND), "AssumeRole"),
        (ChainedRole(SECOND, "ours:43"), "AssumeRole"),
        (ChainedRole("arn:aws:iam::210987654321:role/none", "ours:42"), "AssumeRole"),
        (FULL, "TagSession"),
        (ChainedRole(SECOND, "ours:42", source_identity="me"), "SetSourceIdentity"),
    ],
)
def test_a_role_that_does_not_trust(aws: Backend, role: ChainedRole, action: str) -> None:
    """The refusal names both roles, and what has to be entered where; the subject token is not asked for again."""
    second = aws.sandbox.sts.roles[SECOND]
    second.takes_tags = second.takes_source_identity = action == "AssumeRole"
    with refused(Denied, "AccessDenied") as caught:
        chained(aws, role)
    assert f"sts:{action}" in caught.value.message
    assert all(arn in caught.value.hint for arn in (role.arn, DEFAULT_ROLE))
    assert aws.issuer.requests.count("/token") == 1


@pytest.mark.parametrize("code", ["ExpiredToken", "SignatureDoesNotMatch", "MalformedPolicyDocument"])
def test_other_refusals(aws: Backend, code: str) -> None:
    """By AWS's own code; an expired credential of the first role is no stale subject token."""
    aws.sandbox.sts.faults.add(ServiceError(code), when=lambda request: request.form["Action"] == "AssumeRole")
    with refused(Denied, code):
        chained(aws, FULL)
    assert aws.sandbox.sts.requests.total == 2


def test_i5_each_account_has_its_own_circuit_breaker(aws: Backend) -> None:
    """I5: what the second account is throttled by says nothing of the first one."""
    aws.sandbox.sts.faults.add(ServiceError("Throttling"), when=lambda request: request.form["Action"] == "AssumeRole")
    exchanger = aws.exchanger()
    with refused(Transient, "StsThrottled"):
        chained(aws, FULL, exchanger=exchanger)
    aws.exchange_aws(exchanger)


def test_i9_no_key_of_the_first_role_in_a_failure(aws: Backend) -> None:
    """I9: a server that repeats the request gets neither signature nor session token into a message."""
    aws.sandbox.sts.faults.add(Echo(), when=lambda request: request.form["Action"] == "AssumeRole")
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever the class
        chained(aws, FULL)
    (session,) = aws.sandbox.sts.sessions.values()
    assert session.session_token not in str(caught.value)
    assert session.secret_access_key not in str(caught.value)


def test_what_the_credential_depends_on(aws: Backend) -> None:
    """An edit of any of it rotates; a policy without a chain keeps the fingerprint of earlier releases."""
    plain = aws.aws()
    chains = [(), (FULL,), (ChainedRole(SECOND),), (ChainedRole(SECOND, "x"),), (FULL, ChainedRole(THIRD))]
    assert len({fingerprint(aws.aws(chain=chain)) for chain in chains}) == len(chains)
    assert fingerprint(plain) == fingerprint(aws.aws(chain=()))
    assert (plain.identity, aws.aws(chain=(FULL,)).identity) == (DEFAULT_ROLE, SECOND)


def test_what_the_roles_need(aws: Backend) -> None:
    """For each further role, whom it has to trust with what, and what that one has to be allowed; as Terraform too."""
    source = aws.aws(chain=(FULL, ChainedRole(THIRD)))
    second, third = role_chain(source)
    (trusted,), (permitted,) = second["trustPolicy"]["Statement"], second["callerPolicy"]["Statement"]
    assert trusted == {
        "Effect": "Allow",
        "Principal": {"AWS": DEFAULT_ROLE},
        "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"],
        "Condition": {"StringEquals": {"sts:ExternalId": "ours:42"}},
    }
    assert (permitted["Action"], permitted["Resource"]) == (trusted["Action"], SECOND)
    assert (third["callerRoleArn"], "Condition" in third["trustPolicy"]["Statement"][0]) == (SECOND, False)
    claims = {"iss": aws.issuer.url, "aud": "sts.amazonaws.com", "sub": "x"}
    whole = pygohcl.loads(terraform([Advice(POLICY_KEY, source, trust_policy(source, claims))]))
    roles = whole["resource"]["aws_iam_role"]
    assert {role["name"] for role in roles.values()} == {"bedrock", "shared", "last"}
    assert len(whole["resource"]["aws_iam_role_policy"]) == 2
    assert (
        json.loads(next(each for each in roles.values() if each["name"] == "shared")["assume_role_policy"])
        == (second["trustPolicy"])
    )
