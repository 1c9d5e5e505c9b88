"""Counts as people write them: ``1 policy``, ``2 policies``."""

from __future__ import annotations


def counted(count: int, one: str, many: str) -> str:
    """Write a number before the word that goes with it."""
    return f"{count} {one if count == 1 else many}"
