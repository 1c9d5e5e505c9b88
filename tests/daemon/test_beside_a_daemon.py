"""Commands for one policy over a simulated API server, with and without a daemon that serves it."""

from __future__ import annotations

import json

import pytest

from credrotator.policies.annotations import RENEW
from credrotator.sandbox import DEFAULT_CLIENT_SECRET
from tests.support.cluster import CLIENT, Cluster
from tests.support.manifests import POLICIES, secret, values

pytestmark = pytest.mark.timeout(90)


class TestCredentialProcess:
    """``credential-process`` without -f."""

    def test_without_a_daemon(self, cluster: Cluster) -> None:
        """Where nobody renews, the credential is published as any other, and printed."""
        cluster.aws()
        document = json.loads(cluster.run("credential-process", "default/aws"))
        assert document["AccessKeyId"] == cluster.key_id()
        assert json.loads(cluster.run("credential-process", "default/aws")) == document
        assert cluster.exchanges() == 1

    def test_beside_a_daemon(self, cluster: Cluster) -> None:
        """What the daemon has published is printed, and nothing is asked or written for it."""
        cluster.aws()
        with cluster.daemon():
            published = cluster.new_key()
            cluster.settled()
            before = cluster.written()
            document = json.loads(cluster.run("credential-process", "default/aws"))
            assert document["AccessKeyId"] == published
            assert (cluster.exchanges(), cluster.written()) == (1, before)

    def test_of_its_namespace(self, cluster: Cluster) -> None:
        """The policy's own namespace is read, and no other: who asks may have no right to more."""
        cluster.azure(namespace="team-a")
        cluster.server.create("secrets", secret(CLIENT, "team-a", client_secret=DEFAULT_CLIENT_SECRET))
        printed = cluster.run("credential-process", "team-a/azure", "--format", "bearer")
        published = values(cluster.server, "ai-eg-bsp-azure", "team-a")
        assert published == {"azureAccessToken": printed.strip()}


class TestRenew:
    """``renew`` and ``wait`` without -f."""

    @pytest.mark.slow
    def test_the_daemon_renews(self, cluster: Cluster) -> None:
        """The daemon hears the request, renews once, and the wait ends with that; both forms of a policy."""
        cluster.aws()
        cluster.aws("managed", managed=True)
        with cluster.daemon():
            first, other = cluster.new_key(), cluster.new_key(name="managed")
            cluster.settled()
            assert "default/aws: renewal requested" in cluster.run("renew", "default/aws", "default/managed")
            cluster.run("wait", "default/aws", "default/managed", "--timeout", "60s")
            second = cluster.key_id()
            assert second != first
            assert cluster.key_id("managed") != other
            cluster.settled()
            assert (cluster.key_id(), cluster.exchanges()) == (second, 4)
        # It is remembered in the Secret: another daemon does not do it again.
        with cluster.daemon():
            cluster.settled()
            assert (cluster.key_id(), cluster.exchanges()) == (second, 4)

    def test_asked_twice_at_once(self, cluster: Cluster) -> None:
        """Two requests within a second are two, so that the second one is done as well."""
        cluster.aws()
        requests = []
        for _ in range(2):
            cluster.run("renew", "default/aws")
            policy = cluster.server.get(POLICIES, "aws") or {}
            requests.append(policy["metadata"]["annotations"][RENEW])
        assert requests[0] < requests[1]

    @pytest.mark.slow
    def test_without_conditions(self, cluster: Cluster) -> None:
        """The gateway wipes the policies' conditions; the wait and the status answer from the Secret."""
        cluster.aws()
        cluster.run("wait", "default/aws", "--timeout", "0s", code=1)
        cluster.run("rotate")
        cluster.server.patch(POLICIES, "aws", {"status": {"conditions": []}})
        cluster.run("wait", "default/aws", "--for", "expires-after=30m", "--timeout", "0s")
        assert "Fresh" in cluster.run("status")
        cluster.run("renew", "default/aws")
        cluster.run("wait", "default/aws", "--timeout", "0s", code=1)
        assert "a renewal was requested" in cluster.run("status")
