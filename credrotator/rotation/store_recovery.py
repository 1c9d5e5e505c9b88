"""Has the policies that failed because the store was away try again within seconds of its return.

Owns who waits for the store, and whose attempt is the next trial. The trial is an attempt like any other, one at a
time; when anything is read or written, all that wait for that are named. Source: reliability.md I16, 61.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from credrotator.core.attempts import current
from credrotator.core.clock import suspend_aware
from credrotator.core.errors import StoreAway, StoreClosed

if TYPE_CHECKING:
    from collections.abc import Callable

    from credrotator.core.model import ObjectKey
    from credrotator.core.ports import SecretStore
    from credrotator.core.secret_document import SecretDocument, StoredSecret

TRIAL_EVERY_S = 2.0
TRIAL_TAKES_S = 3.0
"""For so long a trial is waited for; one that hangs must not keep the next one out for ever."""
BATCH, BATCH_EVERY_S = 50, 0.1
"""How many are named at a time once the store is back: workers take them in turn, and the server is not overrun."""
FIRST_HOLD_S, LONGEST_HOLD_S = 15.0, 240.0
"""How long a policy is passed over that fails again though others got through: its trouble is its own."""

Given = TypeVar("Given")
Use = Literal["read", "write"]


@dataclass(frozen=True, slots=True)
class _Failure:
    """The latest failure of a policy.

    Attributes:
        use: What was not possible.
        at_s: When.
        successes: How often that had been possible, for anybody, until then.
        hold_s: For how long the policy is passed over.
    """

    use: Use
    at_s: float
    successes: int
    hold_s: float


class StoreRecovery:
    """A SecretStore that remembers for whom it was away; safe to share between threads.

    Args:
        store: The real one.
        seconds: Seconds that only grow.
        condition: Makes what ``awake`` waits on.
        trial_every_s: Between the trials.
    """

    def __init__(
        self,
        store: SecretStore,
        seconds: Callable[[], float] = suspend_aware,
        condition: Callable[[], threading.Condition] = threading.Condition,
        *,
        trial_every_s: float = TRIAL_EVERY_S,
    ) -> None:
        self._store = store
        self._seconds = seconds
        self._changed = condition()
        self._trial_every_s = trial_every_s
        # In order: whoever made a trial goes to the end, so that one policy's own trouble does not stand for the
        # store's.
        self._waiting: dict[ObjectKey, None] = {}
        self._returned: list[ObjectKey] = []
        self._latest: dict[ObjectKey, _Failure] = {}
        # How often the store was usable since the start. A policy that fails again although this has grown has a
        # trouble of its own: waking it with the others would have it try all the time.
        self._successes: Counter[Use] = Counter()
        self._trying: ObjectKey | None = None
        self._next_s = 0.0

    def read(self, key: ObjectKey) -> StoredSecret | None:
        """See ``ports.SecretStore``."""
        return self._ask("read", lambda: self._store.read(key))

    def publish(self, document: SecretDocument, expected: str | None) -> None:
        """See ``ports.SecretStore``."""
        self._ask("write", lambda: self._store.publish(document, expected))

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
        # One moment for trials and batches alike: a store that has just come back must not get both at once.
        if now_s < self._next_s:
            return []
        if self._returned:
            policies, self._returned = self._returned[:BATCH], self._returned[BATCH:]
            self._next_s = now_s + BATCH_EVERY_S
            return policies
        if not self._waiting:
            return []
        policy = next((key for key in self._waiting if not self._is_held(key, now_s)), None)
        if policy is None:
            self._next_s = now_s + self._trial_every_s
            return []
        # To the end of the row: another one makes the next trial.
        self._waiting[policy] = self._waiting.pop(policy)
        self._next_s, self._trying = now_s + max(TRIAL_TAKES_S, self._trial_every_s), policy
        return [policy]

    def _is_held(self, policy: ObjectKey, now_s: float) -> bool:
        latest = self._latest[policy]
        return now_s < latest.at_s + latest.hold_s

    def _ask(self, use: Use, ask: Callable[[], Given]) -> Given:
        try:
            given = ask()
        # Only what says that the store itself is away. A refusal (rights, quota, a conflict) is an answer, and trying
        # it again at once would only repeat it.
        except (StoreAway, StoreClosed):
            self._note_away(use)
            raise
        except Exception:
            # Whatever else it says, it is there.
            self._note_return(use)
            raise
        self._note_return(use)
        return given

    def _note_away(self, use: Use) -> None:
        attempt = current()
        if attempt is None:
            return
        policy = attempt.policy
        with self._changed:
            is_first, now_s = not self._waiting, self._seconds()
            before, successes, hold_s = self._latest.get(policy), self._successes[use], 0.0
            if before is not None and before.use == use and successes > before.successes:
                # Others got through since this one's last failure. It doubles, as any back-off; the ceiling is below
                # the five minutes that a policy without a credential waits at most.
                hold_s = min(max(2 * before.hold_s, FIRST_HOLD_S), LONGEST_HOLD_S)
            self._latest.pop(policy, None)
            self._latest[policy] = _Failure(use, now_s, successes, hold_s)
            self._waiting.setdefault(policy)
            # Only the first failure and the trial's set the time. With each of ten thousand failures moving it, there
            # would never be a trial.
            if is_first or policy == self._trying:
                self._next_s, self._trying = now_s + self._trial_every_s, None
            self._changed.notify_all()

    def _note_return(self, use: Use) -> None:
        """Name those that wait for what has just been possible.

        NOTE: a disk that is full can be read, and so can an API server whose admission is out of order. To name those
        that could not write whenever anybody reads would have all of them try all the time.
        """
        # The usual case, on each read and write: without the lock.
        if not self._latest:
            return
        # Where a write went through, reading works as well; the other way round nothing is known.
        possible: tuple[Use, ...] = ("read", "write") if use == "write" else ("read",)
        with self._changed:
            self._successes.update(possible)
            self._forget_own(possible)
            now_s = self._seconds()
            named = [
                key for key in self._waiting if self._latest[key].use in possible and not self._is_held(key, now_s)
            ]
            if not named:
                return
            for key in named:
                del self._waiting[key]
            self._returned += named
            self._next_s = now_s
            self._changed.notify_all()

    def _forget_own(self, possible: tuple[Use, ...]) -> None:
        """Forget the failure of the policy that has just got through, and all that nobody waits for any more."""
        attempt = current()
        latest = self._latest.get(attempt.policy) if attempt else None
        if attempt and latest and latest.use in possible:
            self._waiting.pop(attempt.policy, None)
            del self._latest[attempt.policy]
        # One at a time is enough, since each call adds one at most. Failures are kept past their hold, because the next
        # one doubles it.
        over_s = self._seconds() - 2 * LONGEST_HOLD_S
        oldest = next(iter(self._latest), None)
        if oldest is not None and oldest not in self._waiting and self._latest[oldest].at_s < over_s:
            del self._latest[oldest]
