"""Policies from the API server: what is a reason to look at one, and what is not."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from credrotator.core.model import InvalidPolicy, ObjectKey, Policy, SecretKeyRef, fingerprint
from credrotator.core.secret_document import Absent, Published
from credrotator.core.secretdata import ANNOTATED, CONTENT, EXPIRY, ISSUED, TRUE_EXPIRY, park, render, show_time
from credrotator.kube.client.informer import AFTER_S
from credrotator.kube.source import ClusterSource, Scope, observe
from credrotator.kube.store import LABELS, ClusterStore
from credrotator.policies.reader import Defaults
from credrotator.providers import policy_reader
from tests.support.builders import parse_as
from tests.support.kube.objects import GATEWAY
from tests.support.manifests import (
    BEDROCK,
    BEDROCK_SECRET,
    POLICIES,
    VERSION,
    aws,
    azure_secret,
    gcp,
    gcp_key,
    oidc,
    read,
    secret,
    speak,
    static,
)
from tests.support.served_schemas import ALPHA_SCHEMAS, openapi
from tests.support.twins import HOUR, NOW, aws_credential
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credrotator.core.secret_document import SecretDocument
    from credrotator.kube.client.api import KubeApi
    from tests.support.kube.simulator import ApiServer

OTHER, MARK = ObjectKey("default", "other"), ObjectKey("default", "mark")
BELL = {"metadata": {"name": "bedrock", "labels": {**LABELS, "credrotator.io/bell": "true"}}}

EDITS: dict[str, dict[str, Any]] = {
    "data": {"data": {"credentials": base64.b64encode(b"x").decode()}},
    "key": {"data": {"azureAccessToken": "eA=="}},
    "expiry": {"metadata": {"annotations": {EXPIRY: "soon"}}},
    "hash": {"metadata": {"annotations": {CONTENT: None}}},
    "later": {"metadata": {"annotations": {EXPIRY: show_time(NOW + 6 * HOUR)}}},
    "sooner": {"metadata": {"annotations": {EXPIRY: show_time(NOW - HOUR)}}},
    "ours": {"metadata": {"annotations": {ANNOTATED: show_time(NOW + 6 * HOUR)}}},
}


class Watching:
    """A source that runs, and what it reported."""

    def __init__(self, server: ApiServer, api: KubeApi, scope: Scope) -> None:
        self.server = server
        self.told: list[ObjectKey] = []
        self.heard: list[tuple[ObjectKey, str]] = []
        self.source = ClusterSource(api, scope, policy_reader(Defaults()), lambda key, at: self.heard.append((key, at)))
        self.source.start(self.told.append)
        eventually(lambda: self.source.trouble() is None)
        namespaces = max(1, len(set(scope.namespaces)))
        server.wait_for(3 * namespaces, "watch")

    def told_after(self, *, count: int = 1) -> list[ObjectKey]:
        """Wait for so many reports and for all that was before this moment; return what was reported, and forget it."""
        eventually(lambda: len(self.told) >= count)
        # Each of the two informers reports in order, so that a mark of each tells that all before it was seen.
        for number, mark in enumerate((self._mark_policy, self._mark_secret), 1):
            mark()
            eventually(lambda: self.told.count(MARK) == number)  # noqa: B023 - waited for right here
        found = [key for key in self.told if key != MARK]
        self.server.delete(POLICIES, MARK.name)
        self.server.delete("secrets", MARK.name)
        eventually(lambda: self.told.count(MARK) == 4)
        self.told.clear()
        return found

    def _mark_policy(self) -> None:
        self.server.create(POLICIES, aws(MARK.name))

    def _mark_secret(self) -> None:
        notes = {"credrotator.io/policy": MARK.name}
        self.server.create("secrets", {"metadata": {"name": MARK.name, "labels": LABELS, "annotations": notes}})


@pytest.fixture
def watching(server: ApiServer, api: KubeApi) -> Iterator[Watching]:
    """A source over all namespaces, with one policy that it has reported."""
    server.create(POLICIES, aws())
    found = Watching(server, api, Scope(VERSION))
    assert found.told == [BEDROCK]
    found.told.clear()
    yield found
    found.source.stop()


def credential(server: ApiServer, tag: str = "A") -> SecretDocument:
    """The policy's credential, as a rotation would publish it."""
    policy = read(server.get(POLICIES, "bedrock") or {})
    return render(BEDROCK_SECRET, aws_credential(tag=tag), fingerprint(policy.source), owner=policy.owner)


