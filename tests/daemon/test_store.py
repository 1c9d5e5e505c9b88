"""Secrets on the API server: the port's promises, whose a Secret is, and what a write leaves alone."""

from __future__ import annotations

import copy
import gc
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from credrotator.core.errors import Conflict, Denied, RotationError, Transient
from credrotator.core.model import ObjectKey, Owner
from credrotator.core.secretdata import CONTENT, EXPIRY, FINGERPRINT, ISSUED, TRUE_EXPIRY, render
from credrotator.kube.store import LABELS, MANAGED_BY, ClusterStore, manifest, owner_reference
from credrotator.kube.write_budget import WriteBudget
from credrotator.policies.schema import KIND
from credrotator.rotation.rotation import RotateOptions, Rotation
from tests.support.manifests import secret, values
from tests.support.store_compliance import SecretStoreCompliance
from tests.support.twins import (
    SECRET,
    ExchangeBy,
    StandingClock,
    aws_credential,
    aws_policy,
    document,
    no_secrets,
    with_annotation,
)

if TYPE_CHECKING:
    from credrotator.core.secret_document import SecretDocument
    from credrotator.kube.client.api import KubeApi
    from tests.support.kube.simulator import ApiServer

OWNER = Owner("aigateway.envoyproxy.io/v1beta1", "bedrock", "uid-1")
NAME = SECRET.name


@pytest.fixture
def store(api: KubeApi) -> ClusterStore:
    """A store over the simulated server."""
    return ClusterStore(api)


def credential(tag: str = "A") -> SecretDocument:
    """A credential, rendered for its policy."""
    return render(SECRET, aws_credential(tag=tag), "fingerprint", owner=OWNER)


def version(store: ClusterStore) -> str | None:
    """The version that the next write has to name."""
    stored = store.read(SECRET)
    return stored.version if stored else None


def refuse(*_: object, **__: object) -> NoReturn:
    """Be an exchange that fails."""
    raise Transient("IssuerTimeout", "no answer", hint="wait")


def versions_read() -> int:
    """Count the versions in memory that have with them what they are of."""
    gc.collect()
    return sum(isinstance(each, str) and hasattr(each, "secret") for each in gc.get_objects())


def metadata(server: ApiServer) -> dict[str, Any]:
    """The metadata of the Secret as it is."""
    found = server.get("secrets", NAME)
    assert found
    assert isinstance(found["metadata"], dict)
    return found["metadata"]


class TestClusterStore(SecretStoreCompliance):
    """What every SecretStore promises."""

    @pytest.fixture
    def store(self, api: KubeApi) -> ClusterStore:
        return ClusterStore(api)

    def test_whole(self, store: ClusterStore) -> None:  # type: ignore[override]
        """A write replaces data and our annotations as a whole; here a Secret may have others, which stay."""
        store.publish(document(annotations=[(FINGERPRINT, "1"), ("theirs", "kept")], credentials="x"), None)
        store.publish(document(annotations=[(ISSUED, "2")], azureAccessToken="y"), version(store))
        stored = store.read(SECRET)
        assert stored is not None
        expected = document(annotations=[(ISSUED, "2"), ("theirs", "kept")], azureAccessToken="y")
        assert stored.document == expected

    def test_new_version(self, store: ClusterStore) -> None:  # type: ignore[override]
        """Each write that changes something makes another version; the API server keeps that of an equal object."""
        seen = set()
        for text in ("one", "two", "two", "one"):
            store.publish(document(annotations=[(CONTENT, text)], a=text), version(store))
            seen.add(version(store))
        assert len(seen) == 3


