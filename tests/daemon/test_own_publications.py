"""What the daemon over a directory has published itself is no news to it, neither to its poll nor to ``status``."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from credrotator.app.directory_listener import RENDERED_BY_A_DAEMON, RENDERED_IN_A_PASS, DirectoryListener
from credrotator.app.rendering import NoTemplates
from credrotator.core.errors import Conflict
from credrotator.core.model import InvalidPolicy, ObjectKey, Problem
from credrotator.core.outcome import Failure, Outcome
from credrotator.files.directory import DirectoryStore
from credrotator.files.manifest_source import ManifestSource
from credrotator.files.published_states import WatchedStore
from credrotator.policies.reader import Defaults
from credrotator.providers import policy_reader
from tests.daemon.watching import HAND_EDITS, POLL, PUBLISHED, A, Watching
from tests.support.manifests import aws
from tests.support.twins import NOW, MemoryStore, StandingClock, document
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from credrotator.core.ports import SecretStore
    from credrotator.core.secret_document import SecretDocument

HOUR = timedelta(hours=1)


@pytest.fixture
def directory(tmp_path: Path) -> DirectoryStore:
    """A store on the disk, empty."""
    return DirectoryStore(tmp_path / "out", StandingClock(), durable=False)


def renew(store: SecretStore, value: str) -> None:
    """Publish over whatever is there."""
    present = store.read(PUBLISHED)
    store.publish(document(PUBLISHED, credentials=value), present.version if present else None)


class TestStates:
    """Which states are this process's own."""

    @pytest.mark.parametrize("make", [DirectoryStore, MemoryStore])
    def test_own_and_others(self, tmp_path: Path, make: type) -> None:
        """What it published is its own, until somebody else publishes; then again from its next publication."""
        inner = make(tmp_path / "out", StandingClock(), durable=False) if make is DirectoryStore else make()
        store = WatchedStore(inner)

        def is_own() -> bool:
            return store.is_own(PUBLISHED, store.states([PUBLISHED])[PUBLISHED])

        assert not is_own()
        renew(store, "ours")
        assert is_own()
        renew(inner, "theirs")
        assert not is_own()
        renew(store, "ours again")
        assert is_own()

    def test_during_a_write(self, directory: DirectoryStore) -> None:
        """A look that a write runs into tells nothing of that Secret: it may have seen half of it."""
        seen: list[object] = []

        class Slow(MemoryStore):
            def publish(self, document: SecretDocument, expected: str | None) -> None:
                seen.append(dict(store.states([PUBLISHED])))
                super().publish(document, expected)

        store = WatchedStore(Slow())
        renew(store, "x")
        assert seen == [{}]
        assert PUBLISHED in store.states([PUBLISHED])

    def test_a_refused_write(self) -> None:
        """It leaves nothing behind that would be taken for its own."""
        inner = MemoryStore()
        store = WatchedStore(inner)
        renew(inner, "theirs")
        with pytest.raises(Conflict):
            store.publish(document(PUBLISHED, credentials="x"), "another")
        assert not store.is_own(PUBLISHED, store.states([PUBLISHED])[PUBLISHED])

    def test_nothing_grows(self, directory: DirectoryStore) -> None:
        """Nothing is remembered of Secrets that nobody looks at any more."""
        store = WatchedStore(directory)
        renew(store, "x")
        store.states([])
        assert not store._latest
        assert not store._writing


@pytest.mark.parametrize("edit", HAND_EDITS)
def test_fault_38_edited_after_our_own_publication(
    tmp_path: Path, directory: DirectoryStore, edit: Callable[[Path], None]
) -> None:
    """The poll passes over the daemon's own publication, and still notices every edit by hand after it."""
    watching, store = Watching(tmp_path), WatchedStore(directory)
    renew(directory, "of yesterday")
    watching.source = ManifestSource([str(watching.directory)], policy_reader(Defaults()), store, POLL)
    watching.write("a.yaml", aws("a"))
    watching.start()
    try:
        renew(store, "x")
        own = dict(store.states([PUBLISHED]))
        eventually(lambda: watching.source._versions.get(A) == own[PUBLISHED])
        assert watching.told == [A]
        edit(directory.path(PUBLISHED))
        eventually(lambda: watching.told == [A, A])
    finally:
        watching.source.stop()


class TestLastOutcome:
    """What ``status`` shows as the last outcome of a daemon's attempts."""

    policy = InvalidPolicy(A, "a.yaml", (Problem("spec", "of no interest"),), "aws-oidc")
    rotated = Outcome(A, "aws-oidc", "rotated", "SpecChanged", PUBLISHED, NOW + HOUR, NOW + HOUR / 2)
    fresh = replace(rotated, action="kept", reason="Fresh")

    @pytest.fixture
    def heard(self, directory: DirectoryStore) -> Callable[[Outcome], str]:
        """Tell a daemon's listener of an outcome, and return what is on record then."""
        listener = DirectoryListener(directory, NoTemplates(), RENDERED_BY_A_DAEMON, looks=True)

        def hear(outcome: Outcome) -> str:
            listener(self.policy, outcome)
            last = directory.last_outcome(ObjectKey("default", "a"))
            assert last
            return f"{last['action']} {last['reason']}"

        return hear

    def test_fresh_after_a_rotation(self, heard: Callable[[Outcome], str]) -> None:
        """That what was rotated is fresh is no news: what was last done stays on record."""
        assert heard(self.rotated) == "rotated SpecChanged"
        assert heard(self.fresh) == "rotated SpecChanged"

    def test_fresh_after_a_failure(self, heard: Callable[[Outcome], str]) -> None:
        """That a policy is well again is news."""
        failure = Failure("transient", "IssuerUnreachable", "away", "wait")
        heard(self.rotated)
        assert heard(replace(self.rotated, action="failed", reason="RenewalDue", error=failure)) == "failed RenewalDue"
        assert heard(self.fresh) == "kept Fresh"

    def test_another_credential(self, heard: Callable[[Outcome], str]) -> None:
        """That somebody else has renewed it, that it was adopted, or that there is a warning now, is news."""
        heard(self.rotated)
        assert heard(replace(self.fresh, expires_at=NOW + 2 * HOUR)) == "kept Fresh"
        heard(self.rotated)
        assert heard(replace(self.fresh, reason="Adopted")) == "kept Adopted"
        heard(self.rotated)
        assert heard(replace(self.fresh, warnings=("odd",))) == "kept Fresh"

    def test_a_pass(self, directory: DirectoryStore) -> None:
        """A pass has an end of its own: it says how it ended, so that one can see that cron runs."""
        listener = DirectoryListener(directory, NoTemplates(), RENDERED_IN_A_PASS)
        for outcome in (self.rotated, self.fresh):
            listener(self.policy, outcome)
        assert (directory.last_outcome(A) or {})["action"] == "kept"
