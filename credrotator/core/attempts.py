"""Which policy an attempt is made at: what every line that is logged meanwhile says of itself.

Owns the present attempt of each thread. Knows nothing of what is done in it. Work that is put off to another thread
takes its attempt along with it.
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
"""Enough to tell the attempts of an hour apart in a search; nothing is decided by it."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at one policy, whatever comes of it; ``rotation`` is its id, eight hexadecimal digits."""

    policy: ObjectKey
    rotation: str


# A context variable and no parameter: vendors' own log lines, which know nothing of attempts, have it too
# (docs/decisions.md).
_CURRENT: ContextVar[Attempt | None] = ContextVar("attempt", default=None)


def current() -> Attempt | None:
    """Return the attempt that this thread is making."""
    return _CURRENT.get()


@contextlib.contextmanager
def attempting(policy: ObjectKey) -> Iterator[Attempt]:
    """Begin an attempt, and end it with the block."""
    # Random, where everything that decides is a hash: an id that came again after a restart would join two attempts in
    # a search.
    attempt = Attempt(policy, os.urandom(ID_BYTES).hex())
    before = _CURRENT.set(attempt)
    try:
        yield attempt
    finally:
        _CURRENT.reset(before)


@contextlib.contextmanager
def continuing(attempt: Attempt | None) -> Iterator[None]:
    """Go on with an attempt that began elsewhere; None: with none."""
    before = _CURRENT.set(attempt)
    try:
        yield
    finally:
        _CURRENT.reset(before)
