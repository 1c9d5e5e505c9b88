"""From the gateway's form of a policy to the managed one and to no policy at all, on a server that collects garbage."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from credrotator.sandbox import Sandbox
from tests.e2e import gateway_site, published_secrets
from tests.e2e.gateway_site import Destination
from tests.e2e.published_secrets import PublishedSecrets
from tests.support import cluster_policies
from tests.support.cluster_policies import NAMESPACE, POLICIES, SECRETS, secret, secret_of
from tests.support.parts import cluster, daemon
from tests.support.parts.api import Name
from tests.support.parts.kubernetes import Programs

_START = timedelta(seconds=30)
_POLICIES = ("aws", "azure", "client")
# The collector looks for new kinds of objects every 30 s.
_COLLECTED = timedelta(seconds=90)
_POLL_S = 0.1


@pytest.fixture(scope="module")
def kubernetes(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[cluster.Cluster]:
    """A cluster with the built-in controllers."""
    with cluster.serving(programs, directory=tmp_path_factory.mktemp("cluster"), collecting=True) as running:
        yield running


@pytest.fixture(scope="module")
def prepared(kubernetes: cluster.Cluster, sandbox: Sandbox) -> Iterator[Destination]:
    """The cluster with a Gateway."""
    with gateway_site.prepared(kubernetes, sandbox) as site:
        yield site


@pytest.fixture(scope="module")
def published(prepared: Destination, request: pytest.FixtureRequest) -> Iterator[PublishedSecrets]:
    """The daemon beside the gateway's controller, with a policy of each kind in the gateway's form."""
    prepared.add(
        "forms",
        [
            cluster_policies.aws("aws", prepared.issuer),
            cluster_policies.azure_federated("azure", prepared.issuer),
            cluster_policies.azure_secret("client"),
        ],
    )
    with (
        published_secrets.following(prepared.cluster.api) as published,
        daemon.serving(
            prepared.cluster.admin, prepared.sandbox, "--no-leader-elect", directory=prepared.cluster.directory
        ),
    ):
        for policy in _POLICIES:
            assert published.wait(secret_of(policy), 0, within=_START), policy
        request.getfixturevalue("site")
        yield published


def _comes(condition: Callable[[], bool], *, within: timedelta = _START) -> bool:
    give_up = time.monotonic() + within.total_seconds()
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(_POLL_S)
    return True


def test_a_policy_goes_over_to_the_managed_form(prepared: Destination, published: PublishedSecrets) -> None:
    """What `convert` prints is valid, replaces the policy, and leads to a credential by another Secret."""
    for policy in _POLICIES:
        manifest = daemon.convert(prepared.cluster.admin, policy)
        prepared.cluster.kubectl("replace", "--validate=strict", "--filename=-", stdin=manifest)
    for policy in _POLICIES:
        publication = published.wait(f"{policy}-credentials", 0, within=_START)
        assert publication, policy
        assert prepared.config.has(publication.text, within=_START), policy


def test_the_secrets_of_a_deleted_policy_go_with_it(prepared: Destination, published: PublishedSecrets) -> None:
    """Every Secret that was made for a policy is owned by it, and nobody writes another after its end."""
    api = prepared.cluster.api
    assert published.of(secret_of("client"))
    made = [Name(NAMESPACE, name) for name in ("aws", secret_of("aws"), "aws-credentials", secret_of("client"))]
    for policy in ("aws", "client"):
        api.delete(POLICIES, Name(NAMESPACE, policy))
    assert _comes(lambda: not any(api.find(SECRETS, at) for at in made), within=_COLLECTED)
    time.sleep(2)
    assert not any(api.find(SECRETS, at) for at in made)


def test_fault_40_a_secret_of_somebody_else_is_left_alone(prepared: Destination, published: PublishedSecrets) -> None:
    """A Secret that happens to have the name of a policy's is refused, with a reason, and stays as it is."""
    api, at = prepared.cluster.api, Name(NAMESPACE, "managed-taken")
    theirs = api.create(SECRETS, secret(at.name, {"theirs": "value"}))
    api.create(POLICIES, cluster_policies.aws_managed("managed-taken", prepared.issuer))

    def refused() -> bool:
        conditions = prepared.policy("managed-taken").get("status", {}).get("conditions", [])
        return any(condition["reason"] == "SecretNotOurs" for condition in conditions)

    assert _comes(refused)
    assert api.get(SECRETS, at)["metadata"]["resourceVersion"] == theirs["metadata"]["resourceVersion"]
    assert not published.of(at.name)
