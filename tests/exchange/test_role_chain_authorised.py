"""A chain of roles at moto, which verifies the second call as AWS would: signature, policies, and whom a role trusts.

moto knows no call without a signature, so the one by web identity is let through as it is, and an external id that is
missing is none that differs: the sandbox judges both. From the second call on, authorisation is on.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import requests
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from credrotator.core.errors import Denied
from credrotator.providers.aws.source import ChainedRole
from tests.support.exchanging import Backend, refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credrotator.providers.aws.source import AwsCredential

ACCOUNT = "123456789012"
FIRST = f"arn:aws:iam::{ACCOUNT}:role/gateway"
SHARED, CLOSED, FOREIGN = (f"arn:aws:iam::{ACCOUNT}:role/{name}" for name in ("shared", "closed", "foreign"))
NAMES = ("gateway", "ai-gateway-bedrock")


class Aws:
    """moto's server, with a role that may assume some others."""

    def __init__(self, url: str, world: Backend) -> None:
        self.url, self._world = url, world

    def client(self, service: str, **key: Any) -> Any:
        """Return AWS's own client, as somebody."""
        someone = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        return boto3.client(service, endpoint_url=self.url, region_name="us-east-1", **(key or someone))  # type: ignore[call-overload]

    def set_up(self) -> None:
        """Make the roles: the first may assume two others, of which one trusts it, by an external id."""
        iam = self.client("iam")
        by_web_identity = {"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRoleWithWebIdentity"}
        by_first: dict[str, Any] = {
            "Effect": "Allow",
            "Principal": {"AWS": "arn:aws:sts::{}:assumed-role/{}/{}".format(ACCOUNT, *NAMES)},
            "Action": ["sts:AssumeRole", "sts:TagSession"],
            "Condition": {"StringEquals": {"sts:ExternalId": "ours:42"}},
        }
        by_another = by_first | {"Principal": {"AWS": f"arn:aws:sts::{ACCOUNT}:assumed-role/another/session"}}
        trust = {"gateway": by_web_identity, "shared": by_first, "closed": by_another, "foreign": by_first}
        for name, statement in trust.items():
            iam.create_role(RoleName=name, AssumeRolePolicyDocument=_document(statement))
        allowed = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": [SHARED, CLOSED]}
        iam.put_role_policy(RoleName="gateway", PolicyName="chain", PolicyDocument=_document(allowed))

    def authorise(self) -> None:
        """Let one more call through as it is, and none after it."""
        requests.post(f"{self.url}/moto-api/reset-auth", data="1", timeout=10).raise_for_status()

    def get(self, *chain: ChainedRole) -> AwsCredential:
        """Get a credential by a chain of roles."""
        self.authorise()
        return self._world.exchange_aws(role_arn=FIRST, chain=chain)


@pytest.fixture
def aws(world: Backend, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """Return moto's AWS with the roles."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    found = Aws(f"http://{host}:{port}", world)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", found.url)
    try:
        found.set_up()
        yield found
    finally:
        requests.post(f"{found.url}/moto-api/reset-auth", data="inf", timeout=10).raise_for_status()
        requests.post(f"{found.url}/moto-api/reset", timeout=10).raise_for_status()
        server.stop()


def _document(statement: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def _key(credential: AwsCredential) -> dict[str, str]:
    return {
        "aws_access_key_id": credential.access_key_id,
        "aws_secret_access_key": credential.secret_access_key.reveal(),
        "aws_session_token": credential.session_token.reveal(),
    }


def test_the_credential_is_the_last_roles(aws: Aws) -> None:
    """The first role's policy and the second one's trust admit the call, and its signature holds; so does the next."""
    key = _key(aws.get(ChainedRole(SHARED, "ours:42", (("team", "a"),))))
    assert ":assumed-role/shared/" in aws.client("sts", **key).get_caller_identity()["Arn"]


def test_a_wrong_signature_is_noticed(aws: Aws) -> None:
    """The judge is real: with another secret the same call is refused."""
    key = _key(aws.get(ChainedRole(SHARED, "ours:42")))
    key["aws_secret_access_key"] = key["aws_secret_access_key"][::-1]
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        aws.client("sts", **key).get_caller_identity()


@pytest.mark.parametrize(
    "role",
    [
        ChainedRole(SHARED, "ours:43"),
        ChainedRole(CLOSED, "ours:42"),
        ChainedRole(FOREIGN, "ours:42"),
    ],
    ids=["another external id", "a role that trusts another one", "no policy of the first role"],
)
def test_what_is_not_allowed(aws: Aws, role: ChainedRole) -> None:
    """Whichever side forbids it, the refusal names both roles."""
    with refused(Denied, "AccessDenied") as caught:
        aws.get(role)
    assert all(arn in caught.value.hint for arn in (role.arn, FIRST))
