"""What ``status`` shows: per policy, where its credential stands, how the last pass ended, and who depends on it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from credrotator.core.errors import RotationError
from credrotator.core.model import RotatablePolicy, Unsupported
from credrotator.core.planning import Keep, Reason, times
from credrotator.core.secret_document import Published
from credrotator.core.secretdata import TRUE_EXPIRY, content_hash, parked_until, show_time
from credrotator.policies.inventory import Dependants
from credrotator.rotation.rotation import RotateOptions, Rotation

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from credrotator.core.model import Credential, ObjectKey, Rotatable
    from credrotator.core.outcome_shape import LastOutcome
    from credrotator.core.ports import SecretReader
    from credrotator.policies.inventory import Inventory

STATES = {
    Reason.MISSING: "Missing",
    Reason.UNREADABLE: "Unreadable",
    Reason.SPEC_CHANGED: "Edited",
    Reason.EXPIRING: "Due",
    Reason.REQUESTED: "Due",
}


AskInUse: TypeAlias = "Callable[[RotatablePolicy, str], bool | None]"
"""Tells, by the hash of what is published, whether the gateway's filter is configured with it; None: not known."""

# Unknown among them: without --out nobody said where credentials are, and that is no policy's trouble.
WELL = frozenset({"Fresh", "Due", "Static", "NotSupported", "Unknown"})


class NoExchange:
    """An ``Exchange`` for who only reads; it spares the import of all that a real one needs (0.2 s)."""

    def __call__(
        self, policy: ObjectKey, source: Rotatable, secrets: SecretReader, *, ignore_retry_after: bool = False
    ) -> NoReturn:
        """Refuse: nobody is asked for a credential here."""
        raise NotImplementedError(f"{policy}: an exchange, where states are only read")

    def verify(
        self, policy: ObjectKey, source: Rotatable, credential: Credential, *, ignore_retry_after: bool = False
    ) -> NoReturn:
        """Refuse: there is no new credential here."""
        raise NotImplementedError(f"{policy}: a verification, where states are only read")


def _nobody_knows(_policy: RotatablePolicy, _content: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Row:
    """One policy's standing.

    Attributes:
        state: One word.
        why: Explains it where a word does not.
        hint: What a person can do about it.
        last: The outcome of the latest pass.
        acknowledged: Whether the gateway has looked at the policy since its credential was issued; None: not known.
        in_use: Whether the gateway's filter is configured with what is published; None: not known.
        warnings: What is odd about the policy, or what the gateway will make of it, without stopping it.
        context: Of its cluster, where several are shown.
    """

    policy: ObjectKey
    provider: str
    state: str
    why: str = ""
    hint: str = ""
    identity: str = ""
    secret: ObjectKey | None = None
    expires_at: datetime | None = None
    renew_at: datetime | None = None
    dependants: Dependants = field(default_factory=Dependants)
    last: LastOutcome | None = None
    acknowledged: bool | None = None
    in_use: bool | None = None
    warnings: tuple[str, ...] = ()
    context: str = ""

    @property
    def needs_attention(self) -> bool:
        """Tell whether a person should look: by its state, or because the latest attempt failed."""
        return self.state not in WELL or (self.last or {}).get("action") == "failed"


def overview(
    key: ObjectKey,
    inventory: Inventory,
    rotation: Rotation,
    last: LastOutcome | None,
    now: datetime,
    *,
    acknowledged_at: datetime | None = None,
    published_known: bool = True,
    in_use: AskInUse = _nobody_knows,
) -> Row:
    """Describe one policy; what is wrong with it becomes its state.

    Args:
        key: The policy.
        inventory: Where it is found.
        rotation: The use case, which decides.
        last: The outcome of the latest pass over it, as ``report.outcome_document`` has it, with ``at``.
        now: The present moment.
        acknowledged_at: When the gateway last wrote its status (aware UTC); None where that is not known.
        published_known: Whether it is known where credentials are published.
        in_use: Tells whether the gateway's filter is configured with what is published.
    """
    if wrong := inventory.invalid.get(key):
        why = "; ".join(map(str, wrong.problems))
        return Row(key, wrong.provider, "Invalid", why, f"correct the policy in {wrong.origin}", last=last)
    policy = inventory.policies[key]
    row = Row(
        key,
        policy.provider,
        "NotSupported" if isinstance(policy.source, Unsupported) else "Static",
        why="; ".join(policy.warnings) if isinstance(policy.source, Unsupported) else "",
        identity=policy.source.identity if isinstance(policy, RotatablePolicy) else "",
        secret=policy.secret,
        dependants=inventory.dependants(policy),
        last=last,
        warnings=() if isinstance(policy.source, Unsupported) else policy.warnings,
    )
    if isinstance(policy, RotatablePolicy) and not published_known:
        return replace(row, state="Unknown")
    if isinstance(policy, RotatablePolicy):
        return _standing(row, policy, rotation, now=now, acknowledged_at=acknowledged_at, in_use=in_use)
    # A dry run: of a static policy that is a look at its Secret, and nothing else is decided.
    outcome = rotation(policy, inventory.reader(key), RotateOptions(dry_run=True))
    if outcome.error:
        return replace(row, state="Broken", why=outcome.error.message, hint=outcome.error.hint)
    return row


def _standing(
    row: Row,
    policy: RotatablePolicy,
    rotation: Rotation,
    *,
    now: datetime,
    acknowledged_at: datetime | None,
    in_use: AskInUse,
) -> Row:
    try:
        standing = rotation.state(policy, RotateOptions())
    except RotationError as error:
        return replace(row, state="Unreadable", why=error.message, hint=error.hint)
    expires_at, renew_at = times(standing.published, policy.uid)
    row = replace(row, expires_at=expires_at, renew_at=renew_at)
    if isinstance(standing.published, Published) and standing.stored:
        row = replace(row, in_use=in_use(policy, content_hash(standing.stored.document.data)))
    if isinstance(standing.published, Published) and (issued_at := standing.published.issued_at):
        # Whole seconds in the status against whole seconds in the annotation, so equal counts as after.
        acknowledged = None if acknowledged_at is None else acknowledged_at >= issued_at
        issued: LastOutcome = {"at": show_time(issued_at), "action": "rotated", "reason": None, "error": None}
        row = replace(row, acknowledged=acknowledged, last=row.last or issued)
    if isinstance(standing.plan, Keep):
        return replace(row, state="Fresh")
    # Before "Expired": the expiry of a parked Secret is not a credential's.
    if standing.stored and not standing.stored.document.data and TRUE_EXPIRY in standing.stored.document.annotations:
        until = parked_until(standing.stored.document)
        why = "nothing was issued yet; its empty Secret keeps the gateway's rotator from the issuer"
        return replace(row, state="Parked", why=f"{why} until {show_time(until)}" if until else why)
    if expires_at is not None and expires_at <= now:
        return replace(row, state="Expired")
    return replace(row, state=STATES.get(standing.plan.reason, "Due"), why=standing.plan.detail)