class TestWhole:
    """What else a Secret of ours holds."""

    def test_a_new_secret(self, server: ApiServer, store: ClusterStore) -> None:
        """Labelled, owned by its policy, led back to it, opaque, in one write by our name."""
        store.publish(credential(), None)
        found = server.get("secrets", NAME)
        assert found
        assert found["type"] == "Opaque"
        assert found["metadata"]["labels"] == LABELS
        assert found["metadata"]["annotations"]["credrotator.io/policy"] == "bedrock"
        assert found["metadata"]["ownerReferences"] == [
            {
                "apiVersion": "aigateway.envoyproxy.io/v1beta1",
                "kind": "BackendSecurityPolicy",
                "name": "bedrock",
                "uid": "uid-1",
                "controller": True,
                "blockOwnerDeletion": False,
            }
        ]
        (write,) = [request for request in server.requests if request.method != "GET"]
        assert (write.verb, write.query) == ("create", {"fieldManager": "credrotator"})

    def test_what_others_keep_in_it(self, server: ApiServer, store: ClusterStore) -> None:
        """Labels, annotations, owners and finalizers of others stay; stale ones of ours go."""
        store.publish(with_annotation(credential(), TRUE_EXPIRY, "2026-01-01T00:00:00Z"), None)
        theirs = {
            "labels": {"team": "a"},
            "annotations": {"note": "theirs"},
            "finalizers": ["example/kept"],
            "ownerReferences": [
                *metadata(server)["ownerReferences"],
                {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "uid-2"},
            ],
        }
        server.patch("secrets", NAME, {"metadata": theirs})
        store.publish(credential("B"), version(store))
        found = metadata(server)
        assert found["labels"] == {"team": "a", **LABELS}
        assert found["annotations"]["note"] == "theirs"
        assert TRUE_EXPIRY not in found["annotations"]
        assert found["finalizers"] == ["example/kept"]
        assert sorted(reference["kind"] for reference in found["ownerReferences"]) == [
            "BackendSecurityPolicy",
            "ConfigMap",
        ]

    def test_one_owner_of_its_policy(self, server: ApiServer, store: ClusterStore) -> None:
        """A policy that was made again, or is served in another version, owns its Secret once, as it is now."""
        store.publish(credential(), None)
        again = Owner("aigateway.envoyproxy.io/v1alpha1", "bedrock", "uid-9")
        store.publish(render(SECRET, aws_credential(tag="B"), "fingerprint", owner=again), version(store))
        assert metadata(server)["ownerReferences"] == [owner_reference(again)]

    def test_data_is_replaced_as_a_whole(self, server: ApiServer, store: ClusterStore) -> None:
        """A key that a person added, or that an earlier type of the policy used, is gone (G15)."""
        store.publish(credential(), None)
        server.patch("secrets", NAME, {"data": {"azureAccessToken": "eA=="}})
        store.publish(credential("B"), version(store))
        assert list(values(server, NAME) or {}) == ["credentials"]

    def test_bytes_that_are_no_text(self, server: ApiServer, store: ClusterStore) -> None:
        """What somebody put there is read as it is, as far as it can be, and is no crash."""
        server.create("secrets", {"metadata": {"name": NAME}, "data": {"credentials": "//8="}})
        stored = store.read(SECRET)
        assert stored
        assert stored.document.data["credentials"].reveal() == "��"

    def test_the_manifest_is_a_copy(self) -> None:
        """What was read is not changed by what is written."""
        present = {
            "metadata": {"labels": {"a": "b"}, "annotations": {"x": "y"}, "ownerReferences": []},
            "type": "Opaque",
        }
        before = copy.deepcopy(present)
        manifest(credential(), present)
        assert present == before


