"""Commands for one policy over a simulated API server, with and without a daemon that serves it."""

from __future__ import annotations

import contextlib
import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from credrotator.policies.annotations import RENEW
from credrotator.sandbox import DEFAULT_CLIENT_SECRET
from tests.support.cluster import CLIENT, PROGRAM, Cluster
from tests.support.command_line import run
from tests.support.manifests import POLICIES, secret, static, values
from tests.support.waiting import LIMIT_S, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.command_line import Ran

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


class TestWaitForNobody:
    """``wait`` where there is no policy: a pipeline must not go on because of a namespace that is mistyped."""

    @pytest.mark.parametrize(
        ("selection", "where"),
        [
            (("-n", "prdo"), " in namespace prdo"),
            (("-l", "team=nobody"), " with labels team=nobody"),
            (("-A", "-l", "team=nobody"), " with labels team=nobody"),
        ],
    )
    def test_nothing_is_ready(self, cluster: Cluster, selection: tuple[str, ...], where: str) -> None:
        """The time is up, at once without one, and it is said that there is none, and where."""
        cluster.aws()
        told = f"there is no BackendSecurityPolicy{where} in the cluster"
        ran = _wait(cluster, *selection, "--timeout", "0s")
        assert (ran.code, ran.out, ran.err) == (1, "", f"{told}\n")
        ran = _wait(cluster, *selection, "--timeout", "100ms")
        assert (ran.code, ran.out, ran.err) == (1, "", f"note: {told}; waiting for one\n{told}\n")

    def test_an_empty_cluster(self, cluster: Cluster) -> None:
        """Nor does a cluster without policies meet a condition; a policy that is named there is a mistake as ever."""
        assert _wait(cluster, "-A", "--timeout", "0s").code == 1
        assert _wait(cluster, "default/nobody", "--timeout", "0s").code == 2

    def test_policies_to_come(self, cluster: Cluster) -> None:
        """Policies that are created meanwhile are waited for, all that there are."""
        with _waiting(cluster, "-A") as waiting:
            for name in ("first", "second"):
                cluster.server.create(POLICIES, static(name, f"{name}-key"))
                seen = _listed(cluster)
                # One more may have begun before.
                eventually(lambda: _listed(cluster) > seen + 1)  # noqa: B023 - called here only
            for name in ("first", "second"):
                cluster.server.create("secrets", secret(f"{name}-key", apiKey="sk-static"))
            out, _ = waiting.communicate(timeout=LIMIT_S)
        assert (waiting.returncode, out) == (0, "default/first: condition met\ndefault/second: condition met\n")

    def test_the_server_fails(self, cluster: Cluster) -> None:
        """What cannot be read again is said, and is no success either."""
        with _waiting(cluster, "-A", "--timeout", "2s") as waiting:
            cluster.server.fail(503, "ServiceUnavailable", "no etcd", verb="list", resource=POLICIES)
            _, told = waiting.communicate(timeout=LIMIT_S)
        assert (waiting.returncode, "no etcd" in told) == (1, True)


@contextlib.contextmanager
def _waiting(cluster: Cluster, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run ``wait`` beside the block, which begins when it has looked once."""
    command = [*PROGRAM, "wait", "--kubeconfig", str(cluster.kubeconfig), *arguments]
    waiting = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        eventually(lambda: _listed(cluster) > 0)
        yield waiting
    finally:
        waiting.kill()
        waiting.communicate()


def _wait(cluster: Cluster, *arguments: str) -> Ran:
    return run("wait", "--kubeconfig", str(cluster.kubeconfig), *arguments)


def _listed(cluster: Cluster) -> int:
    return sum((request.verb, request.resource) == ("list", POLICIES) for request in list(cluster.server.requests))
