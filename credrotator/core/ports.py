"""What the use case needs from the world, as protocols. Adapters implement them; tests bring memory twins."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datetime import datetime

    from credrotator.core.model import (
        Credential,
        InvalidPolicy,
        ObjectKey,
        Policy,
        Rotatable,
        SecretKeyRef,
        SubjectToken,
    )
    from credrotator.core.outcome import Outcome
    from credrotator.core.secret_document import Absent, Published, SecretDocument, StoredSecret
    from credrotator.core.sensitive import Sensitive

Clock = Callable[[], "datetime"]
"""Returns the present moment, aware, in UTC."""

SecretReader = Callable[["SecretKeyRef"], "Sensitive"]
"""Reads the value that a policy refers to; raises PolicyError that says which Secret and key, and what to do."""

AccountTokens = Callable[["ObjectKey", str], "SubjectToken"]
"""Gets a new token of a service account, for an audience; raises RotationError."""

WriteGuard = Callable[["Policy"], None]
"""Asked right before each write; raises Abandoned if the policy is not to be published any more."""

CachedState = Callable[["Policy"], "Published | Absent | None"]
"""Returns what a policy's Secret held when it was last heard of; None where that is not known for certain."""

AskTime = Callable[["Rotatable"], "datetime | None"]
"""Asks those that a source's exchange goes to for the time (aware UTC); raises Transient where nobody tells, and
returns None where there is nobody to ask.
"""


class NobodyToAsk:
    """An ``AskTime`` that knows nobody."""

    def __call__(self, source: Rotatable) -> None:
        """See ``AskTime``."""


NOBODY_TO_ASK: AskTime = NobodyToAsk()


class NothingCached:
    """A ``CachedState`` that never knows: the store is asked each time."""

    def __call__(self, policy: Policy) -> None:
        """See ``CachedState``."""


NOTHING_CACHED: CachedState = NothingCached()


class SecretStore(Protocol):
    """Where credentials are published."""

    def read(self, key: ObjectKey) -> StoredSecret | None:
        """Return the Secret as it is now, or None if there is none.

        Raises:
            RotationError: The store cannot be read.
        """

    def publish(self, document: SecretDocument, expected: str | None) -> None:
        """Write data and annotations in one step, if the stored version still is ``expected`` (None: absent).

        Raises:
            Conflict: The Secret is at another version by now.
            RotationError: The store refused, or cannot be reached.
        """


class Exchange(Protocol):
    """From what a policy asks for to a fresh credential: issuer, then vendor."""

    def __call__(
        self, policy: ObjectKey, source: Rotatable, secrets: SecretReader, *, ignore_retry_after: bool = False
    ) -> Credential:
        """Get a new credential within one total deadline.

        Args:
            policy: Whose.
            source: What it asks for.
            secrets: Reads what it refers to.
            ignore_retry_after: Ask although a Retry-After is not over: the credential would not live to see its end.

        Raises:
            RotationError: Of the class that says what to do next.
        """

    def verify(
        self, policy: ObjectKey, source: Rotatable, credential: Credential, *, ignore_retry_after: bool = False
    ) -> None:
        """See whether a new credential is what it should be, by one cheap call or by what it says of itself.

        Args:
            policy: Whose.
            source: What it asks for.
            credential: What the exchange gave.
            ignore_retry_after: As for the exchange.

        Raises:
            Rejected: It is not.
            RotationError: Any other: it could not be seen.
        """


class PolicySource(Protocol):
    """Where the daemon's policies come from, and who may read what for them."""

    def start(self, changed: Callable[[ObjectKey], None]) -> None:
        """Begin to watch; ``changed`` is called, from any thread, for each policy that should be looked at."""

    def stop(self) -> None:
        """Stop watching."""

    def get(self, key: ObjectKey) -> Policy | InvalidPolicy | None:
        """Return the policy as it is now, None if it is gone."""

    def policies(self) -> Iterable[ObjectKey]:
        """List all policies."""

    def reader(self, key: ObjectKey) -> SecretReader:
        """Return how the policy's references are read."""

    def trouble(self) -> str | None:
        """Say why the source cannot be relied on at the moment, None if it can."""


class OutcomeListener(Protocol):
    """What follows an outcome: delivery, what people are shown, files."""

    def __call__(self, policy: Policy | InvalidPolicy, outcome: Outcome, /) -> None:
        """Do what an outcome calls for, in the thread of its attempt."""

    def forget(self, key: ObjectKey) -> None:
        """Drop what is known of a policy that is gone."""
