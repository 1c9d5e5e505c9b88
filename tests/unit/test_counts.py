"""Counts as people write them."""

from __future__ import annotations

import pytest

from credrotator.core.counts import counted


@pytest.mark.parametrize(("count", "text"), [(0, "0 policies"), (1, "1 policy"), (2, "2 policies")])
def test_counted(count: int, text: str) -> None:
    """One is singular, none and several are plural."""
    assert counted(count, "policy", "policies") == text
