"""Which policy is being looked at: what every line that is logged meanwhile says of itself.

Owns the present look of each thread. Knows nothing of what is done in it. Work that is put off to another thread takes
its look along with it.
"""

from __future__ import annotations

import contextlib
import os
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credrotator.core.model import ObjectKey

ID_BYTES = 4
"""Enough to tell the looks of an hour apart in a search; nothing is decided by it."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One look at one policy, whatever comes of it; ``rotation`` is its id, eight hexadecimal digits."""

    policy: ObjectKey
    rotation: str


_CURRENT: ContextVar[Attempt | None] = ContextVar("look", default=None)


def current() -> Attempt | None:
    """Return the look that this thread is in."""
    return _CURRENT.get()


@contextlib.contextmanager
def attempting(policy: ObjectKey) -> Iterator[Attempt]:
    """Begin a look, and end it with the block."""
    attempt = Attempt(policy, os.urandom(ID_BYTES).hex())
    before = _CURRENT.set(attempt)
    try:
        yield attempt
    finally:
        _CURRENT.reset(before)


@contextlib.contextmanager
def continuing(attempt: Attempt | None) -> Iterator[None]:
    """Go on with a look that began elsewhere; None: with none."""
    before = _CURRENT.set(attempt)
    try:
        yield
    finally:
        _CURRENT.reset(before)
