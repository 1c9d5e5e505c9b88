"""Two replicas and one Lease: one writes, the other takes over, and never both."""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from credrotator.sandbox import DEFAULT_CLIENT, DEFAULT_ROLE, Role
from tests.e2e import published_secrets
from tests.e2e.gateway_site import Destination
from tests.e2e.published_secrets import PublishedSecrets
from tests.support import cluster_policies
from tests.support.cluster_policies import NAMESPACE, POLICIES, secret_of
from tests.support.parts import daemon
from tests.support.parts.api import Name
from tests.support.parts.daemon import Daemon

_POLICIES = ("first", "second", "third")
_ROLES = (DEFAULT_ROLE, f"{DEFAULT_ROLE}-2", f"{DEFAULT_ROLE}-3")
_TAKEN_OVER_WITHIN = timedelta(seconds=20)
# A released Lease is free at once; what is left is the other's next look.
_HANDED_OVER_WITHIN = timedelta(seconds=6)
_START = timedelta(seconds=30)
_LEADS = "credrotator_leader"
_ROTATIONS = "credrotator_rotations_total"


@dataclass(frozen=True)
class Pair:
    """Two daemons over one cluster, in the order in which they lead, and what they have published."""

    site: Destination
    leader: Daemon
    standby: Daemon
    published: PublishedSecrets

    def edit(self, role: str) -> dict[str, int]:
        """Give every policy another role; return how many credentials each has had until then."""
        held = {policy: len(self.published.of(secret_of(policy))) for policy in _POLICIES}
        for policy in _POLICIES:
            spec = {"awsCredentials": cluster_policies.aws_exchange(self.site.issuer, role)}
            self.site.cluster.api.patch(POLICIES, Name(NAMESPACE, policy), {"spec": spec})
        return held

    def wait(self, held: dict[str, int]) -> datetime:
        """Wait until every policy has one more credential and return when the last of them came."""
        publications = [
            self.published.wait(secret_of(policy), number, within=_START * 2) for policy, number in held.items()
        ]
        assert None not in publications
        return max(publication.at for publication in publications if publication)

    def credentials(self) -> int:
        return sum(len(self.published.of(secret_of(policy))) for policy in _POLICIES)


@pytest.fixture
def pair(prepared: Destination, request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A leader and a warm standby, with every policy rotated once."""
    cluster, sandbox = prepared.cluster, prepared.sandbox
    for role in _ROLES:
        sandbox.sts.roles[role] = Role(prepared.issuer, subject=DEFAULT_CLIENT)
    if not any(cluster.api.find(POLICIES, Name(NAMESPACE, policy)) for policy in _POLICIES):
        prepared.add("leadership", [cluster_policies.aws(policy, prepared.issuer) for policy in _POLICIES])
    lease = f"{NAMESPACE}/{request.node.name.replace('_', '-')}"
    directory, asked = cluster.directory / request.node.name, prepared.exchanges
    with ExitStack() as parts:
        published = parts.enter_context(published_secrets.following(cluster.api))
        leader, standby = (
            parts.enter_context(
                daemon.serving(cluster.admin, sandbox, "--lease", lease, directory=directory, name=name)
            )
            for name in ("one", "two")
        )
        if not leader.wait_for_metric(_LEADS, 1, within=timedelta(seconds=3)):
            leader, standby = standby, leader
        assert leader.wait_for_metric(_LEADS, 1, within=_START)
        for policy in _POLICIES:
            assert published.wait(secret_of(policy), 0, within=_START)
        # A rotation is counted a moment after its Secret is there; whoever was fresh is not counted.
        assert leader.wait_for_metric(_ROTATIONS, prepared.exchanges - asked, within=_START)
        yield Pair(prepared, leader, standby, published)


def test_only_the_leader_exchanges_and_writes(pair: Pair) -> None:
    """The standby sees every edit and asks nobody; each credential that STS gave was published, and once."""
    exchanges, credentials, rotations = pair.site.exchanges, pair.credentials(), pair.leader.metric(_ROTATIONS)
    for role in _ROLES[1:]:
        pair.wait(pair.edit(role))

    assert pair.site.exchanges - exchanges == pair.credentials() - credentials == 2 * len(_POLICIES)
    # A rotation is counted a moment after its Secret is written.
    assert pair.leader.wait_for_metric(_ROTATIONS, rotations + 2 * len(_POLICIES), within=_START)
    assert pair.standby.metric(_ROTATIONS) == 0
    assert (pair.leader.metric(_LEADS), pair.standby.metric(_LEADS)) == (1, 0)


def test_the_other_writes_within_20_s_of_a_kill(pair: Pair, figures: list[str]) -> None:
    """After `kill -9` nobody releases the Lease: the other takes over when it has run out, and does what is due."""
    killed = datetime.now(UTC)
    pair.leader.kill()
    took = pair.wait(pair.edit(_another_role(pair))) - killed
    figures.append(f"leader killed: the other has written all after {took.total_seconds():.1f} s")
    assert took <= _TAKEN_OVER_WITHIN
    assert pair.standby.metric(_LEADS) == 1


def test_the_other_writes_soon_after_a_stop(pair: Pair, figures: list[str]) -> None:
    """A leader that is told to stop releases the Lease as the last thing it does."""
    stopped = datetime.now(UTC)
    pair.leader.process.stop(grace=timedelta(seconds=12))
    assert pair.standby.wait_for_metric(_LEADS, 1, within=_START)
    took = datetime.now(UTC) - stopped
    figures.append(f"leader stopped: the other leads after {took.total_seconds():.1f} s")
    assert took <= _HANDED_OVER_WITHIN


def test_a_leader_that_was_frozen_writes_no_more(pair: Pair) -> None:
    """A machine that stood still wakes up as a follower: what was edited meanwhile is the other's, and done once."""
    exchanges, credentials, rotations = pair.site.exchanges, pair.credentials(), pair.leader.metric(_ROTATIONS)
    pair.leader.process.send(signal.SIGSTOP)
    try:
        pair.wait(pair.edit(_another_role(pair)))
    finally:
        pair.leader.process.send(signal.SIGCONT)
    assert pair.leader.wait_for_metric(_LEADS, 0, within=_START)
    # Time enough for a second rotation of each, if there was one to come.
    time.sleep(3)

    assert pair.site.exchanges - exchanges == pair.credentials() - credentials == len(_POLICIES)
    assert pair.leader.metric(_ROTATIONS) == rotations


def _another_role(pair: Pair) -> str:
    """Return a role that the policies do not have, whatever the tests before have given them."""
    present = pair.site.policy(_POLICIES[0])["spec"]["awsCredentials"]["oidcExchangeToken"]["awsRoleArn"]
    return next(role for role in _ROLES if role != present)
