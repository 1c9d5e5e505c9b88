"""What came of an attempt, as the outcome that everybody is told: with what is published, and until when. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.core.errors import Transient
from credrotator.core.outcome import Action, Failure, Outcome
from credrotator.core.planning import TINY_LIFE, times
from credrotator.core.secret_document import Published, Unreadable

if TYPE_CHECKING:
    from credrotator.core.errors import RotationError
    from credrotator.core.model import Policy, RotatablePolicy


def outcome_of(policy: Policy, action: Action, reason: str, published: Published | Unreadable | None) -> Outcome:
    """Describe an attempt that did not fail; a credential that hardly lives is warned of."""
    expires_at, renew_at = times(published, policy.uid)
    warnings = policy.warnings
    if isinstance(published, Published) and published.issued_at:
        life = published.expires_at - published.issued_at
        if life < TINY_LIFE:
            warnings += (f"the credential lives for {life.total_seconds():.0f} s only",)
    return Outcome(
        policy.key, policy.provider, action, str(reason), policy.secret, expires_at, renew_at, warnings=warnings
    )


def failure(policy: Policy, error: RotationError, reason: str, published: Published | Unreadable | None) -> Outcome:
    """Describe a failure together with what is still published: the last good credential stays."""
    expires_at, renew_at = times(published, policy.uid)
    return Outcome(
        policy.key,
        policy.provider,
        "failed",
        str(reason),
        policy.secret,
        expires_at,
        renew_at,
        Failure.of(error),
        policy.warnings,
    )


def overtaken(policy: RotatablePolicy, tries: int) -> Transient:
    """Say that somebody else was quicker each time, so that an attempt was given up."""
    message = f"Secret {policy.secret} was changed by somebody else {tries} times in a row"
    return Transient("Conflict", message, hint="look for another program that writes this Secret")
