"""What the work tells of itself while it is done: how long its stages take, whom it asks, what it is spared.

Owns the ports and the one that takes no notice. Says nothing about how any of it is shown (``observability``).
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from datetime import datetime, timedelta

    from credrotator.core.attempts import Attempt
    from credrotator.core.model import ObjectKey
    from credrotator.core.outcome import Outcome

Stage = Literal["token", "exchange", "verify", "write", "delivery"]
"""Of a rotation: the issuer's token, the vendor's credential, whether that is good, the Secret, and what makes the
gateway look at it.
"""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long an attempt took, and when it should have begun.

    Attributes:
        took_s: Seconds up to its outcome, without the delivery.
        due: When it was planned to begin (aware UTC); None where it was not planned.
        began: When it began (aware UTC).
    """

    took_s: float
    due: datetime | None
    began: datetime


class Instrumentation(Protocol):
    """Told, from any thread, of what happens in an attempt; must be quick and never raise."""

    def attempt(self, attempt: Attempt) -> AbstractContextManager[None]:
        """Hold an attempt together: what is told in the block belongs to it."""

    def record(self, outcome: Outcome, timing: Timing | None = None) -> None:
        """Take note of how an attempt ended; what follows it (delivery) may still come."""

    def stage(self, stage: Stage) -> AbstractContextManager[None]:
        """Take the time of the block, whether it succeeds or not."""

    def token(self, *, shared: bool) -> None:
        """Count a token request to an issuer, or (``shared``) one that an earlier or another's answer spared."""

    def request(self, endpoint: str, call: str, code: str) -> None:
        """Count a request: the HTTP status of its answer, or in a word why there was none."""

    def throttled(self, endpoint: str) -> None:
        """Count an answer with a rate limit in it."""


class DeliveryInstrumentation(Protocol):
    """Told, from any thread, of what becomes of deliveries; must be quick and never raise."""

    def note_delivery(self, form: str, took_s: float) -> None:
        """Count a delivery that was acknowledged, by the form of its notification; seconds since that."""

    def note_unacknowledged(self, count: int) -> None:
        """Show how many published credentials the gateway has not reacted to in time."""

    def note_in_config(self, took_s: float) -> None:
        """Count a credential that the gateway's filter is configured with; seconds since its publication."""

    def note_behind(self, count: int) -> None:
        """Show for how many policies the gateway's filter is configured with another credential than is published."""


class DaemonInstrumentation(Instrumentation, DeliveryInstrumentation, Protocol):
    """Told of a process that goes on, beside its attempts."""

    def watch_queue(self, depth: Callable[[], int]) -> None:
        """Show how many policies wait for a worker; ``depth`` counts them, whenever somebody wants to know."""

    def forget(self, key: ObjectKey) -> None:
        """Drop what is shown of a policy that is gone."""

    def note_leading(self, *, leading: bool) -> None:
        """Show whether this process is the leader."""

    def note_restarts(self, total: Mapping[str, int]) -> None:
        """Show how many watches began anew so far, by reason."""

    def note_silence(self, seconds: Mapping[str, float]) -> None:
        """Show for how many seconds each kind of watch has said nothing."""

    def note_skew(self, seen: Mapping[str, timedelta]) -> None:
        """Show by how much others' clocks differ from this machine's: theirs minus ours, by endpoint."""

    def note_hook(self, hook: str, succeeded: bool) -> None:  # noqa: FBT001 - a callback
        """Count a run of something that follows publications."""

    def note_unreadable(self, count: int) -> None:
        """Show of how many files of manifests an earlier reading stays in force, since they cannot be read by now."""


class _NoInstrumentation:
    def attempt(self, attempt: Attempt) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()

    def record(self, outcome: Outcome, timing: Timing | None = None) -> None:
        pass

    def stage(self, stage: Stage) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()

    def token(self, *, shared: bool) -> None:
        pass

    def request(self, endpoint: str, call: str, code: str) -> None:
        pass

    def throttled(self, endpoint: str) -> None:
        pass

    def note_delivery(self, form: str, took_s: float) -> None:
        pass

    def note_unacknowledged(self, count: int) -> None:
        pass

    def note_in_config(self, took_s: float) -> None:
        pass

    def note_behind(self, count: int) -> None:
        pass

    def watch_queue(self, depth: Callable[[], int]) -> None:
        pass

    def forget(self, key: ObjectKey) -> None:
        pass

    def note_leading(self, *, leading: bool) -> None:
        pass

    def note_restarts(self, total: Mapping[str, int]) -> None:
        pass

    def note_silence(self, seconds: Mapping[str, float]) -> None:
        pass

    def note_skew(self, seen: Mapping[str, timedelta]) -> None:
        pass

    def note_hook(self, hook: str, succeeded: bool) -> None:  # noqa: FBT001
        pass

    def note_unreadable(self, count: int) -> None:
        pass


NO_INSTRUMENTATION: DaemonInstrumentation = _NoInstrumentation()
