"""What is published, looked at every few seconds to notice that somebody else has changed it.

Owns the cheap look: four times the status of a file for a Secret, and nothing is opened. A state says only whether it
is another one than before; what it means is for whoever reads the Secret then. Source: reliability.md 38, 39.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from credrotator.core.errors import RotationError
from credrotator.files.directory import DATA, DirectoryStore
from credrotator.files.last_good import file_state

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from credrotator.core.model import ObjectKey
    from credrotator.core.ports import SecretStore


class PublishedStates(Protocol):
    """Looks at published Secrets."""

    def states(self, keys: Iterable[ObjectKey]) -> Mapping[ObjectKey, object]:
        """Return the state of each, None where there is none, without those that cannot be looked at just now."""


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
            states[key] = None if directory is None else (current, directory, *map(file_state, files))
        return states


def published_states(store: SecretStore) -> PublishedStates:
    """Return the cheapest look at a store."""
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