class TestPolicies:
    """Changes of policies."""

    def test_come_change_and_go(self, server: ApiServer, watching: Watching) -> None:
        """Each is reported once, and then stands as reported."""
        server.create(POLICIES, aws("other"))
        assert watching.told_after() == [OTHER]
        server.patch(POLICIES, "other", {"spec": aws(role="another")["spec"]})
        assert watching.told_after() == [OTHER]
        server.delete(POLICIES, "other")
        assert watching.told_after() == [OTHER]
        assert watching.source.get(OTHER) is None
        assert list(watching.source.policies()) == [BEDROCK]

    def test_a_status_is_no_change(self, server: ApiServer, watching: Watching) -> None:
        """Or each reconcile of the gateway would end a back-off; it is how the gateway answers, though."""
        speak(server, "bedrock", "2026-11-24T12:00:00Z")
        speak(server, "bedrock", "2026-11-24T12:00:01Z")
        assert watching.told_after(count=0) == []
        eventually(lambda: watching.heard[-1:] == [(MARK, "")])
        mine = [at for key, at in watching.heard if key == BEDROCK]
        assert mine == ["", "2026-11-24T12:00:00Z", "2026-11-24T12:00:01Z"]

    @pytest.mark.parametrize("field", ["labels", "annotations", "finalizers"])
    def test_metadata_of_others_is_no_change(self, server: ApiServer, watching: Watching, field: str) -> None:
        """What does not alter the wish is no reason to look."""
        server.patch(POLICIES, "bedrock", {"metadata": {field: ["a/b"] if field == "finalizers" else {"a": "b"}}})
        assert watching.told_after(count=0) == []

    def test_an_annotation_of_ours_is_a_change(self, server: ApiServer, watching: Watching) -> None:
        """It refines the exchange."""
        server.patch(POLICIES, "bedrock", {"metadata": {"annotations": {"credrotator.io/duration": "30m"}}})
        assert watching.told_after() == [BEDROCK]

    def test_broken_and_mended(self, server: ApiServer, watching: Watching) -> None:
        """A policy that cannot be read is there all the same, as what it is; others are not concerned."""
        server.patch(POLICIES, "bedrock", {"spec": {"awsCredentials": {"region": ""}}})
        assert watching.told_after() == [BEDROCK]
        assert isinstance(watching.source.get(BEDROCK), InvalidPolicy)
        server.patch(POLICIES, "bedrock", {"spec": {"awsCredentials": {"region": "us-east-1"}}})
        assert watching.told_after() == [BEDROCK]
        assert isinstance(watching.source.get(BEDROCK), Policy)

    def test_a_hostile_annotation(self, server: ApiServer, watching: Watching) -> None:
        """Brackets by the thousand are one policy's problem: the watch goes on, and nobody else notices."""
        server.patch(POLICIES, "bedrock", {"metadata": {"annotations": {"credrotator.io/aws-credentials": "[" * 9000}}})
        assert watching.told_after() == [BEDROCK]
        assert isinstance(watching.source.get(BEDROCK), InvalidPolicy)
        assert not watching.source.restarts()

    def test_made_again(self, server: ApiServer, watching: Watching) -> None:
        """Another object of the same name and content is another policy, also if the gap hid the deletion."""
        server.delete(POLICIES, "bedrock")
        server.create(POLICIES, aws())
        assert set(watching.told_after(count=2)) == {BEDROCK}
        fault = server.fail(500, "Busy", verb="list", times=1)
        server.end_watches("dropped")
        server.delete(POLICIES, "bedrock")
        server.create(POLICIES, aws())
        server.compact()
        eventually(lambda: BEDROCK in watching.told)
        server.heal(fault)

    def test_fault_66_another_version_is_served(self, server: ApiServer, watching: Watching) -> None:
        """Found by itself: not ready while it is deaf, then as before, with the version that is served now."""
        server.resources[POLICIES].versions = ["v1"]
        server.end_watches()
        eventually(lambda: watching.source.trouble() == "not served: policies")
        server.resources[POLICIES].versions = ["v1alpha1"]
        eventually(lambda: watching.source.trouble() is None)
        assert BEDROCK in watching.told
        policy = watching.source.get(BEDROCK)
        assert isinstance(policy, Policy)
        assert policy.api_version.endswith("/v1alpha1")
        server.create(POLICIES, aws("other"))
        eventually(lambda: OTHER in watching.told)

    def test_fault_32_the_gateway_is_upgraded_under_one_version(self, server: ApiServer, api: KubeApi) -> None:
        """v1alpha1 of v0.2 and of v0.4 are one version: a type that came between is good, and nothing is restarted."""
        for resource in server.resources.values():
            resource.versions = [version for version in resource.versions if version != "v1beta1"]
        document = f"{GATEWAY}/v1alpha1"
        server.schemas[document] = openapi(ALPHA_SCHEMAS["v0.2"])
        here = Watching(server, api, Scope("v1alpha1", schema=ALPHA_SCHEMAS["v0.2"]))
        server.schemas[document] = openapi(ALPHA_SCHEMAS["v0.4"])
        spec = {"type": "AnthropicAPIKey", "anthropicAPIKey": {"secretRef": {"name": "key"}}}
        server.create(POLICIES, aws("other") | {"spec": spec})
        eventually(lambda: OTHER in here.told)
        assert isinstance(here.source.get(OTHER), Policy)
        here.source.stop()

    def test_scope(self, server: ApiServer, api: KubeApi) -> None:
        """Namespaces that are named, each once, and a selector; a policy that leaves the scope is gone for us."""
        for namespace in ("a", "b", "c"):
            server.create(POLICIES, aws(namespace=namespace, labels={"team": "x"}))
        here = Watching(server, api, Scope(VERSION, ("a", "b", "a"), "team=x"))
        assert sorted(here.told) == [("a", "bedrock"), ("b", "bedrock")]
        here.told.clear()
        server.patch(POLICIES, "bedrock", {"metadata": {"labels": {"team": "y"}}}, "a")
        eventually(lambda: here.told == [("a", "bedrock")])
        assert here.source.get(ObjectKey("a", "bedrock")) is None
        server.patch(POLICIES, "bedrock", {"metadata": {"labels": {"team": "x"}}}, "a")
        eventually(lambda: here.told == [("a", "bedrock")] * 2)
        here.source.stop()
        asked = [request for request in server.requests if request.resource == POLICIES]
        assert {request.namespace for request in asked} == {"a", "b"}


