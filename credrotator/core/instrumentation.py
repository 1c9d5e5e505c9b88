"""What the work tells of itself while it is done: how long its stages take, whom it asks, what it is spared.

Owns the port and the one that takes no notice. Says nothing about how any of it is shown (``telemetry``).
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from credrotator.core.attempts import Attempt
    from credrotator.core.model import Outcome

Stage = Literal["token", "exchange", "write", "delivery"]
"""Of a rotation: the issuer's token, the vendor's credential, the Secret, and what makes the gateway look at it."""


class Instrumentation(Protocol):
    """Told, from any thread, of what happens; must be quick and never raise."""

    def attempt(self, attempt: Attempt) -> AbstractContextManager[None]:
        """Hold a look together: what is told in the block belongs to it."""

    def record(self, outcome: Outcome) -> None:
        """Take note of how a look ended; what follows it (delivery) may still come."""

    def stage(self, stage: Stage) -> AbstractContextManager[None]:
        """Take the time of the block, whether it succeeds or not."""

    def token(self, *, shared: bool) -> None:
        """Count a token request to an issuer, or (``shared``) one that an earlier or another's answer spared."""

    def request(self, endpoint: str, call: str, code: str) -> None:
        """Count a request: the HTTP status of its answer, or in a word why there was none."""

    def throttled(self, endpoint: str) -> None:
        """Count an answer that asks for patience."""


class _NoInstrumentation:
    def attempt(self, attempt: Attempt) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()

    def record(self, outcome: Outcome) -> None:
        pass

    def stage(self, stage: Stage) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()

    def token(self, *, shared: bool) -> None:
        pass

    def request(self, endpoint: str, call: str, code: str) -> None:
        pass

    def throttled(self, endpoint: str) -> None:
        pass


NO_INSTRUMENTATION: Instrumentation = _NoInstrumentation()
