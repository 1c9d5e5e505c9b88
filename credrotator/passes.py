"""One pass over many policies, side by side: a bad one never stops the others; one summary at the end."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from credrotator.inventory import Inventory
    from credrotator.model import ObjectKey, Outcome
    from credrotator.rotation import Rotation, Wish

_TICK_S = 0.1


class Progress(Protocol):
    """Watches a pass; called a few times a second with what is done."""

    def __call__(self, done: int, total: int) -> None:
        """Show it."""


def run_pass(
    keys: Iterable[ObjectKey],
    inventory: Inventory,
    rotation: Rotation,
    wish: Wish,
    *,
    workers: int,
    after: Callable[[Outcome], None],
    progress: Progress,
) -> list[Outcome]:
    """Rotate what is due among the named policies.

    Args:
        keys: Which policies; each is in the inventory.
        inventory: Where policies and what they refer to are found.
        rotation: The use case.
        wish: What to do.
        workers: How many policies at a time.
        after: Called in the worker for each outcome, as soon as it is there.
        progress: Called in this thread.

    Returns:
        The outcomes, in the order of the keys.
    """

    def one(key: ObjectKey) -> Outcome:
        policy = inventory.policies.get(key) or inventory.invalid[key]
        outcome = rotation(policy, inventory.reader(key), wish)
        after(outcome)
        return outcome

    ordered = list(keys)
    pool = ThreadPoolExecutor(max_workers=max(1, min(workers, len(ordered))), thread_name_prefix="rotate")
    try:
        futures = [pool.submit(one, key) for key in ordered]
        _watch(futures, progress)
        return [future.result() for future in futures]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _watch(futures: list[Future[Outcome]], progress: Progress) -> None:
    pending: set[Future[Outcome]] = set(futures)
    while pending:
        _, pending = wait(pending, timeout=_TICK_S, return_when=FIRST_COMPLETED)
        progress(len(futures) - len(pending), len(futures))