class TestSecrets:
    """What others do to Secrets of ours."""

    def published(self, watching: Watching, api: KubeApi) -> ClusterStore:
        store = ClusterStore(api)
        store.publish(credential(watching.server), None)
        return store

    def test_our_own_writes(self, watching: Watching, api: KubeApi) -> None:
        """What comes back of a publication, a renewal, a parking, is no news: it would cost an exchange each."""
        store = self.published(watching, api)
        for tag in "BC":
            stored = store.read(BEDROCK_SECRET)
            assert stored
            store.publish(credential(watching.server, tag), stored.version)
        stored = store.read(BEDROCK_SECRET)
        assert stored
        owner = read(watching.server.get(POLICIES, "bedrock") or {}).owner
        store.publish(park(stored.document, BEDROCK_SECRET, owner, NOW + HOUR), stored.version)
        assert watching.told_after(count=0) == []

    def test_an_empty_parked_one(self, watching: Watching, api: KubeApi) -> None:
        """A policy that waits for its issuer is not looked at for being parked."""
        owner = read(watching.server.get(POLICIES, "bedrock") or {}).owner
        ClusterStore(api).publish(park(None, BEDROCK_SECRET, owner, NOW + HOUR), None)
        assert watching.told_after(count=0) == []

    @pytest.mark.parametrize("what", list(EDITS))
    def test_fault_38_edited(self, watching: Watching, api: KubeApi, what: str) -> None:
        """Whatever the gateway reads of it, or we know it by."""
        self.published(watching, api)
        watching.server.patch("secrets", BEDROCK_SECRET.name, EDITS[what])
        assert watching.told_after() == [BEDROCK]

    @pytest.mark.parametrize("what", list(EDITS))
    def test_edited_is_not_known(self, watching: Watching, api: KubeApi, what: str) -> None:
        """Only of what is as we wrote it can be told, without its data, what it holds."""
        store, policy = self.published(watching, api), read(watching.server.get(POLICIES, "bedrock") or {})
        stored = store.read(BEDROCK_SECRET)
        assert stored
        held = parse_as(stored.document, "aws-oidc")
        eventually(lambda: watching.source.cached_state(policy) == held)
        assert watching.source.cached_state(replace(policy, key=OTHER)) is None
        elsewhere = replace(policy, secret=OTHER)
        assert watching.source.cached_state(elsewhere) is None
        watching.server.patch("secrets", BEDROCK_SECRET.name, EDITS[what])
        eventually(lambda: watching.source.cached_state(policy) is None)

    def test_nobody_has_made_one(self, watching: Watching, api: KubeApi) -> None:
        """A policy is new while none of ours is there, and neither the gateway nor we have said anything of it."""
        policy = read(watching.server.get(POLICIES, "bedrock") or {})
        assert watching.source.heard_of(policy) is Absent.ABSENT
        assert watching.source.heard_of(replace(policy, key=OTHER)) is None
        speak(watching.server, "bedrock", show_time(NOW))
        eventually(lambda: watching.source.heard_of(policy) is None)
        watching.server.patch(POLICIES, "bedrock", {"status": {"conditions": []}}, subresource="status")
        eventually(lambda: watching.source.heard_of(policy) is Absent.ABSENT)
        self.published(watching, api)
        eventually(lambda: isinstance(watching.source.heard_of(policy), Published))
        watching.server.patch("secrets", BEDROCK_SECRET.name, EDITS["data"])
        eventually(lambda: watching.source.heard_of(policy) is None)

    @pytest.mark.parametrize("names", [(TRUE_EXPIRY,), (EXPIRY, ANNOTATED), (ISSUED,)], ids=str)
    def test_fault_37_another_life_of_the_same_data(
        self, watching: Watching, api: KubeApi, names: tuple[str, ...]
    ) -> None:
        """However whole it looks: a credential that was known lives for as long as it was said to."""
        self.published(watching, api)
        policy = read(watching.server.get(POLICIES, "bedrock") or {})
        eventually(lambda: watching.source.cached_state(policy) is not None)
        notes = dict.fromkeys(names, show_time(NOW + HOUR / 2))
        watching.server.patch("secrets", BEDROCK_SECRET.name, {"metadata": {"annotations": notes}})
        assert watching.told_after() == [BEDROCK]

    def test_fault_39_deleted(self, watching: Watching, api: KubeApi) -> None:
        """It is put back at once."""
        self.published(watching, api)
        watching.server.delete("secrets", BEDROCK_SECRET.name)
        assert watching.told_after() == [BEDROCK]

    def test_labels_of_others(self, watching: Watching, api: KubeApi) -> None:
        """They are nobody's business; the loss of ours is like a deletion."""
        self.published(watching, api)
        watching.server.patch("secrets", BEDROCK_SECRET.name, {"metadata": {"labels": {"a": "b"}}})
        assert watching.told_after(count=0) == []
        watching.server.patch("secrets", BEDROCK_SECRET.name, {"metadata": {"labels": {next(iter(LABELS)): None}}})
        assert watching.told_after() == [BEDROCK]

    def test_bells_and_strangers(self, watching: Watching) -> None:
        """Bells are ours and say nothing; Secrets of others are not even listed."""
        watching.server.create("secrets", BELL)
        watching.server.create("secrets", secret("unrelated", password="theirs"))
        assert watching.told_after(count=0) == []
        asked = [request for request in watching.server.requests if request.resource == "secrets"]
        selectors = {request.query.get("labelSelector") for request in asked if request.verb in {"list", "watch"}}
        assert selectors == {
            "app.kubernetes.io/managed-by=credrotator,!credrotator.io/bell",
            "credrotator.io/managed=true",
        }