class TestOwnership:
    """Fault 40 and G23: whose a Secret is."""

    def test_fault_40_a_foreign_secret_is_refused(self, server: ApiServer, store: ClusterStore) -> None:
        """A Secret of that name that nobody of ours made stays as it is."""
        server.create("secrets", secret(NAME, password="theirs"))
        with pytest.raises(Denied) as refused:
            store.publish(credential(), version(store))
        assert refused.value.reason == "SecretNotOurs"
        assert MANAGED_BY in refused.value.hint
        assert values(server, NAME) == {"password": "theirs"}

    def test_fault_40_one_that_appears_meanwhile(self, server: ApiServer, store: ClusterStore) -> None:
        """Between look and write: a Conflict, and the next look finds whose it is."""
        server.create("secrets", secret(NAME, password="theirs"))
        with pytest.raises(Conflict):
            store.publish(credential(), None)
        assert values(server, NAME) == {"password": "theirs"}

    @pytest.mark.parametrize("note", [EXPIRY, FINGERPRINT, CONTENT])
    def test_the_gateways_own_is_adopted(self, server: ApiServer, store: ClusterStore, note: str) -> None:
        """The gateway's expiry annotation, or one of ours, says that it was made for a policy."""
        theirs = secret(NAME, credentials="old")
        theirs["metadata"]["annotations"] = {note: "2026-01-01T00:00:00Z"}
        server.create("secrets", theirs)
        store.publish(credential(), version(store))
        assert "ASIAA" in (values(server, NAME) or {})["credentials"]

    def test_the_operators_word(self, server: ApiServer, store: ClusterStore) -> None:
        """A label is how a person hands a Secret over."""
        theirs = secret(NAME, password="theirs")
        theirs["metadata"]["labels"] = LABELS
        server.create("secrets", theirs)
        store.publish(credential(), version(store))
        assert list(values(server, NAME) or {}) == ["credentials"]

    @pytest.mark.parametrize(
        ("kind", "name"), [("Deployment", "bedrock"), ("BackendSecurityPolicy", "another"), ("SealedSecret", NAME)]
    )
    def test_g23_a_foreign_controller_is_refused(
        self, server: ApiServer, store: ClusterStore, kind: str, name: str
    ) -> None:
        """Two controllers on one object would fight, and the gateway's panics: refused, and named (fault 45)."""
        theirs = secret(NAME, credentials="old")
        reference = {"apiVersion": "x/v1", "kind": kind, "name": name, "uid": "uid-7", "controller": True}
        theirs["metadata"] |= {"labels": LABELS, "ownerReferences": [reference]}
        server.create("secrets", theirs)
        with pytest.raises(Denied) as refused:
            store.publish(credential(), version(store))
        assert refused.value.reason == "ForeignOwner"
        assert f"{kind} {name}" in refused.value.message
        assert values(server, NAME) == {"credentials": "old"}

    @pytest.mark.parametrize("kind", ["kubernetes.io/tls", "kubernetes.io/dockerconfigjson", "example/other"])
    def test_another_type_is_foreign(self, server: ApiServer, store: ClusterStore, kind: str) -> None:
        """Security 13: credentials lie in opaque Secrets, so one of another type is somebody's, whatever its label."""
        theirs = secret(NAME, credentials="theirs")
        theirs["metadata"] |= {"labels": LABELS, "annotations": {EXPIRY: "2026-01-01T00:00:00Z"}}
        server.create("secrets", {**theirs, "type": kind})
        with pytest.raises(Denied, match=kind) as refused:
            store.publish(credential(), version(store))
        assert refused.value.reason == "SecretNotOurs"
        with pytest.raises(Denied, match=kind):
            store.rehearse(credential())
        assert values(server, NAME) == {"credentials": "theirs"}

    @pytest.mark.parametrize(
        ("group", "uid", "ours", "policy", "taken"),
        [
            ("aigateway.envoyproxy.io/v1alpha1", "uid-1", False, None, True),
            ("aigateway.envoyproxy.io/v1beta1", "uid-dead", True, "bedrock", True),
            ("aigateway.envoyproxy.io/v1beta1", "uid-dead", False, "bedrock", False),
            ("aigateway.envoyproxy.io/v1beta1", "uid-dead", True, "another", False),
            ("aigateway.envoyproxy.io/v1beta1", "uid-dead", True, None, False),
            ("example.com/v1beta1", "uid-1", True, "bedrock", False),
            ("v1", "uid-1", True, "bedrock", False),
        ],
    )
    def test_whose_policy_it_is(
        self,
        server: ApiServer,
        store: ClusterStore,
        *,
        group: str,
        uid: str,
        ours: bool,
        policy: str | None,
        taken: bool,
    ) -> None:
        """Security 13: another API's kind is foreign; another UID is the same policy, made anew."""
        theirs = secret(NAME, credentials="old")
        reference = {"apiVersion": group, "kind": KIND, "name": "bedrock", "uid": uid, "controller": True}
        notes = {EXPIRY: "2026-01-01T00:00:00Z", **({"credrotator.io/policy": policy} if policy else {})}
        theirs["metadata"] |= {"ownerReferences": [reference], "annotations": notes}
        theirs["metadata"]["labels"] = LABELS if ours else {}
        server.create("secrets", theirs)
        if taken:
            store.publish(credential(), version(store))
            assert metadata(server)["ownerReferences"] == [owner_reference(OWNER)]
            return
        with pytest.raises(Denied, match=uid if group.startswith("aigateway") else group) as refused:
            store.publish(credential(), version(store))
        assert refused.value.reason == "ForeignOwner"
        assert values(server, NAME) == {"credentials": "old"}


