"""Secrets that ask for themselves, on the simulated API server: filled, kept fresh, and nobody else's touched."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from credrotator.core.errors import Conflict, Denied
from credrotator.core.model import InvalidPolicy, ObjectKey, RotatablePolicy
from credrotator.core.secretdata import CONTENT, FINGERPRINT, POLICY, RECORDS, render
from credrotator.kube.access import IN_EACH_NAMESPACE
from credrotator.kube.reading import read_cluster
from credrotator.kube.renewal import request_renewal
from credrotator.kube.source import ClusterSource, Scope
from credrotator.kube.store import MANAGED_BY, ClusterStore
from credrotator.policies.annotations import ASKS, RENEW, SHAPE
from credrotator.policies.asking import asking_key
from credrotator.policies.reader import Defaults
from credrotator.providers import policy_reader
from credrotator.sandbox import DEFAULT_CLIENT, DEFAULT_ROLE, Sandbox
from tests.support.builders import AWS
from tests.support.cluster import CLIENT, Cluster
from tests.support.manifests import POLICIES, VERSION, exchange, managed, values
from tests.support.twins import aws_credential
from tests.support.waiting import LIMIT_S, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from credrotator.core.secret_document import SecretDocument
    from credrotator.kube.client.api import KubeApi
    from tests.support.kube.simulator import ApiServer

pytestmark = pytest.mark.timeout(90)

NAME = "kgateway-bedrock"
KEY = ObjectKey("default", NAME)
CLIENT_CREDENTIALS = "credrotator.io/client-credentials"


def asking(name: str = NAME, shape: str = "aws-keys", block: Any = None, form: str = AWS, **labels: str) -> Any:
    """A Secret that asks for itself, as its owner would create it."""
    notes = {form: json.dumps(block or exchange()), SHAPE: shape, "example.com/theirs": "kept"}
    metadata = {"name": name, "namespace": "default", "labels": {ASKS: "true", **labels}, "annotations": notes}
    return {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata}


def read(server: ApiServer, api: KubeApi, name: str = NAME) -> RotatablePolicy:
    """Read a Secret that asks for itself as a command does."""
    inventory, _ = read_cluster(api, Scope(VERSION), policy_reader(Defaults()))
    assert server.get("secrets", name)
    found = inventory.policies[asking_key(ObjectKey("default", name))]
    assert isinstance(found, RotatablePolicy)
    return found


def filled(policy: RotatablePolicy, tag: str = "A") -> SecretDocument:
    """What is published for it."""
    credential = aws_credential(tag=tag)
    return render(policy.secret, credential, policy.fingerprint, data=policy.data(credential), owner=policy.owner)


class TestWriting:
    """What is written, and over whose data never."""

    def test_the_owners_metadata_stays(self, server: ApiServer, api: KubeApi) -> None:
        """Labels are left alone, what it asks stays, and the Secret gets no owner: it is deleted by a person only."""
        server.create("secrets", asking(**{MANAGED_BY: "Helm"}))
        policy, store = read(server, api), ClusterStore(api)
        for tag in "AB":
            stored = store.read(KEY)
            assert stored is not None
            store.publish(filled(policy, tag), stored.version)
        metadata = (server.get("secrets", NAME) or {})["metadata"]
        assert metadata["labels"] == {ASKS: "true", MANAGED_BY: "Helm"}
        assert metadata.get("ownerReferences", []) == []
        notes = metadata["annotations"]
        assert (notes["example.com/theirs"], notes[SHAPE], notes[POLICY]) == ("kept", "aws-keys", f"secret:{NAME}")
        assert {CONTENT, FINGERPRINT} <= notes.keys()
        stored = store.read(KEY)
        assert stored is not None
        assert stored.is_of(policy.owner)
        # Read again with the annotations of ours beside its owner's, it still asks for the same.
        assert read(server, api) == policy

    def test_all_that_is_noted_on_a_secret_is_known(self, server: ApiServer, api: KubeApi) -> None:
        """An annotation that is written and is not among the records would be taken for a request of the owner's."""
        server.create("secrets", asking())
        written = {name for name in filled(read(server, api)).annotations if name.startswith("credrotator.io/")}
        assert written <= RECORDS

    def test_row_40_somebody_elses_data(self, server: ApiServer, api: KubeApi) -> None:
        """40: values that were put there since it was looked at, or the label taken off, stop the write."""
        server.create("secrets", asking())
        document, store = filled(read(server, api)), ClusterStore(api)
        server.patch("secrets", NAME, {"data": {"theirs": "eA=="}})
        stored = store.read(KEY)
        assert stored is not None
        with pytest.raises(Denied, match="did not write"):
            store.publish(document, stored.version)
        server.patch("secrets", NAME, {"data": {"theirs": None}, "metadata": {"labels": {ASKS: None}}})
        stored = store.read(KEY)
        assert stored is not None
        with pytest.raises(Denied, match="does not ask"):
            store.publish(document, stored.version)
        assert values(server, NAME) == {}

    def test_row_40_a_controlled_one(self, server: ApiServer, api: KubeApi) -> None:
        """40: what another controller makes is that controller's, whatever its labels say."""
        secret = asking()
        owner = {"apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "name": "x", "uid": "u"}
        secret["metadata"]["ownerReferences"] = [{**owner, "controller": True}]
        server.create("secrets", secret)
        stored = ClusterStore(api).read(KEY)
        assert stored is not None
        with pytest.raises(Denied, match="controlled by ExternalSecret x"):
            ClusterStore(api).publish(filled(read(server, api)), stored.version)

    def test_a_deleted_one_stays_deleted(self, server: ApiServer, api: KubeApi) -> None:
        """38: whoever deletes such a Secret takes the request back, so it is not made anew."""
        server.create("secrets", asking())
        document, store = filled(read(server, api)), ClusterStore(api)
        server.delete("secrets", NAME)
        with pytest.raises(Conflict, match="deleted"):
            store.publish(document, None)
        assert server.get("secrets", NAME) is None

    def test_renewal_is_asked_for_on_the_secret(self, server: ApiServer, api: KubeApi) -> None:
        """There is no policy to annotate."""
        server.create("secrets", asking())
        request_renewal(api, VERSION, asking_key(KEY), "now")
        assert read(server, api).renew_request == "now"

    def test_rights(self) -> None:
        """What the daemon needs for it is asked for by ``check`` already."""
        (verbs,) = [verbs for group, resource, verbs in IN_EACH_NAMESPACE if (group, resource) == ("", "secrets")]
        assert {"list", "watch", "get", "update"} <= set(verbs)


def test_without_the_right_to_list(server: ApiServer, api: KubeApi) -> None:
    """Commands go on with the policies, and say what is left out; a pass that went well still does."""
    server.create(POLICIES, managed())
    server.forbid("list", "secrets")
    inventory, problems = read_cluster(api, Scope(VERSION), policy_reader(Defaults()))
    assert ObjectKey("default", "bedrock") in inventory.policies
    assert "those that ask for themselves are left out" in "".join(inventory.notes)
    assert not any("Secrets" in problem for problem in problems)


class TestSource:
    """Who asks, as the daemon sees it."""

    @pytest.fixture
    def source(self, server: ApiServer, api: KubeApi) -> Iterator[ClusterSource]:
        source = ClusterSource(api, Scope(VERSION), policy_reader(Defaults()), lambda *_: None)
        self.reported: list[ObjectKey] = []
        source.start(self.reported.append)
        eventually(lambda: source.trouble() is None)
        yield source
        source.stop()

    def test_an_own_publication_is_no_news(self, server: ApiServer, api: KubeApi, source: ClusterSource) -> None:
        """What we wrote is known without a request, and brings about no attempt; an edit of the data does."""
        server.create("secrets", asking())
        eventually(lambda: self.reported == [asking_key(KEY)])
        policy = read(server, api)
        stored = ClusterStore(api).read(KEY)
        assert stored is not None
        ClusterStore(api).publish(filled(policy), stored.version)
        eventually(lambda: source.cached_state(policy) is not None)
        assert self.reported == [asking_key(KEY)]
        server.patch("secrets", NAME, {"data": {"accessKey": "eA=="}})
        eventually(lambda: len(self.reported) == 2)
        server.delete("secrets", NAME)
        eventually(lambda: source.get(asking_key(KEY)) is None)

    def test_row_64_one_secret_two_who_ask(self, server: ApiServer, source: ClusterSource) -> None:
        """64: a policy's Secret that is labelled is refused, with the field; the policy goes on."""
        server.create(POLICIES, managed())
        server.create("secrets", asking("bedrock-credentials"))
        key = asking_key(ObjectKey("default", "bedrock-credentials"))
        eventually(lambda: source.get(key) is not None and source.get(ObjectKey("default", "bedrock")) is not None)
        refused = source.get(key)
        assert isinstance(refused, InvalidPolicy)
        assert "metadata.labels: Secret default/bedrock-credentials is where" in str(refused.problems[0])
        assert isinstance(source.get(ObjectKey("default", "bedrock")), RotatablePolicy)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Start a sandbox once."""
    with Sandbox(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.mark.slow
def test_a_daemon_and_the_commands(server: ApiServer, sandbox: Sandbox, tmp_path: Path) -> None:
    """Filled, renewed when asked, repaired; Events and metrics; what is wrong is said on the Secret itself."""
    cluster = Cluster(server, sandbox, tmp_path)
    client = {
        "provider": {"issuer": cluster.issuer},
        "clientID": DEFAULT_CLIENT,
        "clientSecret": {"name": CLIENT},
    }
    token = {"awsRoleArn": DEFAULT_ROLE, "aud": "sts.amazonaws.com", "oidc": client}
    keys = asking(block={"region": "us-east-1", "oidcExchangeToken": token})
    server.create("secrets", keys)
    bearer = {"aud": "mcp", "oidc": client}
    server.create("secrets", asking("mcp", "api-key", bearer, CLIENT_CREDENTIALS))
    server.create("secrets", asking("wrong", "api-key", {"region": "us-east-1", "oidcExchangeToken": token}))
    server.create("secrets", {**asking("theirs"), "data": {"password": base64.b64encode(b"x").decode()}})
    with cluster.daemon("--no-leader-elect") as daemon:
        eventually(lambda: set(values(server, NAME) or {}) == {"accessKey", "secretKey", "sessionToken"}, LIMIT_S)
        eventually(lambda: (values(server, "mcp") or {}).get("apiKey", "").count(".") == 2)
        cluster.settled()
        expected = [("RotationFailed", "theirs"), ("RotationFailed", "wrong")]
        assert sorted(cluster.events()) == sorted([("Rotated", NAME), ("Rotated", "mcp"), *expected])
        subjects = {event["involvedObject"]["kind"] for event in server.items("events")}
        assert subjects == {"Secret"}
        assert values(server, "theirs") == {"password": "x"}
        assert daemon.metric("credential_ready_status", name=f"secret:{NAME}") == 1
        first = (values(server, NAME) or {})["accessKey"]

        # Once per request, and an edit by others is put right from memory.
        cluster.run("renew", f"default/{NAME}")
        eventually(lambda: (values(server, NAME) or {})["accessKey"] != first)
        assert RENEW in (server.get("secrets", NAME) or {})["metadata"]["annotations"]
        second = values(server, NAME)
        server.patch("secrets", NAME, {"data": {"accessKey": "eA=="}})
        eventually(lambda: values(server, NAME) == second)

        rows = {row["policy"]: row for row in json.loads(cluster.run("status", "-A", "-o", "json"))["policies"]}
        assert rows[f"default/secret:{NAME}"]["secret"] == f"default/{NAME}"
    results = json.loads(cluster.run("rotate", f"default/{NAME}", "--force", "-o", "json"))["results"]
    assert [(each["policy"], each["action"]) for each in results] == [(f"default/secret:{NAME}", "rotated")]
    assert "whoever names it watches it" in cluster.run("check", f"default/{NAME}")
