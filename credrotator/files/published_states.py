"""What is published, looked at every few seconds to notice that somebody else has changed it.

Owns the cheap look: four times the status of a file for a Secret, and nothing is opened; and which states are this
process's own doing. A state says only whether it is another one than before; what it means is for whoever reads the
Secret then. Source: reliability.md 38, 39.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from typing import TYPE_CHECKING, Protocol

from credrotator.core.errors import RotationError
from credrotator.files.directory import DATA, DirectoryStore
from credrotator.files.last_good import file_state

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from credrotator.core.model import ObjectKey
    from credrotator.core.ports import SecretStore
    from credrotator.core.secret_document import SecretDocument, StoredSecret


class PublishedStates(Protocol):
    """Looks at published Secrets."""

    def states(self, keys: Iterable[ObjectKey]) -> Mapping[ObjectKey, object]:
        """Return the state of each, None where there is none, without those that cannot be looked at just now."""

    def is_own(self, key: ObjectKey, state: object) -> bool:
        """Tell whether a state is what this process has written itself, and nobody has touched since."""


class StoredVersions:
    """The states of any store: the versions of what is read."""

    def __init__(self, store: SecretStore) -> None:
        self._store = store

    def states(self, keys: Iterable[ObjectKey]) -> Mapping[ObjectKey, object]:
        """See ``PublishedStates``."""
        states: dict[ObjectKey, object] = {}
        for key in keys:
            try:
                stored = self._store.read(key)
            except RotationError:
                continue
            states[key] = stored.version if stored else None
        return states

    def is_own(self, _key: ObjectKey, _state: object) -> bool:
        """See ``PublishedStates``: nobody tells of writes here."""
        return False


class DirectoryStates:
    """The states of Secrets in a directory: which generation is there, and when links and files were last changed.

    The directory of a Secret changes when one of its links does, or is replaced by a file; a file in a generation when
    it is edited through its link.
    """

    def __init__(self, store: DirectoryStore) -> None:
        self._store = store
        self._files: dict[ObjectKey, tuple[str, str | None, tuple[str, ...]]] = {}

    def states(self, keys: Iterable[ObjectKey]) -> Mapping[ObjectKey, object]:
        """See ``PublishedStates``."""
        before, self._files = self._files, {}
        states: dict[ObjectKey, object] = {}
        for key in keys:
            try:
                path = before[key][0] if key in before else str(self._store.path(key))
            except RotationError:
                continue
            current = _target(f"{path}/{DATA}")
            known = before.get(key)
            files = known[2] if known and known[1] == current else _list(path, current)
            self._files[key] = path, current, files
            directory = file_state(path)
            # The directory's own times tell of links that were added or removed, which are no part of the generation.
            states[key] = None if directory is None else (current, directory, *map(file_state, files))
        return states

    def is_own(self, _key: ObjectKey, _state: object) -> bool:
        """See ``PublishedStates``: nobody tells of writes here."""
        return False


class WatchedStore:
    """A SecretStore that remembers the state in which each publication left its Secret; safe to share between threads.

    Without it a daemon would take its own publications for somebody else's, and attempt each policy twice.
    """

    def __init__(self, store: SecretStore) -> None:
        self._store = store
        self._looks = published_states(store)
        self._lock = threading.Lock()
        self._writing: Counter[ObjectKey] = Counter()
        self._writes = 0
        self._latest: dict[ObjectKey, tuple[int, object]] = {}

    def read(self, key: ObjectKey) -> StoredSecret | None:
        """See ``ports.SecretStore``."""
        return self._store.read(key)

    def publish(self, document: SecretDocument, expected: str | None) -> None:
        """See ``ports.SecretStore``."""
        key = document.key
        with self._lock:
            self._writing[key] += 1
        try:
            self._store.publish(document, expected)
            # NOTE: another object than the one that the poll uses: that one goes by the keys it was asked for last.
            after = published_states(self._store).states([key])
            with self._lock:
                self._writes += 1
                self._latest |= {each: (self._writes, state) for each, state in after.items()}
        finally:
            with self._lock:
                self._writing -= Counter((key,))  # without those that are at zero

    def states(self, keys: Iterable[ObjectKey]) -> Mapping[ObjectKey, object]:
        """See ``PublishedStates``; what was written meanwhile may be half seen, and is looked at the next time."""
        asked = list(keys)
        with self._lock:
            writes = self._writes
            self._latest = {key: self._latest[key] for key in asked if key in self._latest}
            writing = set(self._writing)
        states = self._looks.states(asked)
        with self._lock:
            in_doubt = writing | set(self._writing)
            in_doubt |= {key for key, (number, _) in self._latest.items() if number > writes}
        return {key: state for key, state in states.items() if key not in in_doubt}

    def is_own(self, key: ObjectKey, state: object) -> bool:
        """See ``PublishedStates``."""
        with self._lock:
            return key in self._latest and self._latest[key][1] == state


def published_states(store: SecretStore) -> PublishedStates:
    """Return the cheapest look at a store."""
    if isinstance(store, WatchedStore):
        return store
    return DirectoryStates(store) if isinstance(store, DirectoryStore) else StoredVersions(store)


def _target(link: str) -> str | None:
    try:
        return os.readlink(link)  # noqa: PTH115 - thousands of these, every few seconds
    except OSError:
        return None


def _list(path: str, generation: str | None) -> tuple[str, ...]:
    if generation is None:
        return ()
    try:
        return tuple(f"{path}/{generation}/{name}" for name in sorted(os.listdir(f"{path}/{generation}")))  # noqa: PTH208
    except OSError:
        return ()
