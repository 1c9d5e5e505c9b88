"""One policy's credential for a program that asks for it and goes away: as it is published, renewed where it is due.

Whoever else renews it (a daemon, another such program) is let be: what is fresh is not touched, and a write names the
version that it replaces. A credential that is still good is given although it could not be renewed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from credrotator.core.errors import PolicyError, RotationError
from credrotator.core.model import InvalidPolicy, RotatablePolicy
from credrotator.core.outcome import Failure
from credrotator.core.planning import Keep
from credrotator.core.published_credential import PublishedCredential, published_credential
from credrotator.rotation.batch import Batch
from credrotator.rotation.not_rotated import invalid_failure
from credrotator.rotation.rotation import RotateOptions, Rotation

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from credrotator.app.backend import Snapshot
    from credrotator.core.audit_log import AuditLog
    from credrotator.core.model import ObjectKey
    from credrotator.core.ports import Clock

    Renewing = Callable[[ObjectKey], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Obtained:
    """A credential that is good now; ``failure`` says why it is not a newer one, where it should be."""

    credential: PublishedCredential
    failure: Failure | None = None


class NoCredential(Exception):
    """There is no credential that is good now; ``failure`` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def rotatable(snapshot: Snapshot, key: ObjectKey) -> RotatablePolicy:
    """Return a policy that has something to rotate.

    Raises:
        NoCredential: It has not, or cannot work as written.
    """
    policy = snapshot.inventory.policies.get(key) or snapshot.inventory.invalid[key]
    if isinstance(policy, RotatablePolicy):
        return policy
    if isinstance(policy, InvalidPolicy):
        raise NoCredential(invalid_failure(policy))
    message = "the policy's credential is put there by a person, or is the SDK's own: credrotator has none"
    raise NoCredential(Failure("policy", "NothingToRotate", message, "name a policy that is rotated"))


def obtain(
    snapshot: Snapshot,
    policy: RotatablePolicy,
    rotation: Rotation,
    *,
    renewing: Renewing,
    clock: Clock,
    audit: AuditLog,
) -> Obtained:
    """Return a policy's credential, renewed if it is due.

    Args:
        snapshot: Where the policy is found, and what follows a rotation.
        policy: Whose.
        rotation: The use case.
        renewing: Lets one process at a time renew it.
        clock: The present moment.
        audit: Told of failures.

    Raises:
        NoCredential: There is none that is good.
    """
    failure: Failure | None = None
    try:
        if not isinstance(rotation.state(policy, RotateOptions()).plan, Keep):
            # The state is read again inside, by the batch: who waited for the lock finds what the one before has
            # renewed.
            with renewing(policy.secret):
                failure = _renew(snapshot, policy, rotation, clock, audit)
    except RotationError as error:
        # Without the lock, and without a store that is read: what is there may be good for a while all the same.
        failure = Failure.of(error)
    return _published(policy, rotation, clock, failure)


def _renew(
    snapshot: Snapshot, policy: RotatablePolicy, rotation: Rotation, clock: Clock, audit: AuditLog
) -> Failure | None:
    batch = Batch(rotation, snapshot.listener(), clock, audit=audit)
    (outcome,) = batch(
        # Not forced: with the lock held, a credential that somebody has just renewed is fresh.
        [policy.key],
        snapshot.inventory,
        RotateOptions(),
        workers=1,
        progress=lambda _done, _total: None,
    )
    return outcome.error


def _published(policy: RotatablePolicy, rotation: Rotation, clock: Clock, failure: Failure | None) -> Obtained:
    try:
        state = rotation.state(policy, RotateOptions())
    except RotationError as error:
        raise NoCredential(failure or Failure.of(error)) from error
    credential = published_credential(policy, state.stored.document if state.stored else None)
    if credential is None or credential.expires_at <= clock():
        raise NoCredential(failure or Failure.of(_nothing(policy)))
    if failure and not _is_for(policy, state.published):
        # It was issued for what the policy said before the edit: another role's is worse than none.
        raise NoCredential(failure)
    return Obtained(credential, failure)


def _is_for(policy: RotatablePolicy, published: object) -> bool:
    # None: written by the gateway's own rotator, which notes none; what it is for cannot be told, and it was good so
    # far.
    return getattr(published, "fingerprint", None) in {None, policy.fingerprint}


def _nothing(policy: RotatablePolicy) -> RotationError:
    return PolicyError(
        "NothingPublished", f"Secret {policy.secret} holds no credential", hint="call rotate -v to see why"
    )
