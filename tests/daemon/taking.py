"""How a test takes work from a queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.core.model import ObjectKey

if TYPE_CHECKING:
    from credrotator.rotation.workqueue import WorkQueue


def taken(work: WorkQueue) -> ObjectKey | None:
    """Take what can be taken at this moment."""
    return work.get(timeout_s=0)


def tenant(namespace: str, count: int) -> list[ObjectKey]:
    """Return keys of a namespace."""
    return [ObjectKey(namespace, f"policy-{number:04}") for number in range(count)]
