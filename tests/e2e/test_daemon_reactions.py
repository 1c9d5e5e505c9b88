"""What the daemon does at once, by no timer: policies that are edited, and Secrets that others laid hands on."""

import base64
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from credrotator.sandbox import DEFAULT_CLIENT, DEFAULT_CLIENT_SECRET, DEFAULT_ROLE, Client, Hang, Role
from tests.e2e import published_secrets
from tests.e2e.gateway_site import Destination
from tests.e2e.published_secrets import Publication, PublishedSecrets
from tests.support import cluster_policies
from tests.support.cluster_policies import ISSUER_CLIENT, NAMESPACE, POLICIES, SECRETS, secret_of
from tests.support.parts import daemon
from tests.support.parts.api import Name

_WITHIN = timedelta(seconds=5)
_START = timedelta(seconds=30)
_OTHER_ROLE = f"{DEFAULT_ROLE}-2"
_OTHER_CLIENT = "another-client"
_OTHER_AUDIENCE = "sts.another.example"
_HANGING = 30
"""More policies than there are workers."""
_POLICIES = ("aws", "managed-aws", "azure", "managed-azure")
_EXCHANGE = ("awsCredentials", "oidcExchangeToken")

# Takes a policy, something to do, and how many publications that is itself; returns what the daemon does about it.
React = Callable[[str, Callable[[], object], int], Publication]

each_policy = pytest.mark.parametrize("policy", _POLICIES)


@pytest.fixture(scope="module")
def published(prepared: Destination) -> Iterator[PublishedSecrets]:
    """The daemon alone, in a cluster without the gateway's controller, with each policy's first credential."""
    sandbox, cluster, issuer = prepared.sandbox, prepared.cluster, prepared.issuer
    sandbox.issuer.clients[_OTHER_CLIENT] = Client(DEFAULT_CLIENT_SECRET, subject=DEFAULT_CLIENT)
    sandbox.sts.roles[_OTHER_ROLE] = Role(issuer, subject=DEFAULT_CLIENT)
    prepared.add(
        "reactions",
        [
            cluster_policies.aws("aws", issuer),
            cluster_policies.aws_managed("managed-aws", issuer),
            cluster_policies.azure_federated("azure", issuer),
            cluster_policies.azure_managed("managed-azure"),
            # Of their own: a policy may cost three exchanges by edits at once, and then one in six seconds.
            *(cluster_policies.aws(name, issuer) for name in ("edited-region", "edited-client")),
            cluster_policies.aws("edited-audience", issuer, role=_OTHER_ROLE),
        ],
    )
    with (
        published_secrets.following(cluster.api) as published,
        daemon.serving(cluster.admin, sandbox, "--no-leader-elect", directory=cluster.directory),
    ):
        for policy in (*_POLICIES, "edited-region", "edited-client", "edited-audience"):
            assert published.wait(secret_of(policy), 0, within=_START), policy
        yield published


@pytest.fixture
def react(published: PublishedSecrets, figures: list[str], request: pytest.FixtureRequest) -> React:
    """Do something to a policy or its Secret, and return what is published on it, which must come in time."""

    def react(policy: str, act: Callable[[], object], changes: int = 0) -> Publication:
        number = len(published.of(secret_of(policy))) + changes
        began = datetime.now(UTC)
        act()
        publication = published.wait(secret_of(policy), number, within=_START)
        assert publication, f"nothing was published within {_START}"
        took = publication.at - began
        figures.append(f"{request.node.name}: published after {took.total_seconds():.2f} s")
        assert took <= _WITHIN
        return publication

    return react


def _edit(site: Destination, policy: str, *path: str, to: object) -> None:
    """Change one field of a policy's spec and leave its neighbours alone."""
    change: Any = to
    for field in reversed(path):
        change = {field: change}
    site.cluster.api.patch(POLICIES, Name(NAMESPACE, policy), {"spec": change})


def _edit_annotation(site: Destination, role: str) -> None:
    """Give the managed policy another role."""
    annotations = cluster_policies.aws_managed("managed-aws", site.issuer, role=role)["metadata"]["annotations"]
    at = Name(NAMESPACE, "managed-aws")
    site.cluster.api.patch(POLICIES, at, {"metadata": {"annotations": annotations}})


def _damage(site: Destination, policy: str) -> None:
    """Overwrite every value in a policy's Secret, so that it still looks like a credential."""
    at = Name(NAMESPACE, secret_of(policy))
    file = "[default]\naws_access_key_id = ASIADAMAGED\naws_secret_access_key = x\naws_session_token = x\nregion = x\n"
    held = site.cluster.api.get(SECRETS, at)["data"]
    damaged = {key: file if key == "credentials" else "damaged" for key in held}
    site.cluster.api.patch(SECRETS, at, {"stringData": damaged})


