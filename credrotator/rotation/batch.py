"""One pass over many policies, side by side: a bad one never stops the others; one summary at the end.

Owns the threads, and what happens to them when the pass is interrupted. Must not know what is done per policy.
"""

from __future__ import annotations

import logging
import traceback
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from typing import TYPE_CHECKING, Protocol

from credrotator.core.attempts import attempting
from credrotator.core.instrumentation import NO_INSTRUMENTATION
from credrotator.core.model import Failure, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from credrotator.core.instrumentation import Instrumentation
    from credrotator.core.model import InvalidPolicy, ObjectKey, Policy
    from credrotator.observability.audit import Audit
    from credrotator.policies.inventory import Inventory
    from credrotator.rotation.rotation import RotateOptions, Rotation

log = logging.getLogger(__name__)

_TICK_S = 0.1
_GRACE_S = 1.0
"""How long an interrupted pass lets its threads end what they have in hand."""
_NAMED = 5


class Progress(Protocol):
    """Watches a pass; called a few times a second with what is done."""

    def __call__(self, done: int, total: int) -> None:
        """Show it."""


def run_batch(
    keys: Iterable[ObjectKey],
    inventory: Inventory,
    rotation: Rotation,
    options: RotateOptions,
    *,
    workers: int,
    audit: Audit,
    instrumentation: Instrumentation = NO_INSTRUMENTATION,
    after: Callable[[Outcome], None],
    progress: Progress,
) -> list[Outcome]:
    """Rotate what is due among the named policies.

    Args:
        keys: Which policies; each is in the inventory.
        inventory: Where policies and what they refer to are found.
        rotation: The use case.
        options: What to do.
        workers: How many policies at a time.
        audit: Told of failures.
        instrumentation: Told of attempts, and of what follows them.
        after: Called in the worker for each outcome, as soon as it is there.
        progress: Called in this thread.

    Returns:
        The outcomes, in the order of the keys.
    """

    def one(key: ObjectKey) -> Outcome:
        policy = inventory.policies.get(key) or inventory.invalid[key]
        with attempting(key) as attempt, instrumentation.attempt(attempt):
            try:
                outcome = rotation(policy, inventory.reader(key), options)
            except Exception as error:  # noqa: BLE001 - a fault of ours in one policy must not stop the others
                outcome = _fault(policy, error)
            if not options.dry_run:
                audit.failed(policy, outcome)
                instrumentation.record(outcome)
            with (
                instrumentation.stage("delivery")
                if outcome.action == "rotated" and not options.dry_run
                else nullcontext()
            ):
                after(outcome)
        return outcome

    ordered = list(keys)
    pool = ThreadPoolExecutor(max_workers=max(1, min(workers, len(ordered))), thread_name_prefix="rotate")
    futures: dict[Future[Outcome], ObjectKey] = {}
    try:
        futures = {pool.submit(one, key): key for key in ordered}
        _watch(futures, progress)
        return [future.result() for future in futures]
    except BaseException:
        _interrupt(pool, futures)
        raise
    finally:
        pool.shutdown(wait=False)


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
