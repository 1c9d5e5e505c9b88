"""The judge of ``make soak-cluster``: who wrote a credential without leading is found, and nobody else."""

from __future__ import annotations

import pytest

from tests.reliability.writers import ANSWERED_S, NOTICED_S, Log, Writers
from tests.support.kube.faults import Request


class Cluster:
    """What two daemons send to the API server, and its judge."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.log = Log(lambda: self.now_s)
        self.writers = Writers(self.log)

    def lease(self, user: str, *, status: int = 200, given_up: bool = False) -> None:
        """Take the Lease or renew it."""
        spec = {"holderIdentity": "" if given_up else f"{user}-7"}
        self._send(user, "leases", "credrotator", status, {"spec": spec})

    def secret(self, user: str, *, status: int = 200) -> None:
        """Write a credential."""
        self._send(user, "secrets", "ai-eg-bsp-a", status, {})

    def complaints(self) -> list[str]:
        """Judge everything up to now."""
        self.now_s += ANSWERED_S + 1
        self.writers.judge()
        return self.writers.complaints

    def _send(self, user: str, resource: str, name: str, status: int, body: object) -> None:
        request = Request("PUT", "/", {}, user, "update", resource, "default", name, body=body, status=status)
        self.log.append(request)


@pytest.fixture
def cluster() -> Cluster:
    """A cluster whose Lease the first daemon has had for a while."""
    cluster = Cluster()
    cluster.lease("first")
    cluster.now_s += 60
    return cluster


def test_the_leader_writes(cluster: Cluster) -> None:
    """Nothing is wrong with that, nor with what was refused."""
    cluster.secret("first")
    cluster.secret("second", status=409)
    cluster.lease("second", status=409)
    cluster.secret("first")
    assert not cluster.complaints()
    assert (cluster.writers.writes, cluster.writers.changes) == (2, 1)


def test_another_writes(cluster: Cluster) -> None:
    """Who never had the Lease is named."""
    cluster.secret("second")
    assert cluster.complaints() == ["second wrote ai-eg-bsp-a (update), though first had led for 60.0 s"]


@pytest.mark.parametrize("given_up", [False, True])
def test_a_former_leader_writes(cluster: Cluster, *, given_up: bool) -> None:
    """He has a moment to notice that the Lease is another one's, or nobody's."""
    if given_up:
        cluster.lease("first", given_up=True)
    else:
        cluster.lease("second")
    cluster.secret("first")
    cluster.now_s += NOTICED_S + 1
    cluster.secret("first")
    assert len(cluster.complaints()) == 1


def test_a_cut_connection_may_have_made_a_leader(cluster: Cluster) -> None:
    """A write of the Lease that was never answered may count; the next one that is answered tells."""
    cluster.lease("second", status=0)
    cluster.now_s += NOTICED_S + 1
    cluster.secret("second")
    cluster.lease("first")
    cluster.secret("second")
    assert len(cluster.complaints()) == 1


def test_what_may_still_be_answered_is_waited_for(cluster: Cluster) -> None:
    """It is not known yet whose the Lease is, so what comes after it is not judged."""
    cluster.lease("second", status=0)
    cluster.secret("second")
    cluster.writers.judge()
    assert cluster.writers.writes == 0
    assert not cluster.complaints()
    assert cluster.writers.writes == 1