def test_an_edited_role_rotates(prepared: Destination, react: React) -> None:
    """A credential of another role is not what the policy asks for any more."""
    publication = react("aws", lambda: _edit(prepared, "aws", *_EXCHANGE, "awsRoleArn", to=_OTHER_ROLE), 0)
    assert ":assumed-role/bedrock-2/" in prepared.sandbox.sts.sessions[publication.text].arn


def test_an_edited_region_rotates(prepared: Destination, react: React) -> None:
    """The region stands in the credentials file, and says which STS is asked."""
    edit = partial(_edit, prepared, "edited-region", "awsCredentials", "region", to="eu-west-1")
    react("edited-region", edit, 0)
    file = prepared.cluster.api.get(SECRETS, Name(NAMESPACE, secret_of("edited-region")))["data"]["credentials"]
    assert b"region = eu-west-1" in base64.b64decode(file)


def test_an_edited_client_rotates(prepared: Destination, react: React) -> None:
    """Another client of the issuer is another identity."""
    edit = partial(_edit, prepared, "edited-client", *_EXCHANGE, "oidc", "clientID", to=_OTHER_CLIENT)
    react("edited-client", edit, 0)
    last = prepared.sandbox.issuer.requests.matching("/token")[-1]
    _, credentials = last.headers["Authorization"].split()
    assert base64.b64decode(credentials).startswith(_OTHER_CLIENT.encode())


def test_an_edited_audience_rotates(prepared: Destination, react: React) -> None:
    """A token for another audience may be good for something else; it is asked for and exchanged anew."""
    prepared.sandbox.sts.roles[_OTHER_ROLE].audience = _OTHER_AUDIENCE
    react("edited-audience", lambda: _edit(prepared, "edited-audience", *_EXCHANGE, "aud", to=_OTHER_AUDIENCE), 0)


def test_an_edited_annotation_rotates(prepared: Destination, react: React) -> None:
    """In the managed form the annotation says what to do, so an edit of it counts as one of the policy."""
    prepared.sandbox.sts.roles[_OTHER_ROLE].audience = "sts.amazonaws.com"
    publication = react("managed-aws", lambda: _edit_annotation(prepared, _OTHER_ROLE), 0)
    assert ":assumed-role/bedrock-2/" in prepared.sandbox.sts.sessions[publication.text].arn


@each_policy
def test_fault_39_a_deleted_secret_comes_back(prepared: Destination, react: React, policy: str) -> None:
    """A gateway without the Secret has no credential for its backend; it gets one at once."""
    at = Name(NAMESPACE, secret_of(policy))
    react(policy, lambda: prepared.cluster.api.delete(SECRETS, at), 1)


@each_policy
def test_fault_38_an_edited_secret_is_repaired(prepared: Destination, react: React, policy: str) -> None:
    """What somebody else wrote over a credential does not stay."""
    publication = react(policy, lambda: _damage(prepared, policy), 1)
    assert publication.text not in {"damaged", "ASIADAMAGED"}


def test_a_hung_issuer_delays_nobody(prepared: Destination, react: React) -> None:
    """More policies than there are workers hang on one issuer; another is rotated as ever."""
    api, hung = prepared.cluster.api, prepared.sandbox.add_issuer()
    with hung.faults.add(Hang()):
        for number in range(_HANGING):
            api.create(POLICIES, cluster_policies.aws(f"hung-{number}", hung.url))
        assert hung.requests.wait_for(lambda log: log.in_flight > 0, _START.total_seconds())
        react("managed-aws", lambda: _edit_annotation(prepared, DEFAULT_ROLE), 0)
        for number in range(_HANGING):
            api.delete(POLICIES, Name(NAMESPACE, f"hung-{number}"))


def test_fault_42_a_refused_client_gets_a_new_secret(prepared: Destination, published: PublishedSecrets) -> None:
    """A policy that was refused is tried again as soon as the Secret that it names is another."""
    sandbox, api = prepared.sandbox, prepared.cluster.api
    sandbox.issuer.clients[DEFAULT_CLIENT].secret = "rotated"
    held = len(published.of(secret_of("azure")))
    _edit(prepared, "azure", "azureCredentials", "oidcExchangeToken", "oidc", "scopes", to=["openid"])
    assert sandbox.issuer.requests.wait_for(lambda log: log[-1].path == "/token", _START.total_seconds())
    api.patch(SECRETS, Name(NAMESPACE, ISSUER_CLIENT), {"stringData": {"client-secret": "rotated"}})
    publication = published.wait(secret_of("azure"), held, within=_START)
    assert publication
