"""Verified delivery beside the real controller: its configuration is read, and one that is put back is put right."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.e2e import published_secrets
from tests.e2e.gateway_objects import CONFIG_KEY, CONFIG_SECRET, GATEWAY
from tests.e2e.gateway_site import Destination
from tests.e2e.published_secrets import PublishedSecrets
from tests.support import cluster_policies
from tests.support.cluster_policies import NAMESPACE, SECRETS, secret_of
from tests.support.parts import daemon
from tests.support.parts.api import Name
from tests.support.parts.controller import SYSTEM_NAMESPACE
from tests.support.parts.daemon import Daemon

_START = timedelta(seconds=60)
_FOUND_WITHIN = timedelta(seconds=10)
_COUNT, _BEHIND = "credrotator_delivery_config_seconds_count", "credrotator_delivery_behind"
_POLICIES = ("aws", "managed")


@pytest.fixture(scope="module")
def published(prepared: Destination, request: pytest.FixtureRequest) -> Iterator[tuple[PublishedSecrets, Daemon]]:
    """The daemon and the controller, with a policy of each form, delivered once."""
    admin, sandbox, issuer = prepared.cluster.admin, prepared.sandbox, prepared.issuer
    options = ("--no-leader-elect", "--verify-delivery", f"{NAMESPACE}/{GATEWAY}")
    with (
        published_secrets.following(prepared.cluster.api) as secrets,
        daemon.serving(admin, sandbox, *options, directory=prepared.cluster.directory) as running,
    ):
        policies = [cluster_policies.aws("aws", issuer), cluster_policies.aws_managed("managed", issuer)]
        prepared.add("verified", policies)
        for policy in _POLICIES:
            assert secrets.wait(secret_of(policy), 0, within=_START), policy
        request.getfixturevalue("site")
        for policy in _POLICIES:
            assert prepared.config.has(secrets.of(secret_of(policy))[0].text, within=_START), policy
        prepared.config.settle()
        yield secrets, running


def test_a_former_configuration_is_found_and_put_right(
    published: tuple[PublishedSecrets, Daemon], site: Destination
) -> None:
    """Both forms are delivered and counted; then the configuration is put back to what it was before."""
    secrets, running = published
    api, name = site.cluster.api, Name(SYSTEM_NAMESPACE, CONFIG_SECRET)
    former = api.get(SECRETS, name)["data"]
    counted = running.metric(_COUNT)
    daemon.rotate(site.cluster.admin, site.sandbox, "--force")
    newest = [secrets.wait(secret_of(policy), 1, within=_START) for policy in _POLICIES]
    assert all(each and site.config.has(each.text, within=_START) for each in newest)
    site.config.settle()
    assert running.wait_for_metric(_BEHIND, 0, within=_FOUND_WITHIN)
    # Published by a command beside the daemon, so that it is none of the daemon's deliveries.
    assert running.metric(_COUNT) == counted

    writes = site.config.writes
    api.patch(SECRETS, name, {"data": {CONFIG_KEY: former[CONFIG_KEY]}})
    assert running.wait_for_metric(_BEHIND, len(_POLICIES), within=_FOUND_WITHIN)
    # The bell of one policy has the controller write what both have.
    assert running.wait_for_metric(_BEHIND, 0, within=_FOUND_WITHIN)
    assert site.config.writes > writes + 1
