"""What the policies' status in the cluster says, by one reading: the gateway's word, and ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from credrotator.core.errors import printable, reference
from credrotator.core.secretdata import read_time
from credrotator.kube.source import CONDITION

if TYPE_CHECKING:
    from datetime import datetime

    from credrotator.core.model import ObjectKey
    from credrotator.core.outcome_shape import ErrorDocument, LastOutcome
    from credrotator.kube.source import Observer


class ClusterStatus:
    """Reads it."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def last_outcome(self, key: ObjectKey) -> LastOutcome | None:
        """Read the latest failure from the policy's condition; of what went well, the Secret tells more."""
        for condition in self._conditions(key):
            if condition.get("type") == CONDITION and condition.get("status") == "False":
                reason, message = condition.get("reason", ""), condition.get("message", "")
                error: ErrorDocument = {
                    # A condition has a reason and a text. Which kind of error it was is not in there, and is not
                    # guessed by its spelling.
                    "kind": None,
                    "reason": reason,
                    "message": message,
                    "hint": None,
                    "see": reference(str(reason)),
                }
                at = condition.get("lastTransitionTime")
                return {"at": at, "action": "failed", "reason": reason, "error": error}
        return None

    def refusal(self, key: ObjectKey) -> str | None:
        """Return why the gateway does not accept a policy; None where it does, or has not said."""
        for condition in self._conditions(key):
            # The gateway has a type of its own for what it does not accept, beside the usual one that is False.
            if condition.get("type") == "NotAccepted" or (
                condition.get("type") == "Accepted" and condition.get("status") == "False"
            ):
                return printable(condition.get("message") or condition.get("reason"))
        return None

    def acknowledged_at(self, key: ObjectKey) -> datetime | None:
        """Return when the gateway last wrote a policy's status (aware UTC)."""
        observed = self._observer.observed(key)
        # The gateway's rotator moves it at each reconciliation (a flaw, but it serves here as a sign of life).
        return read_time(observed.last_transition) if observed else None

    def _conditions(self, key: ObjectKey) -> tuple[dict[str, Any], ...]:
        observed = self._observer.observed(key)
        return observed.conditions if observed else ()
