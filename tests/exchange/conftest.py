"""A clock that stands still, and a sandbox with an exchanger in front of it."""

from __future__ import annotations

import pytest

from tests.support.exchanging import FrozenClock, world

__all__ = ["frozen", "world"]


@pytest.fixture
def frozen() -> FrozenClock:
    """Return a clock that stands still."""
    return FrozenClock()
