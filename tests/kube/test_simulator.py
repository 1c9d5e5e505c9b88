"""The simulated API server keeps to the rules that credrotator relies on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from credrotator.core.errors import Denied
from credrotator.core.model import ObjectKey
from credrotator.kube import paths
from credrotator.kube.client import resource_paths
from credrotator.kube.client.api import ApiError, KubeApi

if TYPE_CHECKING:
    from tests.support.kube.simulator import ApiServer

POLICIES = "backendsecuritypolicies"
KEY = ObjectKey("default", "one")
SECRET = {"metadata": {"name": "one"}, "data": {"key": "dmFsdWU="}}


def refusal(call: Any, *args: Any, **named: Any) -> tuple[int, str]:
    """Return status and reason of the error that a call ends with."""
    with pytest.raises(ApiError) as raised:
        call(*args, **named)
    return raised.value.status, raised.value.reason


class TestWrites:
    """Optimistic concurrency, and what the server adds of its own."""

    def test_each_change_has_a_new_version_and_none_has_none(self, api: KubeApi) -> None:
        """ResourceVersions grow over all objects; a write that changes nothing keeps the old one."""
        first = api.post(resource_paths.secrets("default"), SECRET)
        second = api.post(resource_paths.secrets("default"), {"metadata": {"name": "two"}})
        same = api.put(resource_paths.secret(KEY), first)
        changed = api.patch(resource_paths.secret(KEY), {"metadata": {"annotations": {"a": "b"}}})
        versions = [int(found["metadata"]["resourceVersion"]) for found in (first, same, second, changed)]
        assert versions[0] == versions[1] < versions[2] < versions[3]
        assert changed["metadata"]["uid"] == first["metadata"]["uid"] != second["metadata"]["uid"]

    def test_an_old_version_is_a_conflict(self, api: KubeApi) -> None:
        """PUT and merge patch alike, if they name one; without one the last writer wins."""
        old = api.post(resource_paths.secrets("default"), SECRET)
        api.patch(resource_paths.secret(KEY), {"data": {"key": "bmV3"}})
        assert refusal(api.put, resource_paths.secret(KEY), old) == (409, "Conflict")
        version = {"metadata": {"resourceVersion": old["metadata"]["resourceVersion"]}}
        assert refusal(api.patch, resource_paths.secret(KEY), version) == (409, "Conflict")
        assert refusal(api.delete, resource_paths.secret(KEY), {"preconditions": version["metadata"]}) == (
            409,
            "Conflict",
        )
        api.put(resource_paths.secret(KEY), {"metadata": {"name": "one"}, "data": {}})

    def test_creating_twice_and_changing_nothing_are_refused(self, api: KubeApi) -> None:
        """AlreadyExists, NotFound."""
        api.post(resource_paths.secrets("default"), SECRET)
        assert refusal(api.post, resource_paths.secrets("default"), SECRET) == (409, "AlreadyExists")
        missing = resource_paths.secret(ObjectKey("default", "two"))
        for call in (api.get, api.delete):
            assert refusal(call, missing) == (404, "NotFound")
        assert refusal(api.put, missing, {"metadata": {"name": "two"}}) == (404, "NotFound")

    def test_the_generation_follows_the_spec_only(self, server: ApiServer, api: KubeApi) -> None:
        """A status changes by its subresource only, and an object's generation by its spec only."""
        server.create(POLICIES, {"metadata": {"name": "one"}, "spec": {"a": 1}})
        path = paths.policy("v1beta1", KEY)
        generations = [
            api.patch(path, {"status": {"ignored": True}})["metadata"]["generation"],
            api.patch(f"{path}/status", {"spec": {"a": 5}, "status": {"b": 1}})["metadata"]["generation"],
            api.patch(path, {"metadata": {"labels": {"c": "d"}}})["metadata"]["generation"],
            api.patch(path, {"spec": {"a": 2}})["metadata"]["generation"],
        ]
        assert generations == [1, 1, 1, 2]
        found = api.get(path)
        assert (found["spec"], found["status"]) == ({"a": 2}, {"b": 1})

    def test_secrets_have_rules_of_their_own(self, api: KubeApi) -> None:
        """Immutable ones, types, and data that is no base64."""
        api.post(resource_paths.secrets("default"), {**SECRET, "immutable": True})
        assert refusal(api.patch, resource_paths.secret(KEY), {"data": {"key": "bmV3"}}) == (422, "Invalid")
        assert refusal(api.patch, resource_paths.secret(KEY), {"type": "other"}) == (422, "Invalid")
        assert refusal(api.post, resource_paths.secrets("a"), {"metadata": {"name": "x"}, "data": {"k": "?"}})[0] == 400

    def test_a_dry_run_says_what_would_be_and_does_nothing(self, server: ApiServer, api: KubeApi) -> None:
        """It is checked as the real thing."""
        api.post(resource_paths.secrets("default"), SECRET)
        changed = api.patch(resource_paths.secret(KEY), {"data": {"key": "bmV3"}}, dryRun="All")
        assert changed["data"] == {"key": "bmV3"}
        assert refusal(api.post, resource_paths.secrets("default"), SECRET, dryRun="All") == (409, "AlreadyExists")
        found = server.get("secrets", "one")
        assert found
        assert found["data"] == SECRET["data"]


