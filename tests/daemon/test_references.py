"""What policies refer to: grants, and client Secrets, each watched by its name and only while it is needed."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from credrotator.core.errors import PolicyError, RotationError
from credrotator.core.model import ObjectKey, SecretKeyRef
from credrotator.kube import references as module
from credrotator.kube.references import LINGER_S, ClusterReferences, WatchedReferences
from credrotator.policies.inventory import secret_reader
from tests.support.manifests import BEDROCK, grant, secret
from tests.support.waiting import LIMIT_S, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credrotator.kube.client.api import KubeApi
    from tests.support.kube.simulator import ApiServer

CLIENT = ObjectKey("default", "oidc-client")
FOREIGN = ObjectKey("vault", "oidc-client")
REF = SecretKeyRef(CLIENT, "client-secret", "spec.x.clientSecret")
OTHER_POLICY = ObjectKey("default", "other")


class Refers:
    """References, and which policies were told of a change."""

    def __init__(self, api: KubeApi) -> None:
        self.told: list[ObjectKey] = []
        self.gone: set[ObjectKey] = set()
        self.references = WatchedReferences(api, self.told.append, lambda policy, _secret: policy not in self.gone)

    def text(self, ref: SecretKeyRef = REF, policy: ObjectKey = BEDROCK) -> str:
        """Read a value for a policy."""
        return secret_reader(self.references.for_policy(policy), policy)(ref).reveal()

    def refused_at_the_end(self, number: int) -> None:
        """Read the value of a Secret that is not there."""
        ref = replace(REF, secret=ObjectKey("default", f"client-{number}"))
        assert self.refusal(ref) == "SecretNotFound"

    def refusal(self, ref: SecretKeyRef = REF) -> str:
        """Read a value that cannot be read; return why."""
        with pytest.raises(PolicyError) as refused:
            self.text(ref)
        return refused.value.reason


@pytest.fixture
def refers(api: KubeApi) -> Iterator[Refers]:
    """References over the simulated server."""
    found = Refers(api)
    yield found
    found.references.stop()


def listed(server: ApiServer) -> list[str]:
    """How Secrets were listed and watched: their selectors."""
    asked = [request for request in server.requests if request.resource == "secrets" and not request.name]
    return [request.query.get("fieldSelector", "") or request.query.get("labelSelector", "") for request in asked]


class TestWatches:
    """One Secret, one watch, by name."""

    def test_never_listed_without_a_selector(self, server: ApiServer, refers: Refers) -> None:
        """Not even the Secrets of one namespace: another's are none of our business."""
        server.create("secrets", secret("oidc-client", client_secret="one"))
        server.create("secrets", secret("unrelated", password="theirs"))
        assert refers.text() == "one"
        server.wait_for(1, "watch", "secrets")
        assert set(listed(server)) == {"metadata.name=oidc-client"}

    def test_one_watch_for_many_policies(self, server: ApiServer, refers: Refers) -> None:
        """A client that a thousand policies share is watched once, and read from memory."""
        server.create("secrets", secret("oidc-client", client_secret="one"))
        for number in range(20):
            assert refers.text(policy=ObjectKey("default", str(number))) == "one"
        assert len(server.seen("list", "secrets")) == 1

    def test_the_first_list_is_no_news(self, server: ApiServer, refers: Refers) -> None:
        """The policy that caused the watch is reading at this moment: to tell it would be a second look for nothing."""
        server.create("secrets", secret("oidc-client", client_secret="one"))
        refers.text()
        server.wait_for(1, "watch", "secrets")
        assert not refers.told

    def test_fault_42_a_replaced_client_secret(self, server: ApiServer, refers: Refers) -> None:
        """All policies that use it are looked at, and read the new one."""
        server.create("secrets", secret("oidc-client", client_secret="one"))
        for policy in (BEDROCK, OTHER_POLICY):
            refers.text(policy=policy)
        server.wait_for(1, "watch", "secrets")
        server.patch("secrets", "oidc-client", secret("oidc-client", client_secret="two"))
        eventually(lambda: sorted(refers.told) == [BEDROCK, OTHER_POLICY])
        assert refers.text() == "two"

    def test_fault_41_one_that_comes_late(self, server: ApiServer, refers: Refers) -> None:
        """A missing Secret is said to be missing, and its coming noticed at once; so is its going."""
        assert refers.refusal() == "SecretNotFound"
        server.wait_for(1, "watch", "secrets")
        server.create("secrets", secret("oidc-client", client_secret="one"))
        eventually(lambda: refers.told == [BEDROCK])
        assert refers.text() == "one"
        server.delete("secrets", "oidc-client")
        eventually(lambda: len(refers.told) == 2)
        assert refers.refusal() == "SecretNotFound"

    def test_other_changes_are_no_news(self, server: ApiServer, refers: Refers) -> None:
        """A label says nothing about the value."""
        server.create("secrets", secret("oidc-client", client_secret="one"))
        refers.text()
        server.wait_for(1, "watch", "secrets")
        server.patch("secrets", "oidc-client", {"metadata": {"labels": {"a": "b"}}})
        server.patch("secrets", "oidc-client", secret("oidc-client", client_secret="two"))
        eventually(lambda: refers.told == [BEDROCK])

    def test_fault_30_after_a_gap(self, server: ApiServer, refers: Refers) -> None:
        """What was replaced while no watch stood is found by the next list."""
        server.create("secrets", secret("oidc-client", client_secret="one"))
        refers.text()
        server.wait_for(1, "watch", "secrets")
        fault = server.fail(500, "Busy", verb="list")
        server.compact()
        server.end_watches()
        server.patch("secrets", "oidc-client", secret("oidc-client", client_secret="two"))
        server.compact()
        server.heal(fault)
        eventually(lambda: refers.told == [BEDROCK])
        assert refers.text() == "two"

    def test_it_cannot_be_watched(self, server: ApiServer, refers: Refers, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without the right to watch it is read; without that one either, the reason is the API server's."""
        monkeypatch.setattr(module, "SYNC_S", 0.1)
        server.create("secrets", secret("oidc-client", client_secret="one"))
        server.forbid("list", "secrets")
        assert refers.text() == "one"
        server.forbid("get", "secrets")
        with pytest.raises(RotationError) as refused:
            refers.text()
        assert refused.value.reason == "ApiServerForbidden"

    def test_many_secrets(self, server: ApiServer, refers: Refers, monkeypatch: pytest.MonkeyPatch) -> None:
        """Beyond a bound there are no more watches, and every value is read when it is needed."""
        monkeypatch.setattr(refers.references, "_most", 2)
        for number in range(4):
            server.create("secrets", secret(f"client-{number}", client_secret=str(number)))
            ref = SecretKeyRef(ObjectKey("default", f"client-{number}"), "client-secret", "x")
            assert refers.text(ref) == str(number)
        assert len(server.seen("list", "secrets")) == 2
        assert len(server.seen("get", "secrets")) == 2

    def test_without_watching(self, server: ApiServer, api: KubeApi) -> None:
        """A command that looks once watches nothing."""
        server.create("secrets", secret("oidc-client", client_secret="one"))
        once = ClusterReferences(api)
        assert secret_reader(once.for_policy(BEDROCK), BEDROCK)(REF).reveal() == "one"
        assert not listed(server)

    @pytest.mark.parametrize("data", [{}, {"client-secret": ""}, {"other": "x"}])
    def test_fault_41_a_missing_key(self, server: ApiServer, refers: Refers, data: dict[str, str]) -> None:
        """Said with the Secret's name and the key; a missing key is not a missing Secret."""
        server.create("secrets", secret("oidc-client", **data))
        assert refers.refusal() == "SecretKeyMissing"


class TestEnd:
    """Watches end, and nothing grows for ever."""

    def needed(self, server: ApiServer, refers: Refers) -> None:
        server.create("secrets", secret("oidc-client", client_secret="one"))
        refers.text()
        server.wait_for(1, "watch", "secrets")

    def test_a_watch_that_nobody_needs_ends(self, server: ApiServer, refers: Refers) -> None:
        """After a while, when the last policy that referred to the Secret is gone."""
        self.needed(server, refers)
        refers.references.keep(BEDROCK, ())
        refers.references.sweep(1000.0)
        refers.references.sweep(1000.0 + LINGER_S - 1)
        assert refers.references._watches
        refers.references.sweep(1000.0 + LINGER_S)
        assert not any(
            (refers.references._watches, refers.references._readers, refers.references._idle_since_s),
        )
        server.patch("secrets", "oidc-client", secret("oidc-client", client_secret="two"))
        assert not refers.told

    def test_one_that_is_needed_again_goes_on(self, server: ApiServer, refers: Refers) -> None:
        """A policy that was edited and put back starts no second watch."""
        self.needed(server, refers)
        refers.references.keep(BEDROCK, ())
        refers.references.sweep(1000.0)
        refers.text()
        refers.references.sweep(1000.0 + LINGER_S)
        refers.references.keep(BEDROCK, ())
        refers.references.sweep(2000.0)
        assert refers.references._watches
        assert len(server.seen("list", "secrets")) == 1

    def test_others_still_need_it(self, server: ApiServer, refers: Refers) -> None:
        """One policy's end is not the watch's, and it is not told any more."""
        self.needed(server, refers)
        refers.text(policy=OTHER_POLICY)
        refers.references.keep(BEDROCK, ())
        for now_s in (1000.0, 2000.0):
            refers.references.sweep(now_s)
        server.patch("secrets", "oidc-client", secret("oidc-client", client_secret="two"))
        eventually(lambda: refers.told == [OTHER_POLICY])

    def test_a_policy_that_came_and_went(self, server: ApiServer, refers: Refers) -> None:
        """One whose end came before its reading leaves no watch; what it read was read plainly."""
        server.create("secrets", secret("oidc-client", client_secret="one"))
        refers.references.keep(BEDROCK, ())
        refers.gone.add(BEDROCK)
        assert refers.text() == "one"
        assert not (refers.references._watches)
        assert not (refers.references._readers)

    def test_a_policy_that_goes_meanwhile(self, server: ApiServer, refers: Refers) -> None:
        """One that goes between the question and its being noted is no reader: the watch ends like any other."""
        server.create("secrets", secret("oidc-client", client_secret="one"))
        answers = iter([True, False])
        refers.references._refers = lambda _policy, _secret: next(answers)
        assert refers.text() == "one"
        assert not refers.references._readers
        refers.references.sweep(1000.0)
        refers.references.sweep(1000.0 + LINGER_S)
        assert not refers.references._watches

    def test_fault_70_many_watches_that_hang(self, server: ApiServer, refers: Refers) -> None:
        """However many there are, and whoever waits for them: they end together."""
        server.delay(math.inf, resource="secrets")
        readers = [
            threading.Thread(target=refers.refused_at_the_end, args=(number,), daemon=True) for number in range(40)
        ]
        for reader in readers:
            reader.start()
        eventually(lambda: len(refers.references._watches) == 40)
        began_s = time.monotonic()
        refers.references.stop()
        assert time.monotonic() - began_s < 10
        assert not refers.references._watches
        server.heal()
        for reader in readers:
            reader.join(LIMIT_S)
        assert not refers.references._watches

    def test_another_secret(self, server: ApiServer, refers: Refers) -> None:
        """A policy that refers to another Secret now keeps that one only."""
        self.needed(server, refers)
        refers.references.keep(BEDROCK, {CLIENT})
        assert refers.references._readers == {CLIENT: {BEDROCK}}
        refers.references.keep(BEDROCK, {FOREIGN})
        assert not refers.references._readers


class TestGrants:
    """Security 1: another namespace's Secret needs a grant there."""

    REF = SecretKeyRef(FOREIGN, "client-secret", "spec.x.clientSecret")

    def test_none(self, server: ApiServer, refers: Refers) -> None:
        """Without a grant the Secret is not even looked at."""
        server.create("secrets", secret("oidc-client", "vault", client_secret="theirs"))
        assert refers.refusal(self.REF) == "RefNotPermitted"
        assert not [request for request in server.requests if request.resource == "secrets"]

    @pytest.mark.parametrize("name", [None, "oidc-client"])
    def test_granted(self, server: ApiServer, refers: Refers, name: str | None) -> None:
        """For all Secrets of the namespace, or for this one."""
        server.create("secrets", secret("oidc-client", "vault", client_secret="theirs"))
        server.create("referencegrants", grant("allow", "default", "vault", name))
        assert refers.text(self.REF) == "theirs"

    @pytest.mark.parametrize(
        ("source", "namespace", "name"),
        [("other", "vault", None), ("default", "elsewhere", None), ("default", "vault", "another")],
    )
    def test_granted_to_others(
        self, server: ApiServer, refers: Refers, source: str, namespace: str, name: str | None
    ) -> None:
        """Another namespace's policies, another namespace's Secrets, another Secret: no grant."""
        server.create("secrets", secret("oidc-client", "vault", client_secret="theirs"))
        server.create("referencegrants", grant("allow", source, namespace, name))
        assert refers.refusal(self.REF) == "RefNotPermitted"

    def test_read_anew(self, server: ApiServer, refers: Refers, monkeypatch: pytest.MonkeyPatch) -> None:
        """Grants are kept for seconds only: given or taken away, they count soon; meanwhile they cost no request."""
        server.create("secrets", secret("oidc-client", "vault", client_secret="theirs"))
        for _ in range(3):
            refers.refusal(self.REF)
        assert len(server.seen("list", "referencegrants")) == 1
        monkeypatch.setattr(module, "GRANTS_LIFE_S", 0.0)
        server.create("referencegrants", grant("allow", "default", "vault"))
        assert refers.text(self.REF) == "theirs"
        server.delete("referencegrants", "allow", "vault")
        assert refers.refusal(self.REF) == "RefNotPermitted"

    def test_fault_66_a_grant_that_comes_late(self, server: ApiServer, refers: Refers) -> None:
        """Who was refused is told within seconds, and nobody asks any more."""
        server.create("secrets", secret("oidc-client", "vault", client_secret="theirs"))
        ref = replace(REF, secret=FOREIGN)
        assert not refers.references.awaits_grants()
        assert refers.refusal(ref) == "RefNotPermitted"
        assert refers.references.awaits_grants()
        assert not refers.references.awaits_grants(), "asked twice in a moment"
        refers.references.read_grants()
        assert not refers.told
        server.create("referencegrants", grant("one", "default", "vault"))
        refers.references.read_grants()
        assert refers.told == [BEDROCK]
        assert refers.text(ref) == "theirs"
        refers.references.read_grants()
        assert refers.told == [BEDROCK]
        assert not refers.references._refused

    def test_fault_66_who_needs_no_grant_any_more(self, server: ApiServer, refers: Refers) -> None:
        """A policy that is gone, or refers to another Secret, is forgotten; one that cannot be answered is not."""
        ref = replace(REF, secret=FOREIGN)
        assert refers.refusal(ref) == "RefNotPermitted"
        fault = server.fail(500, "Busy", resource="referencegrants")
        refers.references.read_grants()
        server.heal(fault)
        assert refers.references._refused
        refers.references.keep(BEDROCK, ())
        assert not refers.references._refused

    def test_no_gateway_api(self, server: ApiServer, refers: Refers) -> None:
        """Where there are no ReferenceGrants at all, nothing is granted."""
        del server.resources["referencegrants"]
        assert refers.refusal(self.REF) == "RefNotPermitted"

    def test_unreadable(self, server: ApiServer, refers: Refers) -> None:
        """What cannot be read grants nothing, and is not taken for a refusal: it may pass."""
        server.forbid("list", "referencegrants")
        with pytest.raises(RotationError) as refused:
            refers.text(self.REF)
        assert refused.value.reason == "ApiServerForbidden"
