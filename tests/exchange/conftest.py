"""A sandbox, the clock that it shares with the exchanger, and the two of them as a world to test in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from credrotator.sandbox import Sandbox
from credrotator.sandbox.keys import SigningKeys
from tests.exchange.world import Backend, FrozenClock, MovableClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def frozen() -> FrozenClock:
    """Return a clock that stands still."""
    return FrozenClock()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """Run a sandbox for the length of a test; elliptic keys, which are made in no time."""
    clock = MovableClock()
    sandbox = Sandbox(tmp_path / "sandbox", clock=clock, algorithm="ES256")
    sandbox.entra.keys = SigningKeys("ES256")
    with sandbox:
        # The SDK of AWS reads its variables from the process, whatever the exchanger is given.
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sandbox.sts.url)
        yield Backend(sandbox, clock)
