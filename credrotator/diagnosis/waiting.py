"""What ``wait`` waits for: whether a policy's credential is what it should be, by its Secret alone. Changes nothing.

The gateway replaces the conditions of a policy as it likes, so they decide nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from credrotator.core.errors import RotationError
from credrotator.core.model import InvalidPolicy, RotatablePolicy
from credrotator.core.planning import Reason, Rotate
from credrotator.core.secret_document import Published
from credrotator.core.secretdata import show_time
from credrotator.rotation.rotation import RotateOptions, Rotation, State

if TYPE_CHECKING:
    from datetime import datetime

    from credrotator.core.model import ObjectKey
    from credrotator.policies.inventory import Inventory

STILL_GOOD = {Reason.EXPIRING, Reason.FORCED}
"""What is due by its time only is no worse for it."""
WHY = {
    Reason.MISSING: "it has no credential yet",
    Reason.SPEC_CHANGED: "its credential is for what the policy said before an edit",
    Reason.REQUESTED: "the renewal that was requested is still to be done",
}


@dataclass(frozen=True, slots=True)
class Condition:
    """Ready, and good for at least so long from now on."""

    remaining: timedelta = timedelta(0)


def unmet(key: ObjectKey, inventory: Inventory, rotation: Rotation, condition: Condition, now: datetime) -> str | None:
    """Say why a policy does not meet a condition; None if it does.

    Args:
        key: The policy, which is in the inventory.
        inventory: Where it is found.
        rotation: The use case, which reads and decides.
        condition: What is waited for.
        now: The present moment.
    """
    policy = inventory.policies.get(key) or inventory.invalid[key]
    if isinstance(policy, InvalidPolicy):
        return "; ".join(map(str, policy.problems))
    try:
        if isinstance(policy, RotatablePolicy):
            return _unmet(rotation.state(policy, RotateOptions()), condition, now)
    except RotationError as error:
        return error.message
    # Nobody knows when a person's key expires; that it is there is all that can be said.
    outcome = rotation(policy, inventory.reader(key), RotateOptions(dry_run=True))
    return outcome.error.message if outcome.error else None


def _unmet(state: State, condition: Condition, now: datetime) -> str | None:
    if isinstance(state.plan, Rotate) and state.plan.reason not in STILL_GOOD:
        return WHY.get(state.plan.reason, state.plan.detail)
    if not isinstance(state.published, Published):
        return WHY[Reason.MISSING]
    if state.published.expires_at <= now + condition.remaining:
        word = "expired" if state.published.expires_at <= now else "expires"
        return f"its credential {word} at {show_time(state.published.expires_at)}"
    return None
