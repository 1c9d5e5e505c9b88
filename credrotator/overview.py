"""What ``status`` shows: per policy, where its credential stands, how the last pass ended, and who depends on it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, assert_never

from credrotator.errors import RotationError
from credrotator.inventory import Dependants
from credrotator.model import AwsOidc, AzureClientSecret, AzureOidc, Rotatable, Source, Static, Unsupported
from credrotator.planning import Keep, Reason
from credrotator.rotation import Rotation, Wish, times

if TYPE_CHECKING:
    from datetime import datetime

    from credrotator.inventory import Inventory
    from credrotator.model import ObjectKey, Policy

STATES = {
    Reason.MISSING: "Missing",
    Reason.UNREADABLE: "Unreadable",
    Reason.SPEC_CHANGED: "Edited",
    Reason.EXPIRING: "Due",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One policy's standing. ``state`` is one word; ``why`` explains it where a word does not."""

    policy: ObjectKey
    provider: str
    state: str
    why: str = ""
    identity: str = ""
    secret: ObjectKey | None = None
    expires_at: datetime | None = None
    renew_at: datetime | None = None
    dependants: Dependants = field(default_factory=Dependants)
    last: dict[str, Any] | None = None


def overview(
    key: ObjectKey, inventory: Inventory, rotation: Rotation, last: dict[str, Any] | None, now: datetime
) -> Row:
    """Describe one policy; what is wrong with it becomes its state."""
    if wrong := inventory.invalid.get(key):
        return Row(key, wrong.provider, "Invalid", "; ".join(map(str, wrong.problems)), last=last)
    policy = inventory.policies[key]
    source = policy.source
    row = Row(
        key,
        policy.provider,
        "Static",
        identity=identity(source),
        secret=policy.secret,
        dependants=inventory.dependants(policy),
        last=last,
    )
    if isinstance(source, Rotatable):
        return _standing(row, policy, source, rotation, now)
    outcome = rotation(policy, inventory.reader(key), Wish(dry_run=True))
    if outcome.error:
        state = "NotSupported" if outcome.action == "skipped" else "Broken"
        return replace(row, state=state, why=outcome.error.message)
    return row


def _standing(row: Row, policy: Policy, source: Rotatable, rotation: Rotation, now: datetime) -> Row:
    try:
        found = rotation.state(policy, source, Wish())
    except RotationError as error:
        return replace(row, state="Unreadable", why=error.message)
    expires_at, renew_at = times(policy, found.published)
    row = replace(row, expires_at=expires_at, renew_at=renew_at)
    if isinstance(found.plan, Keep):
        return replace(row, state="Fresh")
    if expires_at is not None and expires_at <= now:
        return replace(row, state="Expired")
    return replace(row, state=STATES.get(found.plan.reason, "Due"), why=found.plan.detail)


def identity(source: Source) -> str:
    """Say whom the credential speaks for, as the vendor names it."""
    match source:
        case AwsOidc():
            return source.role_arn
        case AzureOidc() | AzureClientSecret():
            return f"{source.app.client_id} in {source.app.tenant_id}"
        case Static() | Unsupported():
            return ""
        case _:
            assert_never(source)
