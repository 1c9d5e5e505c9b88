"""What became of an attempt, for people and machines: the audit log, the metrics, conditions, tables and JSON.

Frozen data, no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from credrotator.core.errors import RotationError, Settling
    from credrotator.core.model import ObjectKey

Action = Literal["rotated", "kept", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class Failure:
    """A RotationError, flattened for people and machines."""

    kind: Literal["transient", "denied", "policy"]
    reason: str
    message: str
    hint: str
    # compare=False, as with all below: what is shown decides whether a failure is news, and the seconds of a
    # Retry-After change with each.
    retry_after: timedelta | None = field(default=None, compare=False)
    settling: Settling | None = field(default=None, compare=False)
    hangs: bool = field(default=False, compare=False)
    is_refusal: bool = field(default=False, compare=False)

    @classmethod
    def of(cls, error: RotationError) -> Self:
        """Flatten an error."""
        about = error.retry_after, error.settling, error.hangs, error.is_refusal
        return cls(error.kind, error.reason, error.message, error.hint, *about)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one pass did for one policy.

    Attributes:
        repaired: What is kept is its policy's again, in name too.
        abandoned: It was not to be finished: the policy is another, or another process leads.
        created: There was no Secret before.
    """

    policy: ObjectKey
    provider: str
    action: Action
    reason: str
    secret: ObjectKey | None = None
    expires_at: datetime | None = None
    renew_at: datetime | None = None
    error: Failure | None = None
    warnings: tuple[str, ...] = field(default=(), compare=False)
    repaired: bool = field(default=False, compare=False)
    abandoned: bool = field(default=False, compare=False)
    created: bool = field(default=False, compare=False)
