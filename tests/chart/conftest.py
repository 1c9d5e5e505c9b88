"""Helm as a fixture, once per session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chart import rendering

if TYPE_CHECKING:
    from tests.chart.rendering import Helm


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm, of this machine or of the real parts."""
    return rendering.find(tmp_path_factory.mktemp("helm"))
