"""Google Cloud's tokens beside the gateway's controller, which hears no doorbell for such policies."""

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest

from credrotator.sandbox import DEFAULT_ACCOUNT
from tests.e2e import published_secrets
from tests.e2e.gateway_site import Destination
from tests.e2e.published_secrets import PublishedSecrets
from tests.support import cluster_policies
from tests.support.cluster_policies import NAMESPACE, POLICIES, SECRETS, secret, secret_of
from tests.support.parts import daemon
from tests.support.parts.api import Name

_START = timedelta(seconds=60)
_DELIVERED_WITHIN = timedelta(seconds=5)
_POLICIES = ("vertex", "vertex-key")


@pytest.fixture(scope="module")
def published(prepared: Destination, request: pytest.FixtureRequest) -> Iterator[PublishedSecrets]:
    """The daemon beside the gateway's controller, with a policy of each kind, rotated and delivered once."""
    account = prepared.sandbox.google.accounts[DEFAULT_ACCOUNT]
    key_file = {"service_account.json": account.new_key(DEFAULT_ACCOUNT)}
    prepared.cluster.apply(secret("vertex-key", key_file))
    prepared.add("gcp", [cluster_policies.gcp("vertex", prepared.issuer), cluster_policies.gcp_key("vertex-key")])
    with (
        published_secrets.following(prepared.cluster.api) as published,
        daemon.serving(
            prepared.cluster.admin, prepared.sandbox, "--no-leader-elect", directory=prepared.cluster.directory
        ),
    ):
        for policy in _POLICIES:
            assert published.wait(secret_of(policy), 0, within=_START), policy
        request.getfixturevalue("site")
        for policy in _POLICIES:
            assert prepared.config.has(published.of(secret_of(policy))[0].text, within=_START), policy
        yield published


@pytest.mark.parametrize("policy", _POLICIES)
def test_a_new_token_is_delivered(prepared: Destination, published: PublishedSecrets, policy: str) -> None:
    """An owned Secret that comes and goes makes the controller look, for both ways to Google Cloud."""
    before = len(published.of(secret_of(policy)))
    daemon.rotate(prepared.cluster.admin, prepared.sandbox, "--force", f"{NAMESPACE}/{policy}")
    publication = published.wait(secret_of(policy), before, within=_START)
    assert publication
    assert prepared.config.has(publication.text, within=_DELIVERED_WITHIN)


def test_an_edited_policy_is_delivered_by_the_daemon(prepared: Destination, published: PublishedSecrets) -> None:
    """The daemon notices another life that is asked for, and its token gets through as well."""
    before = len(published.of(secret_of("vertex")))
    change = {"metadata": {"annotations": {"credrotator.io/duration": "30m"}}}
    prepared.cluster.api.patch(POLICIES, Name(NAMESPACE, "vertex"), change)
    publication = published.wait(secret_of("vertex"), before, within=_START)
    assert publication
    assert prepared.config.has(publication.text, within=_DELIVERED_WITHIN)


def test_the_gateway_is_content(prepared: Destination, published: PublishedSecrets) -> None:
    """It accepts the policies, rotates nothing itself, and finds in the Secrets what its own rotator would write."""
    for policy in _POLICIES:
        kinds = [condition["type"] for condition in prepared.policy(policy)["status"]["conditions"]]
        assert kinds[-1] == "Accepted", json.dumps(prepared.policy(policy)["status"])
    assert prepared.exchanges_of_gateway == 0
    keys = [set(prepared.cluster.api.get(SECRETS, Name(NAMESPACE, secret_of(policy)))["data"]) for policy in _POLICIES]
    assert keys == [{"gcpAccessToken", "projectName", "region"}, {"gcpAccessToken"}]
