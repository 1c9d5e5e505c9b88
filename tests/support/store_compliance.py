"""The promises of the port ``SecretStore`` as tests that every store's own test class inherits."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from credrotator.core.errors import Conflict
from credrotator.core.model import ObjectKey
from tests.support.twins import SECRET, document

if TYPE_CHECKING:
    from credrotator.core.ports import SecretStore


class SecretStoreCompliance:
    """What every SecretStore promises (``ports.SecretStore``)."""

    @pytest.fixture
    def store(self) -> SecretStore:
        raise NotImplementedError

    def test_absent(self, store: SecretStore) -> None:
        """A Secret that nobody published is None, not an error."""
        assert store.read(SECRET) is None

    def test_round_trip(self, store: SecretStore) -> None:
        """What was published is read back, data and annotations, to the byte."""
        written = document(annotations=[("rotators/expiration-time", "2026-01-01T00:00:00Z")], a="x\r\n", b="ä\n\n")
        store.publish(written, None)
        stored = store.read(SECRET)
        assert stored is not None
        assert stored.document == written

    def test_whole(self, store: SecretStore) -> None:
        """A write replaces data and annotations as a whole: keys of a changed type do not stay."""
        store.publish(document(annotations=[("old", "1")], credentials="x"), None)
        store.publish(document(annotations=[("new", "2")], azureAccessToken="y"), self.version(store))
        stored = store.read(SECRET)
        assert stored is not None
        assert stored.document == document(annotations=[("new", "2")], azureAccessToken="y")

    def test_new_version(self, store: SecretStore) -> None:
        """Each write makes another version, even one of the same content."""
        seen = set()
        for _ in range(3):
            store.publish(document(a="same"), self.version(store))
            seen.add(self.version(store))
        assert len(seen) == 3

    @pytest.mark.parametrize("expected", [None, "no-such-version"])
    def test_conflict_if_there(self, store: SecretStore, expected: str | None) -> None:
        """A write that names another version than the stored one is a Conflict and changes nothing (I3)."""
        store.publish(document(a="first"), None)
        with pytest.raises(Conflict):
            store.publish(document(a="second"), expected)
        stored = store.read(SECRET)
        assert stored is not None
        assert stored.document == document(a="first")

    def test_conflict_if_absent(self, store: SecretStore) -> None:
        """A write that expects a version where there is none is a Conflict: somebody deleted the Secret."""
        with pytest.raises(Conflict):
            store.publish(document(a="x"), "some-version")
        assert store.read(SECRET) is None

    def test_strangers(self, store: SecretStore) -> None:
        """Secrets of other names and namespaces do not touch each other."""
        keys = [SECRET, ObjectKey(SECRET.namespace, "other"), ObjectKey("elsewhere", SECRET.name)]
        for key in keys:
            store.publish(document(key, value=str(key)), None)
        for key in keys:
            stored = store.read(key)
            assert stored is not None
            assert stored.document.data["value"].reveal() == str(key)

    def test_one_of_many_wins(self, store: SecretStore) -> None:
        """Of writers that name one version, one succeeds and all others meet a Conflict."""
        # Not what one of them writes: a server takes that for no write at all, and the version stays.
        store.publish(document(a="before"), None)
        version, results = self.version(store), []
        start = threading.Barrier(8)

        def write(number: int) -> None:
            start.wait()
            try:
                store.publish(document(a=str(number)), version)
                results.append("written")
            except Conflict:
                results.append("conflict")

        threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(results) == ["conflict"] * 7 + ["written"]

    @staticmethod
    def version(store: SecretStore) -> str | None:
        stored = store.read(SECRET)
        return stored.version if stored else None