class TestReferences:
    """Client Secrets are watched for as long as a policy refers to them."""

    def test_an_edit_ends_a_watch(self, server: ApiServer, watching: Watching) -> None:
        """A policy that names another client secret, or none, is told of the old one's changes no more."""
        for name in ("oidc-client", "another"):
            server.create("secrets", secret(name, client_secret="one"))
        reference = SecretKeyRef(ObjectKey("default", "oidc-client"), "client-secret", "x")
        watching.source.reader(BEDROCK)(reference)
        kept = watching.source._references
        assert set(kept._readers) == {reference.secret}
        server.patch(POLICIES, "bedrock", {"spec": aws(client=oidc(reference="another"))["spec"]})
        assert watching.told_after() == [BEDROCK]
        assert not kept._readers
        watching.source.sweep()
        assert set(kept._idle_since_s) == {reference.secret}

    @pytest.mark.parametrize(
        ("manifest", "name", "key"),
        [
            (azure_secret("other"), "entra", "client-secret"),
            (gcp("other"), "oidc-client", "client-secret"),
            (gcp_key("other"), "key", "service_account.json"),
            (static("other"), "key", "apiKey"),
        ],
    )
    def test_all_that_refer(
        self, server: ApiServer, watching: Watching, manifest: dict[str, Any], name: str, key: str
    ) -> None:
        """Of each kind of policy, the Secret is kept in sight while the policy is there."""
        server.create("secrets", {"metadata": {"name": name}, "data": {key: "eA=="}})
        server.create(POLICIES, manifest)
        assert watching.told_after() == [OTHER]
        watching.source.reader(OTHER)(SecretKeyRef(ObjectKey("default", name), key, "x"))
        server.patch(POLICIES, "other", {"metadata": {"annotations": {"a": "b"}}})
        assert watching.told_after(count=0) == []
        assert len(watching.source._references._readers) == 1
        server.delete(POLICIES, "other")
        assert watching.told_after() == [OTHER]
        assert not watching.source._references._readers


