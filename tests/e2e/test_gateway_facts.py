"""What the real controller makes of a Secret that somebody else has written: the ground that delivery stands on.

credrotator takes no part. Each rule is one that its design relies on, and would have to change with.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from credrotator.sandbox import Hang
from tests.e2e.foreign_writer import Writer
from tests.e2e.gateway_site import Destination
from tests.e2e.timing import assert_p99, show
from tests.support import cluster_policies
from tests.support.cluster_policies import NAMESPACE, SECRETS
from tests.support.parts.api import Name

_DELIVERED_WITHIN = timedelta(seconds=1)
_START = timedelta(seconds=30)
# The controller was seen not to notice for a minute; what takes this long was not noticed either.
_UNNOTICED = timedelta(seconds=8)
_ROUNDS = 10

Deliver = Callable[[], object]


@pytest.fixture(scope="module")
def writer(site: Destination) -> Writer:
    """A writer beside the gateway, which has one policy of each kind, with a credential in each."""
    writer = Writer(site)
    for policy in ("aws", "azure-client"):
        writer.park(policy)
    for name in ("file", "key"):
        writer.provide(name)
    site.add(
        "facts",
        [
            cluster_policies.aws("aws", site.issuer),
            cluster_policies.azure_secret("azure-client"),
            cluster_policies.aws_file("file"),
            cluster_policies.api_key("key"),
        ],
    )
    writer.hang_a_bell("aws")
    for name in ("ai-eg-bsp-aws", "ai-eg-bsp-azure-client", "file", "key"):
        credential = writer.rewrite(name)
        writer.come_and_go(name.removeprefix("ai-eg-bsp-"))
        assert site.config.has(credential, within=_START), name
    return writer


@pytest.fixture
def unheard(site: Destination, writer: Writer) -> Callable[[str, Deliver], bool]:
    """Write a Secret, do something that is thought not to deliver it, and tell whether nothing was delivered."""

    def unheard(name: str, act: Deliver) -> bool:
        # Whatever the controller writes, it writes from what all Secrets hold at that moment.
        site.config.settle()
        credential = writer.rewrite(name)
        act()
        return site.config.has(credential, within=_UNNOTICED) is None

    return unheard


@pytest.fixture
def measure(site: Destination, writer: Writer, figures: list[str]) -> Callable[[str, str, Deliver], None]:
    """Write a Secret and deliver it, some times, and assert that each came within the bound."""

    def measure(what: str, name: str, deliver: Deliver) -> None:
        delays = []
        for _ in range(_ROUNDS):
            credential = writer.rewrite(name)
            written = datetime.now(UTC)
            deliver()
            delivered = site.config.has(credential, within=_START)
            assert delivered, f"not delivered within {_START}"
            delays.append((delivered - written).total_seconds())
        figures.append(show(f"{what}, to the filter config", delays))
        assert_p99(delays, _DELIVERED_WITHIN)

    return measure


@pytest.fixture
def parked_on_a_hanging_issuer(site: Destination, writer: Writer) -> Iterator[None]:
    """A policy whose issuer answers nothing, and whose Secret says that there is no need to ask."""
    issuer = site.sandbox.add_issuer()
    with issuer.faults.add(Hang()):
        writer.park("parked")
        writer.hang_a_bell("parked")
        site.add("parked", [cluster_policies.aws("parked", issuer.url)])
        yield


def test_a_rewritten_secret_alone_is_not_delivered(unheard: Callable[[str, Deliver], bool]) -> None:
    """The controller does not look at a Secret of its own making, whoever changes it."""
    assert unheard("ai-eg-bsp-aws", lambda: None)


def test_an_annotation_on_the_policy_delivers_nothing(
    unheard: Callable[[str, Deliver], bool], site: Destination
) -> None:
    """Only a new generation of a policy counts, and metadata make none."""
    annotate = ("annotate", "--overwrite", "backendsecuritypolicy", "aws", "touched=now")
    assert unheard("ai-eg-bsp-aws", lambda: site.cluster.kubectl(*annotate))


def test_a_doorbell_delivers(measure: Callable[[str, str, Deliver], None], writer: Writer) -> None:
    """A touched Secret that is named as the policy has the controller look at the policy: it indexes them so."""
    measure("doorbell", "ai-eg-bsp-aws", lambda: writer.touch("aws"))


def test_a_doorbell_is_not_heard_for_a_client_secret(unheard: Callable[[str, Deliver], bool], writer: Writer) -> None:
    """An Azure policy with a client secret is indexed under that secret, so a Secret of its own name says nothing."""
    writer.hang_a_bell("azure-client")
    assert unheard("ai-eg-bsp-azure-client", lambda: writer.touch("azure-client"))


@pytest.mark.parametrize("policy", ["azure-client", "aws"])
def test_an_owned_secret_that_comes_and_goes_delivers(
    measure: Callable[[str, str, Deliver], None], writer: Writer, policy: str
) -> None:
    """The controller hears of a Secret that a policy owns when it is created or deleted, for every type of policy."""
    measure(f"create and delete, {policy}", f"ai-eg-bsp-{policy}", lambda: writer.come_and_go(policy))


@pytest.mark.parametrize("name", ["file", "key"])
def test_a_secret_that_a_policy_names_is_delivered(measure: Callable[[str, str, Deliver], None], name: str) -> None:
    """In the managed form nothing but the write is needed."""
    measure(f"secretRef, {name}", name, lambda: None)


def test_a_delivery_moves_the_transition_time(site: Destination, writer: Writer) -> None:
    """The condition's `lastTransitionTime` is rewritten at each reconcile: the doorbell was heard."""

    def heard() -> str:
        (condition,) = site.policy("aws")["status"]["conditions"]
        assert (condition["type"], condition["status"]) == ("Accepted", "True")
        return str(condition["lastTransitionTime"])

    before = heard()
    rung = datetime.now(UTC)
    deadline = rung + _START
    while heard() == before:
        writer.touch("aws")
        assert datetime.now(UTC) < deadline
    assert datetime.fromisoformat(heard()) >= rung.replace(microsecond=0)


