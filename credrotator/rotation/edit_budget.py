"""How often edits of one policy may cost an exchange.

An edit is a reason to ask at once, and whoever writes it can edit without end: three times in a row is fine, then once
in six seconds, which makes twelve a minute at most. Retries and renewals are not counted: they have a pace of their
own, and somebody who corrects a policy does not wait for what failed before. What is counted outlives the policy for a
while, so that to delete it and make it anew is no way around. Source: reliability.md I14, 57.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from credrotator.core.clock import suspend_aware

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from credrotator.core.model import Credential, ObjectKey, Rotatable
    from credrotator.core.ports import Exchange, SecretReader

BURST = 3
EVERY_S = 6.0
MOST = 20_000
"""Policies that are remembered; the longest untouched is forgotten first."""


class EditBudget:
    """A token bucket for each policy; safe to share between threads.

    Args:
        seconds: Seconds that only grow.
    """

    def __init__(self, seconds: Callable[[], float] = suspend_aware) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        # When the bucket will be full again (the virtual time of the generic cell rate algorithm).
        self._full_s: OrderedDict[ObjectKey, float] = OrderedDict()
        self._edited: set[ObjectKey] = set()
        self._charged: set[ObjectKey] = set()

    def __len__(self) -> int:
        """Count the policies that are remembered."""
        return len(self._full_s)

    def edited(self, policy: ObjectKey) -> float:
        """Take note of an edit; return for how many seconds the attempt that follows has to wait, 0 for none."""
        with self._lock:
            # Noted, not yet charged: most edits (a label, a status) change nothing that an exchange depends on.
            self._edited.add(policy)
            now_s = self._seconds()
            # One number for each policy in place of a list of moments: each exchange moves it by one interval, and a
            # burst is allowed while it is less than so many intervals ahead.
            return max(0.0, self._full_s.get(policy, now_s) - now_s - (BURST - 1) * EVERY_S)

    @contextlib.contextmanager
    def attempt(self, policy: ObjectKey) -> Iterator[None]:
        """Let the first exchange in the block be charged, if the policy was edited since the last attempt."""
        with self._lock:
            self._shrink()
            # Moved from one set to the other at the start: an edit that comes during the attempt is charged to the next
            # one.
            if policy in self._edited:
                self._edited.discard(policy)
                self._charged.add(policy)
        try:
            yield
        finally:
            with self._lock:
                self._charged.discard(policy)

    def spend(self, policy: ObjectKey) -> None:
        """Count an exchange, if it is to be charged."""
        with self._lock:
            if policy not in self._charged:
                return
            self._charged.discard(policy)
            now_s = self._seconds()
            self._full_s[policy] = max(now_s, self._full_s.get(policy, now_s)) + EVERY_S
            self._full_s.move_to_end(policy)
            self._shrink()

    def _shrink(self) -> None:
        """Forget whose bucket is full again; whoever spent last comes last."""
        now_s = self._seconds()
        while self._full_s and (len(self._full_s) > MOST or next(iter(self._full_s.values())) <= now_s):
            self._full_s.popitem(last=False)

    def forget(self, policy: ObjectKey) -> None:
        """Take note that a policy is gone; what it has spent is remembered."""
        with self._lock:
            self._edited.discard(policy)


class ChargedExchange:
    """An Exchange that is charged to a budget."""

    def __init__(self, exchange: Exchange, budget: EditBudget) -> None:
        self._exchange = exchange
        self._budget = budget

    def __call__(
        self, policy: ObjectKey, source: Rotatable, secrets: SecretReader, *, ignore_retry_after: bool = False
    ) -> Credential:
        """See ``ports.Exchange``."""
        self._budget.spend(policy)
        return self._exchange(policy, source, secrets, ignore_retry_after=ignore_retry_after)

    def verify(
        self, policy: ObjectKey, source: Rotatable, credential: Credential, *, ignore_retry_after: bool = False
    ) -> None:
        """See ``ports.Exchange``; it belongs to an exchange that was charged."""
        self._exchange.verify(policy, source, credential, ignore_retry_after=ignore_retry_after)