class TestFaults:
    """What the API server does to a write."""

    def test_fault_26_changed_meanwhile(self, server: ApiServer, store: ClusterStore) -> None:
        """A version that is not the present one is a Conflict, found before or by the write; never overwritten."""
        store.publish(credential(), None)
        seen = version(store)
        server.patch("secrets", NAME, {"metadata": {"annotations": {"note": "x"}}})
        with pytest.raises(Conflict):
            store.publish(credential("B"), seen)
        server.fail(409, "Conflict", verb="update", times=1)
        with pytest.raises(Conflict):
            store.publish(credential("B"), version(store))
        assert "ASIAA" in (values(server, NAME) or {})["credentials"]

    def test_deleted_meanwhile(self, server: ApiServer, store: ClusterStore) -> None:
        """A Secret that is gone by then is not made anew by a write that meant to replace it."""
        store.publish(credential(), None)
        seen = version(store)
        server.delete("secrets", NAME)
        with pytest.raises(Conflict):
            store.publish(credential("B"), seen)
        assert values(server, NAME) is None

    @pytest.mark.parametrize(
        ("status", "message", "reason"),
        [
            (403, "secrets is forbidden", "ApiServerForbidden"),
            (403, "exceeded quota: compute", "QuotaExceeded"),
            (422, "field is immutable", "ApiServerInvalid"),
        ],
    )
    def test_fault_27_refused(
        self, server: ApiServer, store: ClusterStore, status: int, message: str, reason: str
    ) -> None:
        """Somebody has to grant or change something: slow, loud, with a reason."""
        server.fail(status, "Refused", message, verb="create")
        with pytest.raises(Denied) as refused:
            store.publish(credential(), None)
        assert refused.value.reason == reason

    def test_fault_27_immutable(self, server: ApiServer, store: ClusterStore) -> None:
        """A Secret that somebody made immutable is no crash, and stays."""
        store.publish(credential(), None)
        server.patch("secrets", NAME, {"immutable": True})
        with pytest.raises(Denied) as refused:
            store.publish(credential("B"), version(store))
        assert refused.value.reason == "ApiServerInvalid"

    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_fault_28_refused_for_now(self, server: ApiServer, store: ClusterStore, status: int) -> None:
        """It passes; what was not written is said to be not written."""
        server.fail(status, "Busy", verb="create", times=1)
        with pytest.raises(Transient):
            store.publish(credential(), None)
        store.publish(credential(), None)

    @pytest.mark.parametrize("first", [True, False], ids=["create", "replace"])
    def test_fault_28_written_but_not_answered(self, server: ApiServer, store: ClusterStore, first: bool) -> None:  # noqa: FBT001
        """The connection dropped after the write: read back, compared, and found to be done."""
        if not first:
            store.publish(credential(), None)
        expected = version(store)
        server.drop("after", verb="create" if first else "update", times=1)
        store.publish(credential("B"), expected)
        assert "ASIAB" in (values(server, NAME) or {})["credentials"]

    @pytest.mark.parametrize("first", [True, False], ids=["create", "replace"])
    def test_fault_28_not_written_and_not_answered(self, server: ApiServer, store: ClusterStore, first: bool) -> None:  # noqa: FBT001
        """The connection dropped before: read back, compared, and found to be not done."""
        if not first:
            store.publish(credential(), None)
        expected = version(store)
        server.drop("before", verb="create" if first else "update", times=1)
        with pytest.raises(Transient):
            store.publish(credential("B"), expected)

    def test_fault_28_nobody_to_ask(self, server: ApiServer, store: ClusterStore) -> None:
        """An outcome that cannot be found out is a failure; the next look finds out."""
        server.drop("after", verb="create", times=1)
        server.fail(500, "Busy", verb="get", times=1)
        with pytest.raises(Transient):
            store.publish(credential(), None)
        assert version(store) is not None

    def test_somebody_else_wrote_it(self, server: ApiServer, store: ClusterStore) -> None:
        """What is there after an unknown outcome counts only if it is to the byte what was to be written."""
        store.publish(credential(), None)
        server.drop("before", verb="update", times=1)
        with pytest.raises(Transient):
            store.publish(with_annotation(credential(), ISSUED, "2026-11-24T13:00:00Z"), version(store))

    @pytest.mark.parametrize("status", [401, 403, 500])
    def test_unreadable(self, server: ApiServer, store: ClusterStore, status: int) -> None:
        """A Secret that cannot be read is not an absent one."""
        server.fail(status, "Refused", verb="get")
        with pytest.raises(RotationError):
            store.read(SECRET)


