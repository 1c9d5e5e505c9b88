"""What is known of some objects, and what of it changed. No I/O.

Owns parsing, comparing and the call for each change. Written by one thread, read by all. Source: client-go's
``DeltaFIFO`` and ``store.go``, for the rule that a new list is compared with what is known.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

from credrotator.core.errors import printable
from credrotator.core.model import ObjectKey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from credrotator.kube.client.api_objects import Json, WatchEvent

log = logging.getLogger(__name__)

T = TypeVar("T")
Entry = tuple[str, T]
"""An object's resourceVersion, and what was made of it."""

MALFORMED = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
"""What ``parse`` may raise for an object that is not what it should be."""


class LiveCopy(Generic[T]):
    """The parsed objects by key.

    Args:
        name: For logs.
        parse: Makes the value that is kept; values are compared by ``==``.
        changed: Called by the writing thread after each change, with None for an object that is gone.
    """

    def __init__(self, name: str, parse: Callable[[Json], T], changed: Callable[[ObjectKey, T | None], None]) -> None:
        self._name, self._parse, self._changed = name, parse, changed
        self._lock = threading.Lock()
        # What was made of each object, not the object: ten thousand Secrets would be their data in memory twice, which
        # no core dump should have.
        self._known: dict[ObjectKey, Entry[T]] = {}
        # A change that is reported while the daemon ends would start an attempt that nobody finishes.
        self._silent = False

    def get(self, key: ObjectKey) -> T | None:
        """Return the value of one object, None if there is none."""
        with self._lock:
            entry = self._known.get(key)
        return entry[1] if entry else None

    def items(self) -> dict[ObjectKey, T]:
        """Return a copy of all that is known."""
        with self._lock:
            return {key: value for key, (_, value) in self._known.items()}

    def fall_silent(self) -> None:
        """Report no change from now on."""
        self._silent = True

    def distrust(self) -> None:
        """Parse all objects anew when they are read next, whatever their resourceVersion: they may look otherwise."""
        with self._lock:
            self._known = {key: ("", value) for key, (_, value) in self._known.items()}

    def read(self, item: Json, listed: dict[ObjectKey, Entry[T]]) -> None:
        """Parse an object into ``listed``; one that cannot be parsed keeps its last good value, if it has one."""
        key, version = key_of(item), str(item["metadata"]["resourceVersion"])
        known = self._known.get(key)
        # Most of a new list is as before; parsing it again would take seconds of CPU after each reconnection.
        if known and known[0] == version:
            listed[key] = known
            return
        try:
            listed[key] = (version, self._parse(item))
        except MALFORMED as error:
            log.warning("%s: %s cannot be read: %s", self._name, key, printable(f"{type(error).__name__}: {error}"))
            if known:
                listed[key] = (version, known[1])

    def replace(self, listed: Mapping[ObjectKey, Entry[T]]) -> None:
        """Take a complete list for the truth: what is not in it is gone."""
        # Deletions first: of two policies that lead to one Secret, the one that is gone must not keep out the one that
        # is there.
        for key in self._known.keys() - listed.keys():
            self._store(key, None)
        for key, entry in listed.items():
            self._store(key, entry)

    def apply(self, event: WatchEvent) -> str:
        """Take a watch's event for the truth; return the resourceVersion that it leads to."""
        item = event["object"]
        match event["type"]:
            case "ADDED" | "MODIFIED":
                listed: dict[ObjectKey, Entry[T]] = {}
                self.read(item, listed)
                for key, entry in listed.items():
                    self._store(key, entry)
            case "DELETED":
                self._store(key_of(item), None)
            case _:
                pass
        return str(item["metadata"]["resourceVersion"])

    def _store(self, key: ObjectKey, entry: Entry[T] | None) -> None:
        with self._lock:
            known = self._known.get(key)
            if entry:
                self._known[key] = entry
            else:
                self._known.pop(key, None)
        # By value, not by version: status writes, managed fields and labels move the version many times an hour, and
        # each would be an attempt.
        same = known[1] == entry[1] if known and entry else known is entry
        if not same and not self._silent:
            # Outside of the lock: the callback reads this copy again, and other locks.
            self._changed(key, entry[1] if entry else None)


def key_of(item: Json) -> ObjectKey:
    """Return namespace and name of an object."""
    return ObjectKey(str(item["metadata"].get("namespace", "")), str(item["metadata"]["name"]))
