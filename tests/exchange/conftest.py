"""A clock that stands still, and a sandbox with an exchanger in front of it."""

from __future__ import annotations

import pytest

from tests.exchange.crowd import Crowd
from tests.exchange.vendor_side import VendorSide
from tests.support.exchanging import Backend, FrozenClock, world

__all__ = ["frozen", "world"]


@pytest.fixture
def frozen() -> FrozenClock:
    """Return a clock that stands still."""
    return FrozenClock()


@pytest.fixture
def crowd() -> Crowd:
    """Circuit breakers that know of nothing yet."""
    return Crowd()


@pytest.fixture(params=["anthropic", "openai"])
def vendor(world: Backend, request: pytest.FixtureRequest) -> VendorSide:
    """Return each vendor."""
    return VendorSide(world, request.param)


@pytest.fixture
def anthropic(world: Backend) -> VendorSide:
    """Return the one that takes each subject token once."""
    return VendorSide(world, "anthropic")
