"""For whom an endpoint is not asked at the moment, and until when. Pure: the seconds are passed in.

Failures are counted by namespace. One that fails alone pauses alone, since it may well be its own fault; where several
fail and none succeeds, the endpoint pauses for all. Any success ends it for everybody.
"""

from __future__ import annotations

from dataclasses import dataclass

from credrotator.core.errors import Throttled, Transient

FAILURES_TO_OPEN = 5
"""Failures in a row after which only trials are let through."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 30.0
TRIAL_S = 5.0
"""Others stay out for so long while a trial is away; one that hangs does not keep the next one out for ever."""
MOST_NAMESPACES = 256
"""Namespaces whose failures are told apart in one circuit."""


@dataclass(slots=True)
class _Pause:
    failures: int = 0
    pause_s: float = FIRST_PAUSE_S
    since_s: float = float("-inf")
    until_s: float = float("-inf")
    retry_after_until_s: float = float("-inf")
    is_open: bool = False

    def left_s(self, now_s: float, *, ignore_retry_after: bool) -> float:
        if not self.is_open:
            return 0.0
        until_s = self.until_s if ignore_retry_after else max(self.until_s, self.retry_after_until_s)
        return max(0.0, until_s - now_s)

    def begin(self, now_s: float) -> None:
        """Keep others out while a trial is away."""
        if self.is_open:
            # The trial keeps all others out. Without this, all that wait would follow in the moment that it
            # takes.
            self.until_s = max(self.until_s, now_s + max(self.pause_s, TRIAL_S))

    def end_without_verdict(self, now_s: float) -> None:
        if self.is_open:
            self.until_s = min(self.until_s, now_s + self.pause_s)

    def fail(self, error: Transient | None, began_s: float, now_s: float) -> bool:
        """Count a failure; False if it is none of its own: its request was on its way when the pause began."""
        # The longest one counts: a server's several nodes often answer differently, and to obey the shortest would mean
        # to ask against the word of another. Noted also for requests of a burst that is not counted.
        if error is not None and error.retry_after:
            self.retry_after_until_s = max(self.retry_after_until_s, now_s + error.retry_after.total_seconds())
        # One burst is one failure. Requests that were under way when the circuit opened could not know; counting each
        # would double the pause once for each of them.
        if began_s <= self.since_s:
            return False
        self.failures += 1
        if is_throttling(error) or self.failures >= FAILURES_TO_OPEN:
            self.is_open = True
            self.since_s, self.until_s = now_s, now_s + self.pause_s
            # Doubled up to half a minute: an endpoint that is down for an hour gets two trials a minute, and one that
            # comes back is noticed within half a minute.
            self.pause_s = min(self.pause_s * 2, LONGEST_PAUSE_S)
        return True


class Pauses:
    """The pauses of one circuit."""

    def __init__(self) -> None:
        self._own: dict[str, _Pause] = {}
        self._shared = _Pause()
        self.reason = ""
        self.hangs = False

    @property
    def is_well(self) -> bool:
        """Tell whether nobody has failed since the last success."""
        return not self._own

    @property
    def is_shared(self) -> bool:
        """Tell whether the circuit is open for all."""
        return self._shared.is_open

    def is_open(self, namespace: str) -> bool:
        """Tell whether only trials are let through for a namespace."""
        own = self._own.get(namespace)
        return self._shared.is_open or (own is not None and own.is_open)

    def left_s(self, namespace: str, now_s: float, *, ignore_retry_after: bool = False) -> float:
        """Return for how many seconds a namespace may not ask; 0 if it may."""
        pauses = [self._shared, *filter(None, [self._own.get(namespace)])]
        return max(pause.left_s(now_s, ignore_retry_after=ignore_retry_after) for pause in pauses)

    def obeys_until_s(self) -> float:
        """Return up to when a Retry-After holds for anybody."""
        return max(pause.retry_after_until_s for pause in (self._shared, *self._own.values()))

    def begin(self, namespace: str, now_s: float) -> None:
        """Take note that somebody asks now; where the circuit is open, it is the trial."""
        for pause in self._of(namespace):
            pause.begin(now_s)

    def end_without_verdict(self, namespace: str, now_s: float) -> None:
        """Take note that a request ended in a way that says nothing of this endpoint."""
        for pause in self._of(namespace):
            pause.end_without_verdict(now_s)

    def fail(
        self,
        namespace: str,
        reason: str,
        error: Transient | None,
        *,
        began_s: float,
        now_s: float,
        hangs: bool = False,
    ) -> bool:
        """Take note of a failure; False if it belongs to a burst that was counted. ``hangs``: nobody answered."""
        # Beyond that they share the circuit's own counter. A tenant with namespaces without end must not take memory
        # without end.
        if len(self._own) < MOST_NAMESPACES:
            self._own.setdefault(namespace, _Pause())
        self.reason, self.hangs = reason, hangs
        # With a single namespace that fails, only its own counter moves: it can bring about nearly any failure by what
        # its policy names. Two that fail while nobody succeeds are evidence against the endpoint.
        pauses = self._of(namespace) if len(self._own) > 1 else [*filter(None, [self._own.get(namespace)])]
        counted = [pause.fail(error, began_s, now_s) for pause in pauses]
        return any(counted)

    def succeed(self) -> bool:
        """Forget all failures; tell whether that ends a pause."""
        was_open = self._shared.is_open or any(pause.is_open for pause in self._own.values())
        # A success of anybody is one for all: it shows that the endpoint works, whoever's failures were counted.
        if self._own:
            self._own.clear()
            self._shared = _Pause()
        return was_open

    def _of(self, namespace: str) -> list[_Pause]:
        own = self._own.get(namespace)
        return [self._shared, own] if own else [self._shared]


def is_throttling(error: Transient | None) -> bool:
    """Tell whether an answer asks whoever got it to wait, whatever its status was."""
    return isinstance(error, Throttled) or (error is not None and error.retry_after is not None)
