"""Has the policies that failed because the store was away try again within seconds of its return.

Owns who waits for the store, and whose attempt is the next trial. The trial is an attempt like any other, one at a
time; when anything is read or written, all that wait are named. Source: reliability.md I16, 61.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

from credrotator.core.attempts import current
from credrotator.core.clock import suspend_aware
from credrotator.core.errors import StoreAway

if TYPE_CHECKING:
    from collections.abc import Callable

    from credrotator.core.model import ObjectKey, SecretDocument, StoredSecret
    from credrotator.core.ports import SecretStore

TRIAL_EVERY_S = 2.0
TRIAL_TAKES_S = 3.0
"""For so long a trial is waited for; one that hangs must not keep the next one out for ever."""
BATCH, BATCH_EVERY_S = 50, 0.1
"""How many are named at a time once the store is back: workers take them in turn, and the server is not overrun."""

Given = TypeVar("Given")


class StoreRecovery:
    """A SecretStore that remembers for whom it was away; safe to share between threads.

    Args:
        store: The real one.
        seconds: Seconds that only grow.
        condition: Makes what ``awake`` waits on.
    """

    def __init__(
        self,
        store: SecretStore,
        seconds: Callable[[], float] = suspend_aware,
        condition: Callable[[], threading.Condition] = threading.Condition,
    ) -> None:
        self._store = store
        self._seconds = seconds
        self._changed = condition()
        self._waiting: dict[ObjectKey, None] = {}
        self._returned: list[ObjectKey] = []
        self._trying: ObjectKey | None = None
        self._next_s = 0.0

    def read(self, key: ObjectKey) -> StoredSecret | None:
        """See ``ports.SecretStore``."""
        return self._ask(lambda: self._store.read(key))

    def publish(self, document: SecretDocument, expected: str | None) -> None:
        """See ``ports.SecretStore``."""
        self._ask(lambda: self._store.publish(document, expected))

    def awake(self, timeout_s: float) -> list[ObjectKey]:
        """Return the policies that should try now; waits for some, and returns none after the timeout."""
        ends_s = self._seconds() + timeout_s
        with self._changed:
            while True:
                now_s = self._seconds()
                if policies := self._due(now_s):
                    return policies
                if now_s >= ends_s:
                    return []
                busy = self._waiting or self._returned
                self._changed.wait(max(0.01, (min(ends_s, self._next_s) if busy else ends_s) - now_s))

    def _due(self, now_s: float) -> list[ObjectKey]:
        if now_s < self._next_s:
            return []
        if self._returned:
            policies, self._returned = self._returned[:BATCH], self._returned[BATCH:]
            self._next_s = now_s + BATCH_EVERY_S
            return policies
        if not self._waiting:
            return []
        policy = next(iter(self._waiting))
        # To the end of the row: another one makes the next trial.
        self._waiting[policy] = self._waiting.pop(policy)
        self._next_s, self._trying = now_s + TRIAL_TAKES_S, policy
        return [policy]

    def _ask(self, ask: Callable[[], Given]) -> Given:
        try:
            given = ask()
        except StoreAway:
            self._note_away()
            raise
        except Exception:
            # Whatever else it says, it is there.
            self._note_return()
            raise
        self._note_return()
        return given

    def _note_away(self) -> None:
        attempt = current()
        if attempt is None:
            return
        with self._changed:
            is_first = not self._waiting
            self._waiting.setdefault(attempt.policy)
            if is_first or attempt.policy == self._trying:
                self._next_s, self._trying = self._seconds() + TRIAL_EVERY_S, None
            self._changed.notify_all()

    def _note_return(self) -> None:
        if not self._waiting:
            return
        with self._changed:
            self._returned += self._waiting
            self._waiting.clear()
            self._next_s = self._seconds()
            self._changed.notify_all()
