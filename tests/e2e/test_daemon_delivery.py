"""From the daemon's write to the filter's configuration: a hundred policies of both forms behind one Gateway."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from credrotator.sandbox import DEFAULT_CLIENT, DEFAULT_ROLE, Role
from tests.e2e import published_secrets
from tests.e2e.gateway_site import Destination
from tests.e2e.published_secrets import Publication, PublishedSecrets
from tests.e2e.timing import assert_p99, show
from tests.support import cluster_policies
from tests.support.cluster_policies import NAMESPACE, POLICIES, SECRETS, secret_of
from tests.support.parts import daemon
from tests.support.parts.api import Json, Name
from tests.support.waiting import eventually

_OTHER_ROLE = f"{DEFAULT_ROLE}-2"
_LATER_ROLE = f"{DEFAULT_ROLE}-later"
# What the gateway has said by then was said before; its controller tries again ever more rarely.
_SPOKE = timedelta(seconds=7)
# Longer than the daemon waits for the gateway before it rings for a creation.
_NOT_RUNG_S = 4
_OF_EACH_FORM = 50
_FORMS = {
    "drop-in": [f"drop-in-{number:02}" for number in range(_OF_EACH_FORM)],
    "managed": [f"managed-{number:02}" for number in range(_OF_EACH_FORM)],
}
_ALL = [name for names in _FORMS.values() for name in names]
# As jitter spreads them; a hundred that are due together are shown beside it.
_PACE_S = 0.25
_START = timedelta(seconds=60)
_DELIVERED_WITHIN = timedelta(seconds=1)

each_form = pytest.mark.parametrize("form", _FORMS)


class Rotations:
    """Makes policies rotate, by giving them the other of two roles, and measures how their credentials get through."""

    def __init__(self, site: Destination, published: PublishedSecrets) -> None:
        self._site = site
        self._published = published
        self._edits = dict.fromkeys(_ALL, 0)
        self._roles = dict.fromkeys(_ALL, DEFAULT_ROLE)

    def edit(self, name: str) -> None:
        self._edits[name] += 1
        self._roles[name] = _OTHER_ROLE if self._roles[name] == DEFAULT_ROLE else DEFAULT_ROLE
        exchange = cluster_policies.aws_exchange(self._site.issuer, self._roles[name])
        change: Json = {"spec": {"awsCredentials": exchange}}
        if name.startswith("managed"):
            change = {"metadata": {"annotations": {"credrotator.io/aws-credentials": json.dumps(exchange)}}}
        self._site.cluster.api.patch(POLICIES, Name(NAMESPACE, name), change)

    def force(self) -> None:
        """Rotate all policies by command."""
        daemon.rotate(self._site.cluster.admin, self._site.sandbox, "--force")
        for name in _ALL:
            self._edits[name] += 1

    def newest(self, name: str) -> Publication:
        """Return what was published after the latest edit."""
        publication = self._published.wait(secret_of(name), self._edits[name], within=_START)
        assert publication, f"{name} was not rotated"
        return publication

    def first(self, name: str) -> Publication:
        """Return the first publication for a policy of a test's own."""
        publication = self._published.wait(secret_of(name), 0, within=_START)
        assert publication, f"{name} was not rotated"
        return publication

    def delay(self, name: str) -> float:
        """Return the seconds from the latest publish to the filter's configuration."""
        publication = self.newest(name)
        delivered = self._site.config.has(publication.text, within=_START)
        assert delivered, f"{name} was not delivered"
        return (delivered - publication.at).total_seconds()

    def bell_delay(self, name: str) -> float:
        """Return the seconds from the latest publish to the doorbell of a policy, which has that policy's name."""
        rung = self._published.touched(name)
        assert rung, f"{name} has no doorbell"
        return (rung - self.newest(name).at).total_seconds()


