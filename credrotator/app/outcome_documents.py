"""Outcomes as stable documents (docs/rotate.schema.json), for machines and for the next ``status``."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, get_args

from credrotator.core.errors import reference
from credrotator.core.outcome import Action, Outcome
from credrotator.core.secretdata import show_time

if TYPE_CHECKING:
    from collections.abc import Iterable

    from credrotator.core.errors import RotationError
    from credrotator.core.outcome import Failure
    from credrotator.core.outcome_shape import ErrorDocument, OutcomeDocument, RotateDocument


def rotate_document(outcomes: Iterable[Outcome]) -> RotateDocument:
    """Return the stable result of ``rotate -o json``; every member is always there, null where it does not apply."""
    results = list(outcomes)
    counts = Counter(outcome.action for outcome in results)
    return {
        "results": [outcome_document(outcome) for outcome in results],
        "summary": {action: counts[action] for action in get_args(Action)},
    }


def error_document(error: RotationError | Failure) -> ErrorDocument:
    """Return a failure; ``see`` is the page and anchor of the documents that explain its reason."""
    return {
        "kind": error.kind,
        "reason": error.reason,
        "message": error.message,
        "hint": error.hint,
        "see": reference(error.reason),
    }


def outcome_document(outcome: Outcome) -> OutcomeDocument:
    """Return one policy's result: what a directory keeps of it for ``status``, too."""
    error = outcome.error
    return {
        "policy": str(outcome.policy),
        "provider": outcome.provider,
        "action": outcome.action,
        "reason": outcome.reason,
        "secret": str(outcome.secret) if outcome.secret else None,
        "expiresAt": show_time(outcome.expires_at) if outcome.expires_at else None,
        "renewAt": show_time(outcome.renew_at) if outcome.renew_at else None,
        "error": error_document(error) if error else None,
        "warnings": list(outcome.warnings),
    }
