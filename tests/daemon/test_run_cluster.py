"""``credrotator run`` as a process over a simulated API server, and the commands beside it."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from credrotator.sandbox import DEFAULT_ACCOUNT, DEFAULT_CLIENT, DEFAULT_ROLE, Client
from tests.support.builders import AWS
from tests.support.cluster import CLIENT, OTHER_ROLE, SECRET, Cluster, patch_role
from tests.support.manifests import POLICIES, secret, values
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.timeout(90)


@pytest.mark.slow
def test_a_day_in_a_cluster(cluster: Cluster) -> None:
    """Create, edit, deletions and edits of the Secret (38, 39), a new client secret (42): each is found.

    In between nothing is written and nobody asked, own writes that come back as events included.
    """
    server, sandbox = cluster.server, cluster.sandbox
    cluster.aws()
    cluster.azure()
    cluster.aws("managed", managed=True)
    with cluster.daemon() as daemon:
        first = cluster.new_key()
        cluster.settled()
        assert cluster.exchanges() == 2
        assert sorted(cluster.events()) == [("Rotated", "aws"), ("Rotated", "azure"), ("Rotated", "managed")]

        # A second of peace: not one write, not one exchange.
        before = cluster.written()
        time.sleep(1.0)
        assert cluster.written() == before
        assert cluster.exchanges() == 2

        # Edited: another credential.
        patch_role(server, "aws", OTHER_ROLE)
        second = cluster.new_key(first)
        cluster.settled()
        assert cluster.exchanges() == 3

        # Deleted, edited: repaired from memory.
        server.delete("secrets", SECRET)
        eventually(lambda: cluster.key_id() == second)
        server.patch("secrets", SECRET, secret(SECRET, credentials="[default]"))
        eventually(lambda: cluster.key_id() == second)
        server.patch("secrets", SECRET, {"metadata": {"annotations": {"rotators/expiration-time": None}}})
        eventually(lambda: cluster.written().count(f"update secrets/{SECRET}") == 3)
        cluster.settled()
        assert cluster.exchanges() == 3
        assert cluster.events().count(("Repaired", "aws")) == 3

        # The client secret is replaced: looked at, and the published credential stays.
        sandbox.issuer.clients[DEFAULT_CLIENT] = Client("another-secret", subject=DEFAULT_CLIENT)
        server.patch("secrets", CLIENT, secret(CLIENT, client_secret="another-secret"))
        cluster.settled()
        assert cluster.key_id() == second
        # Used at once where it is needed.
        patch_role(server, "aws", DEFAULT_ROLE)
        cluster.new_key(second)

        # Deleted for good: nothing comes back, and its series are gone. Where the Secret's end is seen before the
        # policy's, it is written once more, and the garbage collector takes it again, since its owner is gone.
        server.delete(POLICIES, "aws")

        def forgotten() -> bool:
            server.collect_garbage()
            return daemon.metric("credential_ready_status", name="aws") is None

        eventually(forgotten)
        cluster.settled()
        server.collect_garbage()
        cluster.settled()
        assert values(server, SECRET) is None
        assert daemon.metric("credential_ready_status", name="managed") == 1
        assert daemon.end()[0] == 0
    lists = server.seen("list", "secrets") + server.seen("watch", "secrets")
    assert all(request.query.get("labelSelector") or request.query.get("fieldSelector") for request in lists)
    assert "Traceback" not in daemon.log


def test_a_token_file(cluster: Cluster, tmp_path: Path) -> None:
    """G27: a managed policy without a client secret, by the pod's own token, which is read anew for each exchange."""
    path, sandbox = tmp_path / "token", cluster.sandbox
    cluster.by_token_file("managed", "pod")
    cluster.by_token_file("stranger", "another")
    with cluster.daemon("--token-file", f"pod={path}") as daemon:
        # The kubelet has not written it yet: tried again within seconds.
        eventually(lambda: "TokenFileUnreadable" in daemon.log)
        first = sandbox.issuer.issue(DEFAULT_CLIENT, audience="sts.amazonaws.com")
        path.write_text(first)
        key = cluster.new_key(name="managed")
        assert len(sandbox.issuer.requests) == 0
        second = sandbox.issuer.issue(DEFAULT_CLIENT, audience="sts.amazonaws.com")
        path.write_text(second)
        server = cluster.server
        notes = {AWS: json.dumps({"region": "eu-central-1", "oidcExchangeToken": {"awsRoleArn": DEFAULT_ROLE}})}
        server.patch(POLICIES, "managed", {"metadata": {"annotations": notes}})
        cluster.new_key(key, name="managed")
        assert [request.form["WebIdentityToken"] for request in sandbox.sts.requests] == [first, second]
        eventually(lambda: ("RotationFailed", "stranger") in cluster.events())
    (event,) = [found for found in cluster.server.items("events") if found["involvedObject"]["name"] == "stranger"]
    assert "no token file another that policies of namespace default may use" in event["message"]
    assert first not in daemon.log
    assert str(path) not in json.dumps(cluster.server.items("events"))


