"""Errors, classed by what to do next.

Owns the vocabulary of failure: every adapter turns its vendor's errors into one of three classes at its own
border, with ``from``. Must not know any vendor, and must never hold a response body or a secret: a message is built
from names, codes and texts that went through :func:`printable`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Hashable

Kind = Literal["transient", "denied", "policy"]

MESSAGE_LIMIT = 300
"""Characters of foreign text that a message may carry; status fields and log lines stay readable."""


def printable(text: object, limit: int = MESSAGE_LIMIT) -> str:
    """Escape control characters and cut to ``limit`` characters: foreign text cannot forge a log line or a screen."""
    whole = str(text)
    # Cut before it is escaped, so that a body of a megabyte costs no time; and after, since an escape is longer.
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in whole[:limit])
    return shown[:limit] + ("…" if max(len(whole), len(shown)) > limit else "")


def reference(reason: str) -> str:
    """Return where the documents explain a reason: page and anchor, as in ``reasons#IssuerTLS``."""
    return f"reasons#{reason}"


@dataclass(frozen=True, slots=True)
class Settling:
    """A refusal that often passes by itself: it counts as transient for so many tries in a row, or for so long."""

    tries: int = 0
    span: timedelta = timedelta(0)


class RotationError(Exception):
    """A rotation failed; the last good credential stays where it is.

    Attributes:
        kind: What to do next: ``transient`` retry soon, ``denied`` retry slowly, ``policy`` wait for an edit.
        reason: CamelCase identifier, stable, fit for a metric label or a condition.
        message: What happened, one line, without secrets.
        hint: What a person can do about it.
        retry_after: The server's Retry-After, if it sent one.
        settling: How long a refusal is not taken at its word; None: it is, at once.
        hangs: The other side did not answer in time: who asks it without a time limit waits for ever.
        circuits: Keys of the circuit breakers that know when it is worth asking again. An error that is shared keeps
            them: whoever gets it waits for the same recovery as the one who asked.
    """

    kind: ClassVar[Kind]

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        hint: str,
        retry_after: timedelta | None = None,
        settling: Settling | None = None,
        hangs: bool = False,
        circuits: frozenset[Hashable] = frozenset(),
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.hint = hint
        self.retry_after = retry_after
        self.settling = settling
        self.hangs = hangs
        self.circuits = circuits

    def anew(
        self, *, message: str | None = None, hint: str | None = None, retry_after: timedelta | None = None
    ) -> Self:
        """Make an equal error to raise or keep, without this one's traceback; what is given takes the place of its own.

        NOTE: one error raised in many threads would collect all their tracebacks, and keep alive what their frames
        hold.
        """
        return type(self)(
            self.reason,
            self.message if message is None else message,
            hint=self.hint if hint is None else hint,
            # NOTE: what is left of a Retry-After may be nothing; that is no reason to begin with all of it once more.
            retry_after=self.retry_after if retry_after is None else retry_after,
            settling=self.settling,
            hangs=self.hangs,
            circuits=self.circuits,
        )

    @property
    def is_refusal(self) -> bool:
        """Tell whether a circuit breaker answered, which has the policy woken when it recovers, or has a free slot."""
        return False


class Transient(RotationError):
    """Likely to pass on its own: unreachable, throttled, 5xx, garbage."""

    kind: ClassVar[Kind] = "transient"


class Outage(Transient):
    """Transient, and the endpoint's own: who else asks it now will hear the same, whatever the vendor's reason says."""


class NoConnection(Outage):
    """An outage of everything behind this host and port: no connection was made, or it broke before an answer began."""


class StoreAway(Transient):
    """The store as a whole is not reached, or does not work: whatever is read or written there now fails alike."""


class Throttled(Transient):
    """The other side limits the rate of whoever asked: this account or client, and nobody else."""


class NotAsked(Transient):
    """Nobody was asked: the circuit breaker is open, or no slot came free in time; no verdict on the other side."""

    @property
    def is_refusal(self) -> bool:
        """See ``RotationError``; who found no slot is woken when one is free."""
        return True


class Denied(RotationError):
    """The other side said no; someone has to grant or correct something there."""

    kind: ClassVar[Kind] = "denied"


class StaleToken(Denied):
    """The subject token is not good any more, or not yet known: a fresh one is worth one more try at once."""


class Rejected(Denied):
    """A new credential was verified and will not do; any other error says nothing of the credential."""


class OpaqueToken(Denied):
    """The issuer gave a token that nobody else can read."""


class Untrusted(Denied):
    """The other side showed a certificate that cannot be trusted."""


class HandshakeRefused(Untrusted):
    """TLS failed before a certificate was judged: what is behind this host and port cannot be spoken to."""


class Forbidden(Denied):
    """This account lacks a right in the cluster; which ones it lacks can be asked there."""


class StoreClosed(Denied):
    """The store lets nobody write for now, as a disk that became read-only: whatever is written there fails alike."""


class PolicyError(RotationError):
    """The policy, or what it refers to, cannot work as written; only an edit helps."""

    kind: ClassVar[Kind] = "policy"


class Conflict(Exception):
    """Somebody else published in the meantime: read again, decide again (never overwrite blindly)."""


class Abandoned(Exception):
    """What was being rotated is not to be published any more: the policy is gone or edited, or another one leads."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UsageError(Exception):
    """The command line or its files cannot be used as given; exit code 2."""