class TestWriteWars:
    """I18, row 62: another writer puts its own back each time."""

    def test_fault_62_writes_are_damped_and_the_other_is_named(self, api: KubeApi, server: ApiServer) -> None:
        """Five writes at once, then ten a minute, however often the other one writes."""
        now_s = [0.0]
        store = ClusterStore(api, WriteBudget(lambda: now_s[0]))
        store.publish(credential(), None)
        written, refusals, waits = [0.0], set(), list[timedelta]()
        for _ in range(600):
            now_s[0] += 0.1
            fields = [
                {"manager": "credrotator", "operation": "Update", "time": "2026-11-24T12:00:02Z"},
                {"manager": "argocd-controller", "operation": "Update", "time": "2026-11-24T12:00:01Z"},
                {"manager": "kubectl-create", "operation": "Update", "time": "2026-11-24T11:00:00Z"},
            ]
            server.patch("secrets", NAME, {"metadata": {"managedFields": fields}, "data": {"credentials": "b2xk"}})
            try:
                store.publish(credential(), version(store))
            except Transient as refusal:
                refusals.add((refusal.reason, refusal.message.partition(" is changed by ")[2].split()[0]))
                waits.append(refusal.retry_after or timedelta(0))
            else:
                written.append(now_s[0])
        assert timedelta(0) < min(waits) <= max(waits) <= timedelta(seconds=6)
        assert refusals == {("ContestedWrite", "argocd-controller")}
        assert len([at for at in written if at < 1]) == 5
        assert len([at for at in written if at >= 1]) <= 10

    def test_invariant_18_each_object_has_its_own(self) -> None:
        """A war over one Secret delays no other one."""
        budget = WriteBudget(lambda: 0.0)
        for _ in range(5):
            budget.check(SECRET, None, "credrotator")
            budget.note(SECRET)
        with pytest.raises(Transient, match="by somebody else"):
            budget.check(SECRET, None, "credrotator")
        budget.check(ObjectKey("other", "secret"), None, "credrotator")

    def test_invariant_14_old_writes_are_forgotten(self) -> None:
        """What may be written as often as ever is not kept."""
        now_s = [0.0]
        budget = WriteBudget(lambda: now_s[0])
        for number in range(1000):
            budget.note(ObjectKey("default", str(number)))
            now_s[0] += 1
        assert len(budget._full_s) <= 10


class TestReadOnce:
    """What was read for the decision is what a write replaces; by its version, the server tells whether it still is."""

    def test_a_renewal_reads_once(self, server: ApiServer, store: ClusterStore) -> None:
        """The read that it is decided on is the only one."""
        store.publish(credential(), None)
        expected = version(store)
        before = len(server.requests)
        store.publish(credential("B"), expected)
        assert [request.verb for request in server.requests[before:]] == ["update"]

    def test_each_write_is_of_its_own_reading(self, server: ApiServer, store: ClusterStore, api: KubeApi) -> None:
        """A version goes with what it is of: to any store, once; whoever has it as a text reads what there is."""
        store.publish(credential(), None)
        expected = version(store)
        store.publish(credential("B"), expected)
        with pytest.raises(Conflict):
            store.publish(credential("C"), expected)
        before = len(server.requests)
        ClusterStore(api).publish(credential("C"), version(store))
        store.publish(credential("D"), str(version(store)))
        assert [request.verb for request in server.requests[before:]] == ["get", "update", "get", "get", "update"]

    def test_a_version_of_another_secret(self, server: ApiServer, store: ClusterStore) -> None:
        """What was read of one Secret is not written to another."""
        store.publish(credential(), None)
        other = ObjectKey(SECRET.namespace, "other")
        server.create("secrets", secret(other.name, a="x"))
        stored = store.read(other)
        assert stored is not None
        with pytest.raises(Conflict):
            store.publish(credential("B"), stored.version)

    def test_what_changed_between_reading_and_writing(self, server: ApiServer, store: ClusterStore) -> None:
        """It is not put back: the write is refused, and the next reading has it."""
        store.publish(credential(), None)
        expected = version(store)
        server.patch("secrets", NAME, {"metadata": {"annotations": {"note": "theirs"}}})
        with pytest.raises(Conflict):
            store.publish(credential("B"), expected)
        store.publish(credential("B"), version(store))
        assert metadata(server)["annotations"]["note"] == "theirs"

    def test_invariant_14_nothing_is_kept(self, server: ApiServer, store: ClusterStore) -> None:
        """What was read goes with the attempt, also where that failed: it may be a megabyte of anybody's."""
        server.create("secrets", secret(SECRET.name, a="x"))
        rotation = Rotation(store, ExchangeBy(refuse), StandingClock())
        assert rotation(aws_policy(), no_secrets, RotateOptions()).action == "failed"
        assert versions_read() == 0
        kept = version(store)
        assert (kept, versions_read()) == (kept, 1)