@pytest.mark.slow
def test_not_listed_yet(server: ApiServer, api: KubeApi) -> None:
    """Until everything was listed once, the source cannot be relied on, and says what it waits for.

    Policies are listed all the same: what their Secrets hold is read one by one then.
    """
    fault = server.fail(403, "Forbidden", verb="list", resource="secrets")
    source = ClusterSource(api, Scope(VERSION), policy_reader(Defaults()), lambda _key, _at: None)
    assert source.trouble() == "not listed yet: secrets, policies, asking"
    source.start(lambda _: None)
    eventually(lambda: source.trouble() == "not listed yet: secrets, asking" and source.restarts(), AFTER_S + 5)
    server.heal(fault)
    eventually(lambda: source.trouble() is None)
    assert source.restarts().keys() == {"Forbidden"}
    source.stop()


class TestObserving:
    """The gateway's controller writes the status of each policy again and again."""

    reader = policy_reader(Defaults())

    def seen(self, **metadata: Any) -> dict[str, Any]:
        """Return a policy as a server shows it."""
        manifest = aws()
        shown = {"uid": "1", "generation": 1, "resourceVersion": "7", **metadata}
        return {**manifest, "metadata": {**manifest["metadata"], **shown}}

    def test_a_status_is_read_without_the_policy(self) -> None:
        """Where only the status has changed, the policy is the very object that was read before."""
        before = observe(self.seen(), self.reader)
        word = {"type": "Accepted", "status": "True", "lastTransitionTime": "2026-11-27T10:00:00Z"}
        found = self.seen(resourceVersion="8", managedFields=[{}]) | {"status": {"conditions": [word]}}
        after = observe(found, self.reader, before)
        assert after.policy is before.policy
        assert (after.last_transition, after.version) == (word["lastTransitionTime"], "8")

    @pytest.mark.parametrize(
        "metadata", [{"generation": 2}, {"uid": "2"}, {"annotations": {"a": "b"}}, {"generation": None}]
    )
    def test_all_else_is_read_anew(self, metadata: dict[str, Any]) -> None:
        """Annotations do not count as a generation, and a policy of the same name is another one."""
        before = observe(self.seen(), self.reader)
        after = observe(self.seen(**metadata), self.reader, before)
        assert after.policy is not before.policy
        again = observe(self.seen(generation=None), self.reader, observe(self.seen(generation=None), self.reader))
        assert again.policy is not before.policy