def test_a_fresh_secret_is_left_alone(site: Destination, writer: Writer) -> None:
    """While the expiry is more than 5 min ahead, the controller's own rotator asks nobody."""
    writer.touch("aws")
    assert site.exchanges == 0


def test_the_secret_gets_the_policy_as_its_owner(site: Destination) -> None:
    """The controller adds itself as controlling owner to a Secret that it finds, so nobody else may be that."""
    (owner,) = site.cluster.api.get(SECRETS, Name(NAMESPACE, "ai-eg-bsp-aws"))["metadata"]["ownerReferences"]
    assert owner["uid"] == site.policy("aws")["metadata"]["uid"]
    assert owner["controller"] is True


@pytest.mark.usefixtures("parked_on_a_hanging_issuer")
def test_a_parked_policy_blocks_nobody(measure: Callable[[str, str, Deliver], None], writer: Writer) -> None:
    """The one worker passes a policy by whose Secret is fresh, however its issuer fares."""

    def ring_both() -> None:
        writer.touch("parked")
        writer.touch("aws")

    measure("doorbell beside a parked policy", "ai-eg-bsp-aws", ring_both)


def test_a_hanging_issuer_blocks_everybody(
    site: Destination, writer: Writer, unheard: Callable[[str, Deliver], bool]
) -> None:
    """Without a fresh Secret the controller asks the issuer, with no limit of time, and has no other worker.

    This is what parking is for. It is also the last test here: a controller that hangs is of no more use.
    """
    issuer = site.sandbox.add_issuer()
    with issuer.faults.add(Hang()):
        site.add("hanging", [cluster_policies.aws("hanging", issuer.url)])
        assert issuer.requests.wait_for(lambda log: log.in_flight > 0, _START.total_seconds())
        assert unheard("ai-eg-bsp-aws", lambda: writer.touch("aws"))
        assert unheard("file", lambda: None)
