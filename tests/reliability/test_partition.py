"""Two daemons that do not see each other, and a leader that has lost its Lease unawares: only one ever writes."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from credrotator.sandbox import Hang, Sandbox
from tests.reliability.children import Child, running
from tests.reliability.fleet import NAMESPACE
from tests.reliability.link import Link
from tests.reliability.places import ClusterPlace, sessions_of
from tests.support.kube.simulator import ApiServer
from tests.support.waiting import LIMIT_S, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.support.kube.faults import Request

POLICIES = [f"policy-{number}" for number in range(3)]
TAKE_OVER_S = 2 * LIMIT_S
"""A Lease of 15 s, and a look every 2..4.4 s."""
QUIET_S = 5.0


@pytest.fixture
def server() -> Iterator[ApiServer]:
    """A simulated API server."""
    with ApiServer() as started:
        yield started


@pytest.fixture
def place(server: ApiServer, tmp_path: Path) -> Iterator[ClusterPlace]:
    """A cluster with some policies."""
    with Sandbox(tmp_path / "sandbox") as sandbox:
        found = ClusterPlace(sandbox, server=server, kubeconfig=server.kubeconfig(tmp_path / "kubeconfig"))
        for policy in POLICIES:
            found.edit(policy)
        yield found


def _daemon(place: ClusterPlace, name: str, directory: Path, url: str | None = None) -> AbstractContextManager[Child]:
    """Run a daemon whose token, and so its name at the server, is ``name``."""
    cluster = {"server": url} if url else {}
    kubeconfig = place.server.kubeconfig(directory / name, user={"token": name}, cluster=cluster)
    environment = {**os.environ, **place.sandbox.environment()}
    arguments = ["run", "--kubeconfig", str(kubeconfig), "-n", NAMESPACE]
    return running(*arguments, log=directory / f"{name}.log", environment=environment)


def _writes(server: ApiServer) -> list[Request]:
    """Return what changed, or was to change, a credential, in the order of arrival."""
    return [
        request
        for request in server.seen(resource="secrets")
        if request.verb in {"create", "update", "patch", "delete"} and "ai-eg-bsp-" in str((request.name, request.body))
    ]


def _holder(server: ApiServer) -> str:
    lease = server.get("leases", "credrotator")
    return str(lease["spec"]["holderIdentity"]) if lease else ""


def _current(place: ClusterPlace, policies: list[str]) -> bool:
    """Tell whether what is published is for the policies as they are now."""
    found = {policy: place.published(policy) for policy in policies}
    wanted = {policy: f":assumed-role/{place.roles[policy].rpartition('/')[2]}/" for policy in policies}
    return all(session is not None and wanted[policy] in session.arn for policy, session in found.items())


def _exchanges(place: ClusterPlace) -> int:
    return sum(map(len, sessions_of(place).values()))


@pytest.mark.slow
def test_fault_33_lease_lost_between_exchange_and_write(place: ClusterPlace, server: ApiServer, tmp_path: Path) -> None:
    """A leader whose Lease was taken while it waited for STS does not write what comes."""
    with _daemon(place, "one", tmp_path) as one:
        eventually(lambda: _current(place, POLICIES))
        with place.sandbox.sts.faults.add(Hang()):
            place.edit(POLICIES[0])
            assert place.sandbox.sts.requests.wait_for(lambda log: log.in_flight == 1)
            before = len(_writes(server))
            lease: dict[str, Any] = {"holderIdentity": "another", "leaseDurationSeconds": 3600}
            server.patch("leases", "credrotator", {"spec": lease})
            one.wait_until_said("not leading any more")
            exchanges = _exchanges(place)
        eventually(lambda: _exchanges(place) == exchanges + 1)
        assert place.sandbox.sts.requests.wait_for(lambda log: log.in_flight == 0)
        one.send(signal.SIGTERM)
        assert one.wait(LIMIT_S) == 0
    assert len(_writes(server)) == before
    assert _holder(server) == "another"
    assert not _current(place, POLICIES[:1])


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_fault_34_two_leaders_under_a_partition(place: ClusterPlace, server: ApiServer, tmp_path: Path) -> None:
    """The leader is cut off, one exchange and one write under way; the other takes over; then the network is whole.

    What it sent while it believed in its Lease arrives late, once each, and meets 409: one write was held back by the
    server, one (of the exchange that ended meanwhile) by the network. Nobody takes turns.
    """
    hung, late, calm = POLICIES
    with Link(urlsplit(server.url).port or 0) as link, _daemon(place, "one", tmp_path, _through(link)) as one:
        eventually(lambda: _current(place, POLICIES))
        leader = _holder(server)
        with _daemon(place, "two", tmp_path) as two:
            server.wait_for(1, "watch", "backendsecuritypolicies")
            two.wait_until_said("running with")
            held = server.delay(float("inf"), verb="update", resource="secrets", user="one")
            place.edit(late)
            eventually(lambda: _pending(server, late))
            hang = place.sandbox.sts.faults.add(Hang(), times=1)
            place.edit(hung)
            assert place.sandbox.sts.requests.wait_for(lambda log: log.in_flight == 1)
            exchanges = _exchanges(place)
            link.cut()
            # It still believes in its Lease when the credential comes, and for some seconds more.
            hang.remove()
            eventually(lambda: _exchanges(place) == exchanges + 1)
            place.edit(calm)
            eventually(lambda: _holder(server) not in {"", leader}, TAKE_OVER_S)
            eventually(lambda: _current(place, POLICIES))
            taken_over, exchanges = _holder(server), _exchanges(place)
            published = {policy: place.published(policy) for policy in POLICIES}
            server.heal(held)
            link.heal()
            one.wait_until_said("not leading any more")
            eventually(lambda: not _pending(server, late))
            # Time for a second thought of either; nothing is waited for but its absence.
            one.wait(QUIET_S)

            assert {policy: place.published(policy) for policy in POLICIES} == published
            assert _holder(server) == taken_over
            done = [request for request in _writes(server) if request.user == "one" and request.status < 300]
            first = next(request for request in _writes(server) if request.user == "two")
            order = _writes(server)
            assert all(order.index(request) < order.index(first) for request in done)
            refused = [request for request in order if request.user == "one" and request.status == 409]
            assert {request.name for request in refused} == {f"ai-eg-bsp-{late}", f"ai-eg-bsp-{hung}"}
            assert len(refused) == 2
            before = len(server.seen())
            place.edit(calm)
            eventually(lambda: _current(place, POLICIES))
            assert {request.user for request in _writes(server) if request in server.seen()[before:]} == {"two"}
            assert _exchanges(place) == exchanges + 1
            assert one.wait(0) is None
            assert two.wait(0) is None


def _pending(server: ApiServer, policy: str) -> bool:
    """Tell whether a write of a policy's Secret has arrived and was not answered."""
    return any(request.status == 0 and request.name == f"ai-eg-bsp-{policy}" for request in _writes(server))


def _through(link: Link) -> str:
    return f"http://127.0.0.1:{link.port}"