def test_google_cloud(cluster: Cluster) -> None:
    """Both ways end in the gateway's Secret, whose creation tells the gateway; a new key is found."""
    server, google = cluster.server, cluster.sandbox.google
    cluster.gcp()
    cluster.gcp("by-key", key=True)
    with cluster.daemon():
        eventually(lambda: values(server, "ai-eg-bsp-gcp") and values(server, "ai-eg-bsp-by-key"))
        cluster.settled()
        by_identity, by_key = values(server, "ai-eg-bsp-gcp") or {}, values(server, "ai-eg-bsp-by-key") or {}
        assert set(by_identity) == {"gcpAccessToken", "projectName", "region"}
        assert (by_identity["projectName"], by_identity["region"]) == ("sandbox-project", "us-central1")
        assert set(by_key) == {"gcpAccessToken"}
        for found in (by_identity, by_key):
            assert google.grants[found["gcpAccessToken"]].principal == DEFAULT_ACCOUNT
        stored = server.get("secrets", "ai-eg-bsp-by-key")
        assert stored
        assert stored["metadata"]["ownerReferences"][0]["name"] == "by-key"
        assert "rotators/expiration-time" in stored["metadata"]["annotations"]
        assert not [write for write in cluster.written() if "credrotator-bell-" in write]
        assert values(server, "gcp") is None, "a doorbell was rung"

        # A new key file: looked at, the token that is published stays; a deleted one is put back without asking.
        asked = google.requests.total
        server.patch("secrets", "by-key", cluster.key_file("by-key"))
        server.delete("secrets", "ai-eg-bsp-gcp")
        eventually(lambda: values(server, "ai-eg-bsp-gcp") == by_identity)
        cluster.settled()
        assert values(server, "ai-eg-bsp-by-key") == by_key
        assert google.requests.total == asked
    assert "gcp-workload-identity" in cluster.run("status", "-A")


def test_says_what_it_serves(cluster: Cluster) -> None:
    """How many policies, where, and which issuers; once they are listed, and once."""
    cluster.aws()
    with cluster.daemon("-A") as daemon:
        eventually(lambda: "serving " in daemon.log)
        (line,) = [line for line in daemon.log.splitlines() if "serving " in line]
        assert f"serving 1 policy of all namespaces at {cluster.server.url}, credentials to Secrets there" in line
        assert f"allowed issuers: {cluster.issuer}" in line


def test_without_election(cluster: Cluster) -> None:
    """One replica needs no Lease."""
    cluster.aws()
    with cluster.daemon("--no-leader-elect") as daemon:
        cluster.new_key()
        assert daemon.metric("leader") == 1
    assert not cluster.server.items("leases")


def test_scope(cluster: Cluster) -> None:
    """Namespaces and a selector say which policies are a daemon's; -A is all of them."""
    cluster.aws("mine", team="a")
    cluster.aws("theirs", team="b")
    with cluster.daemon("-n", "default", "-l", "team=a"):
        cluster.new_key(name="mine")
        cluster.settled()
        assert cluster.key_id("theirs") == ""
        # A policy that comes into scope is taken on, and one that leaves it is let go; its credential stays.
        cluster.server.patch(POLICIES, "theirs", {"metadata": {"labels": {"team": "a"}}})
        cluster.new_key(name="theirs")
        cluster.server.patch(POLICIES, "mine", {"metadata": {"labels": {"team": "b"}}})
        cluster.settled()
        patch_role(cluster.server, "mine", OTHER_ROLE)
        cluster.settled()
        assert cluster.exchanges() == 2
        assert cluster.key_id("mine")


@pytest.mark.slow
def test_no_time_is_lost_on_short_lives(cluster: Cluster) -> None:
    """G7: a credential of a minute or so is renewed at half of its life, without a loop."""
    cluster.sandbox.entra.token_life = timedelta(seconds=12)
    try:
        cluster.azure(secret=True)
        with cluster.daemon():
            eventually(lambda: len(cluster.sandbox.entra.requests) > 0)
            eventually(lambda: cluster.written().count("update secrets/ai-eg-bsp-azure") == 1)
            tokens = [request for request in cluster.sandbox.entra.requests if request.method == "POST"]
            assert 2 <= len(tokens) <= 3
    finally:
        cluster.sandbox.entra.token_life = timedelta(hours=1)
