"""Two rotators, one policy: the daemon and the gateway's own leave each other alone, and one steps in for the other."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta

import pytest

from credrotator.sandbox import DEFAULT_CLIENT, DEFAULT_ROLE, Hang, Role, Sandbox
from credrotator.sandbox.issuer import Issuer
from tests.e2e import published_secrets
from tests.e2e.foreign_writer import Writer
from tests.e2e.gateway_site import Destination
from tests.e2e.published_secrets import PublishedSecrets
from tests.support import cluster_policies
from tests.support.cluster_policies import NAMESPACE, POLICIES, secret_of
from tests.support.parts import daemon
from tests.support.parts.api import Name
from tests.support.parts.daemon import Daemon

_POLICIES = ("aws", "apart", "managed-aws", "azure")
_OTHER_ROLE = f"{DEFAULT_ROLE}-2"
_APART_ROLE = f"{DEFAULT_ROLE}-apart"
_SHORT_ROLE = f"{DEFAULT_ROLE}-short"
_START = timedelta(seconds=30)
_STEADY_S = 15
# The gateway's rotator wakes so long before the expiry that is written on the Secret.
_SPARE_WHEEL = timedelta(minutes=5)
_WAKES_IN = timedelta(seconds=15)

Run = Callable[[], AbstractContextManager[Daemon]]


@pytest.fixture(scope="module")
def run(prepared: Destination) -> Run:
    """Run the daemon, with little patience for an issuer."""
    cluster = prepared.cluster
    options = ("--no-leader-elect", "--timeout", "3s")
    return lambda: daemon.serving(cluster.admin, prepared.sandbox, *options, directory=cluster.directory)


@pytest.fixture(scope="module")
def apart(sandbox: Sandbox) -> Issuer:
    """An issuer that serves one policy only, and may hang without harm to the others."""
    return sandbox.add_issuer()


@pytest.fixture(scope="module")
def published(
    prepared: Destination, run: Run, apart: Issuer, request: pytest.FixtureRequest
) -> Iterator[PublishedSecrets]:
    """Policies that the daemon has rotated and left, and the gateway's controller, which found them fresh."""
    issuer, sts = prepared.issuer, prepared.sandbox.sts
    sts.roles[_OTHER_ROLE] = Role(issuer, subject=DEFAULT_CLIENT)
    sts.roles[_SHORT_ROLE] = Role(issuer, subject=DEFAULT_CLIENT, forced_life=_SPARE_WHEEL + _WAKES_IN)
    sts.roles[_APART_ROLE] = Role(apart.url, subject=DEFAULT_CLIENT)
    prepared.add(
        "beside",
        [
            cluster_policies.aws("aws", issuer),
            cluster_policies.aws("apart", apart.url, role=_APART_ROLE),
            cluster_policies.aws_managed("managed-aws", issuer),
            cluster_policies.azure_federated("azure", issuer),
        ],
    )
    with published_secrets.following(prepared.cluster.api) as published:
        with run():
            for policy in _POLICIES:
                assert published.wait(secret_of(policy), 0, within=_START), policy
        request.getfixturevalue("site")
        prepared.config.settle()
        yield published


@pytest.fixture
def writer(prepared: Destination) -> Writer:
    """Somebody with a hand on the Secrets."""
    return Writer(prepared)


def _publications(published: PublishedSecrets) -> int:
    return sum(len(published.of(secret_of(policy))) for policy in _POLICIES)


def _edit(site: Destination, policy: str, role: str) -> None:
    spec = {"awsCredentials": cluster_policies.aws_exchange(site.issuer, role)}
    site.cluster.api.patch(POLICIES, Name(NAMESPACE, policy), {"spec": spec})


def test_nothing_happens_while_all_is_fresh(
    prepared: Destination, run: Run, published: PublishedSecrets, writer: Writer
) -> None:
    """At a restart and at rest neither rotator asks for anything or writes a credential, however often it looks."""
    exchanges, publications = prepared.exchanges, _publications(published)
    with run() as running:
        for policy in ("aws", "apart", "azure"):
            writer.come_and_go(policy)
        time.sleep(_STEADY_S)
        assert running.metric("credrotator_rotations_total") == 0
    assert (prepared.exchanges, _publications(published)) == (exchanges, publications)
    assert prepared.exchanges_of_gateway == 0


def test_a_parked_policy_keeps_the_gateway_going(
    prepared: Destination, run: Run, published: PublishedSecrets, writer: Writer, apart: Issuer
) -> None:
    """While an issuer hangs, the daemon keeps its policies out of the reach of the gateway's rotator.

    The policy is due, and the gateway's rotator about to wake. It would ask the issuer
    and wait for ever, and has one worker.
    """
    writer.age("apart", _SPARE_WHEEL + _WAKES_IN)
    aged, asked = time.monotonic(), apart.requests.total
    with apart.faults.add(Hang()), run():
        assert writer.wait_until_parked("apart", within=_START)
        assert time.monotonic() - aged < _WAKES_IN.total_seconds()
        time.sleep(_WAKES_IN.total_seconds())
        writer.come_and_go("apart")

        held = len(published.of(secret_of("aws")))
        _edit(prepared, "aws", _OTHER_ROLE)
        publication = published.wait(secret_of("aws"), held, within=_START)
        assert publication
        assert prepared.config.has(publication.text, within=_START)
        assert apart.requests.total > asked
        assert [request for request in apart.requests if request.headers["User-Agent"].startswith("Go-")] == []


def test_a_short_life_is_renewed_by_one(prepared: Destination, run: Run, published: PublishedSecrets) -> None:
    """A credential that lives hardly longer than the gateway's rotator looks ahead is the daemon's all the same."""
    held = len(published.of(secret_of("aws")))
    with run():
        _edit(prepared, "aws", _SHORT_ROLE)
        assert published.wait(secret_of("aws"), held, within=_START)
        time.sleep(2 * _WAKES_IN.total_seconds())
        assert prepared.exchanges_of_gateway == 0
        _edit(prepared, "aws", DEFAULT_ROLE)
        assert published.wait(secret_of("aws"), held + 1, within=_START)


def test_the_gateway_takes_over_and_hands_back(
    prepared: Destination, run: Run, published: PublishedSecrets, writer: Writer, figures: list[str]
) -> None:
    """Without a daemon the gateway's rotator renews by itself; a daemon that comes back keeps that fresh in turn."""
    held, exchanges = len(published.of(secret_of("aws"))), prepared.exchanges_of_gateway
    writer.age("aws", _SPARE_WHEEL + timedelta(seconds=3))
    writer.come_and_go("aws")
    taken = published.wait(secret_of("aws"), held, within=_START)
    assert taken
    assert prepared.exchanges_of_gateway > exchanges

    exchanges = prepared.exchanges_of_gateway
    with run():
        time.sleep(_STEADY_S)
        writer.come_and_go("aws")
        assert prepared.config.has(published.of(secret_of("aws"))[-1].text, within=_START)
    assert prepared.exchanges_of_gateway == exchanges
    figures.append(
        f"taken back from the gateway with {len(published.of(secret_of('aws'))) - held - 1} new credential(s)"
    )
