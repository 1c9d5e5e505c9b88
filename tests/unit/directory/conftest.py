"""A directory that is not there yet, and a store on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from credrotator.files.directory import DirectoryStore
from tests.support.twins import StandingClock

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a directory for Secrets that is not there yet."""
    return tmp_path / "out"


@pytest.fixture
def store(root: Path) -> DirectoryStore:
    """Return a store on it."""
    return DirectoryStore(root, StandingClock())
