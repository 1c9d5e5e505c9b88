"""One pass over many policies, side by side: a bad one never stops the others; one summary at the end.

Owns the threads, and what happens to them when the pass is interrupted. Must not know what is done per policy.
"""

from __future__ import annotations

import logging
import traceback
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Protocol

from credrotator.core.instrumentation import NO_INSTRUMENTATION
from credrotator.core.outcome import Failure, Outcome
from credrotator.rotation.attempt import ONE_PASS, AttemptRunner
from credrotator.rotation.guard import UNGUARDED

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from credrotator.core.audit_log import AuditLog
    from credrotator.core.instrumentation import Instrumentation
    from credrotator.core.model import InvalidPolicy, ObjectKey, Policy
    from credrotator.core.ports import Clock, OutcomeListener, SecretReader
    from credrotator.policies.inventory import Inventory
    from credrotator.rotation.attempt import RotatePolicy
    from credrotator.rotation.rotation import RotateOptions

log = logging.getLogger(__name__)

# How smoothly a progress bar moves; the futures themselves need no polling.
_TICK_S = 0.1
_GRACE_S = 1.0
"""How long an interrupted pass lets its threads end what they have in hand."""
_NAMED = 5


class Progress(Protocol):
    """Watches a pass; called a few times a second with what is done."""

    def __call__(self, done: int, total: int) -> None:
        """Show it."""


class Batch:
    """Rotates many policies once, several at a time.

    Args:
        rotation: The use case.
        listener: Told of each outcome, in the worker, as soon as it is there; of a dry run's, of none.
        clock: The present moment.
        audit: Told of failures.
        instrumentation: Told of attempts, and of what follows them.
    """

    def __init__(
        self,
        rotation: RotatePolicy,
        listener: OutcomeListener,
        clock: Clock,
        *,
        audit: AuditLog,
        instrumentation: Instrumentation = NO_INSTRUMENTATION,
    ) -> None:
        self._attempt = AttemptRunner(
            _Sheltered(rotation), listener, UNGUARDED, clock, audit=audit, instrumentation=instrumentation
        )

    def __call__(
        self,
        keys: Iterable[ObjectKey],
        inventory: Inventory,
        options: RotateOptions,
        *,
        workers: int,
        progress: Progress,
    ) -> list[Outcome]:
        """Rotate what is due among the named policies.

        Args:
            keys: Which policies; each is in the inventory.
            inventory: Where policies and what they refer to are found.
            options: What to do.
            workers: How many policies at a time.
            progress: Called in this thread.

        Returns:
            The outcomes, in the order of the keys.
        """
        ordered = list(keys)
        # No more threads than policies: each has a connection of its own to issuer and vendor.
        pool = ThreadPoolExecutor(max_workers=max(1, min(workers, len(ordered))), thread_name_prefix="rotate")
        futures: dict[Future[Outcome], ObjectKey] = {}
        try:
            futures = {pool.submit(self._one, key, inventory, options): key for key in ordered}
            _watch(futures, progress)
            return [future.result() for future in futures]
        except BaseException:
            _interrupt(pool, futures)
            raise
        finally:
            # Not waited for: all that count have ended, and one that hangs cannot be ended.
            pool.shutdown(wait=False)

    def _one(self, key: ObjectKey, inventory: Inventory, options: RotateOptions) -> Outcome:
        policy = inventory.policies.get(key) or inventory.invalid[key]
        with self._attempt.begin(key):
            return self._attempt(policy, inventory.reader(key), options, ONE_PASS)


class _Sheltered:
    """A use case whose own faults are outcomes: one in one policy must not stop the others."""

    def __init__(self, rotation: RotatePolicy) -> None:
        self._rotation = rotation

    def __call__(self, policy: Policy | InvalidPolicy, secrets: SecretReader, options: RotateOptions) -> Outcome:
        try:
            return self._rotation(policy, secrets, options)
        except Exception as error:  # noqa: BLE001 - the outermost of what is done for one policy
            return _fault(policy, error)

    def forget(self, key: ObjectKey) -> None:
        self._rotation.forget(key)


def _watch(futures: Collection[Future[Outcome]], progress: Progress) -> None:
    pending: set[Future[Outcome]] = set(futures)
    while pending:
        _, pending = wait(pending, timeout=_TICK_S, return_when=FIRST_COMPLETED)
        progress(len(futures) - len(pending), len(futures))


def _interrupt(pool: ThreadPoolExecutor, futures: Mapping[Future[Outcome], ObjectKey]) -> None:
    """Start nothing more; give writes in hand a moment, and name what was waited for in vain.

    NOTE: a thread that hangs in an exchange cannot be ended; the interpreter would wait for it, so the command line
    leaves by ``os._exit``. A write that is cut off then harms nobody: publications are atomic.
    """
    pool.shutdown(wait=False, cancel_futures=True)
    _, running = wait([future for future in futures if not future.cancelled()], timeout=_GRACE_S)
    # A credential may have been issued for these and not been published: people want to know which.
    names = [str(futures[future]) for future in futures if future in running]
    if names:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        log.error("interrupted; still under way: %s%s", ", ".join(names[:_NAMED]), more)


def _fault(policy: Policy | InvalidPolicy, error: Exception) -> Outcome:
    """Describe a fault of credrotator itself. The error's text stays out: nobody vetted it for secrets."""
    kind = type(error).__name__
    log.debug("%s: %s\n%s", policy.key, kind, "".join(traceback.format_tb(error.__traceback__)))
    hint = "this is a fault of credrotator: report it with what -vv prints"
    failure = Failure("transient", "InternalError", f"{kind} in credrotator itself", hint)
    return Outcome(policy.key, policy.provider, "failed", "InternalError", error=failure)