class TestReads:
    """Lists, pages and selectors."""

    def test_pages_are_one_moment(self, server: ApiServer, api: KubeApi) -> None:
        """What changes between two pages is not in the second, but in a watch from the list's version."""
        for name in "abc":
            server.create("secrets", {"metadata": {"name": name}})
        first = api.get(resource_paths.secrets(), limit=2)
        server.delete("secrets", "c")
        rest = api.get(resource_paths.secrets(), limit=2, **{"continue": first["metadata"]["continue"]})
        assert [item["metadata"]["name"] for item in first["items"] + rest["items"]] == ["a", "b", "c"]
        with api.watch(resource_paths.secrets(), resourceVersion=rest["metadata"]["resourceVersion"]) as watch:
            assert next(watch)["type"] == "DELETED"

    @pytest.mark.parametrize(
        ("selector", "names"),
        [
            ("", "abc"),
            ("team=x", "a"),
            ("team!=x", "bc"),
            ("team", "ab"),
            ("!team", "c"),
            ("team in (x, y),new", "b"),
            ("team notin (x)", "bc"),
        ],
    )
    def test_labels_select(self, server: ApiServer, api: KubeApi, selector: str, names: str) -> None:
        """As kubectl's ``-l``."""
        for name, labels in [("a", {"team": "x"}), ("b", {"team": "y", "new": ""}), ("c", {})]:
            server.create("secrets", {"metadata": {"name": name, "labels": labels}})
        found = api.get(resource_paths.secrets(), labelSelector=selector)["items"]
        assert "".join(item["metadata"]["name"] for item in found) == names

    def test_a_watch_from_nowhere_begins_with_what_is_there(self, server: ApiServer, api: KubeApi) -> None:
        """Without a resourceVersion, everything is ADDED first."""
        server.create("secrets", SECRET)
        with api.watch(resource_paths.secrets("default")) as watch:
            assert next(watch)["object"]["metadata"]["name"] == "one"


class TestDiscovery:
    """Which version is spoken; row 32."""

    def test_fault_32_the_newer_version_is_preferred(self, server: ApiServer, api: KubeApi) -> None:
        """Gateways of v1.x serve both, v0.2 the old one only."""
        assert paths.served_version(api) == "v1beta1"
        for resource in server.resources.values():
            resource.versions = [version for version in resource.versions if version != "v1beta1"]
        assert paths.served_version(api) == "v1alpha1"
        assert paths.served_grant_version(api) == "v1"

    @pytest.mark.parametrize("versions", [[], ["v2"]])
    def test_fault_32_a_missing_definition_is_said(self, server: ApiServer, api: KubeApi, versions: list[str]) -> None:
        """Group absent, resource absent, or only a version that nobody here knows."""
        server.resources[POLICIES].versions = versions
        with pytest.raises(Denied, match=POLICIES) as raised:
            paths.served_version(api)
        assert raised.value.reason == "CrdMissing"
        for plural in [name for name, found in server.resources.items() if found.group == paths.GATEWAY_GROUP]:
            del server.resources[plural]
        with pytest.raises(Denied, match=POLICIES):
            paths.served_version(api)

    def test_fault_32_no_answer_is_not_no_definition(self, server: ApiServer, api: KubeApi) -> None:
        """A server that is down has not lost its definitions."""
        server.fail(503, "ServiceUnavailable")
        with pytest.raises(Exception, match="aigateway") as raised:
            paths.served_version(api)
        assert getattr(raised.value, "reason", "") == "ApiServerFailed"

    def test_clusters_without_the_gateway_api_have_no_grants(self, server: ApiServer, api: KubeApi) -> None:
        """Then nothing is granted."""
        del server.resources["referencegrants"]
        assert paths.served_grant_version(api) is None


class TestRights:
    """What is forbidden is refused, and told to who asks."""

    def test_a_right_that_is_missing(self, server: ApiServer, api: KubeApi) -> None:
        """By verb, resource and namespace."""
        server.forbid("create", "secrets", "default")
        server.forbid("patch", "backendsecuritypolicies/status")
        assert refusal(api.post, resource_paths.secrets("default"), SECRET) == (403, "Forbidden")
        api.post(resource_paths.secrets("other"), SECRET)
        server.create(POLICIES, {"metadata": {"name": "one"}, "spec": {}})
        api.patch(paths.policy("v1beta1", KEY), {"spec": {"a": 1}})
        assert refusal(api.patch, f"{paths.policy('v1beta1', KEY)}/status", {"status": {}}) == (403, "Forbidden")
        assert [self._allowed(api, namespace) for namespace in ("default", "other")] == [False, True]

    def _allowed(self, api: KubeApi, namespace: str) -> bool:
        attributes = {"namespace": namespace, "verb": "create", "group": "", "resource": "secrets"}
        review = {"kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}}
        allowed: bool = api.post(resource_paths.SELF_SUBJECT_ACCESS_REVIEWS, review)["status"]["allowed"]
        return allowed


def test_what_is_owned_goes_with_its_owner(server: ApiServer) -> None:
    """When the test says that the garbage collector came by."""
    owner = server.create(POLICIES, {"metadata": {"name": "owner"}, "spec": {}})
    reference = {"apiVersion": "v1", "kind": "X", "name": "owner", "uid": owner["metadata"]["uid"]}
    server.create("secrets", {"metadata": {"name": "owned", "ownerReferences": [reference]}})
    server.create("secrets", {"metadata": {"name": "free"}})
    assert server.collect_garbage() == 0
    server.delete(POLICIES, "owner")
    assert server.collect_garbage() == 1
    assert [item["metadata"]["name"] for item in server.items("secrets")] == ["free"]


def test_leases_take_times_with_microseconds_only(api: KubeApi) -> None:
    """The real server parses them strictly."""
    lease = {"metadata": {"name": "one"}, "spec": {"renewTime": "2026-11-24T12:00:00Z"}}
    assert refusal(api.post, resource_paths.leases("default"), lease)[0] == 400