@pytest.fixture(scope="module")
def rotations(prepared: Destination, request: pytest.FixtureRequest) -> Iterator[Rotations]:
    """The daemon and the gateway's controller, with every policy rotated once and delivered."""
    sandbox = prepared.sandbox
    sandbox.sts.roles[_OTHER_ROLE] = Role(prepared.issuer, subject=DEFAULT_CLIENT)
    with (
        published_secrets.following(prepared.cluster.api) as published,
        daemon.serving(prepared.cluster.admin, sandbox, "--no-leader-elect", directory=prepared.cluster.directory),
    ):
        rotations = Rotations(prepared, published)
        prepared.add("drop-in", [cluster_policies.aws(name, prepared.issuer) for name in _FORMS["drop-in"]])
        prepared.add("managed", [cluster_policies.aws_managed(name, prepared.issuer) for name in _FORMS["managed"]])
        for name in _ALL:
            rotations.newest(name)
        # Only now, for it would race for the first credential of each policy, which has no Secret yet.
        request.getfixturevalue("site")
        for name in _ALL:
            rotations.delay(name)
        prepared.config.settle()
        yield rotations


@each_form
def test_a_rotation_is_in_the_filter_config_within_1_s(rotations: Rotations, form: str, figures: list[str]) -> None:
    """A credential gets from its Secret into the filter's configuration in 1 s, 99 times of 100."""
    names = _FORMS[form] * 2
    delays, bells = [], []
    for name in names:
        rotations.edit(name)
        delays.append(rotations.delay(name))
        if form == "drop-in":
            bells.append(rotations.bell_delay(name))
        time.sleep(_PACE_S)
    if bells:
        figures.append(show("of that, to the doorbell", bells))
    figures.append(show(f"{form}, 100 policies behind the Gateway, to the filter config", delays))
    assert_p99(delays, _DELIVERED_WITHIN)


def test_a_hundred_at_once(rotations: Rotations, site: Destination, figures: list[str]) -> None:
    """A hundred policies that are forced together, beside the daemon, are all delivered; the figures say how fast."""
    site.config.settle()
    began, writes = datetime.now(UTC), site.config.writes
    rotations.force()
    publications = [rotations.newest(name) for name in _ALL]
    delays = [rotations.delay(name) for name in _ALL]
    figures.append(show("both forms, 100 at once, to the filter config", delays))
    took = max(publication.at for publication in publications) - began
    figures.append(
        f"100 at once: published in {took.total_seconds():.1f} s, "
        f"{site.config.writes - writes} writes of the filter config"
    )


def test_a_first_credential_is_its_own_bell(rotations: Rotations, site: Destination, figures: list[str]) -> None:
    """A Secret that the daemon creates is heard of by the controller, which had looked before: no bell is rung."""
    policy = cluster_policies.aws("first", site.issuer, role=_LATER_ROLE)
    # So that the gateway's own rotator fails, and only the daemon can create it.
    del policy["spec"]["awsCredentials"]["oidcExchangeToken"]["oidc"]["clientSecret"]["namespace"]
    site.add("first", [policy])
    eventually(lambda: _spoke_at(site, "first") <= datetime.now(UTC) - _SPOKE, _START.total_seconds())
    site.sandbox.sts.roles[_LATER_ROLE] = Role(site.issuer, subject=DEFAULT_CLIENT)
    at = Name(NAMESPACE, "first")
    site.cluster.api.patch(POLICIES, at, {"metadata": {"annotations": {"credrotator.io/renew-requested-at": "now"}}})
    publication = rotations.first("first")
    delivered = site.config.has(publication.text, within=_START)
    assert delivered
    figures.append(f"a first credential, to the filter config: {(delivered - publication.at).total_seconds():.2f} s")
    time.sleep(_NOT_RUNG_S)
    assert site.cluster.api.find(SECRETS, at) is None, "a bell was rung"


def _spoke_at(site: Destination, name: str) -> datetime:
    """Return when the gateway's controller wrote the status of a policy last; now, if it has not."""
    conditions = (site.policy(name).get("status") or {}).get("conditions") or []
    words = [each["lastTransitionTime"] for each in conditions if each["type"] != "credrotator.io/Ready"]
    return datetime.fromisoformat(words[-1]) if words else datetime.now(UTC)


def test_the_gateway_exchanged_nothing(rotations: Rotations, site: Destination) -> None:
    """While the daemon runs, the gateway's own rotator asks neither issuer nor STS for anything."""
    assert site.exchanges_of_gateway == 0
