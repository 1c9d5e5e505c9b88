"""Label selectors, as the API server reads them."""

from __future__ import annotations

import pytest

from credrotator.policies.selectors import parse_selector

LABELS = {"team": "a", "tier": "prod", "example.com/x": "", "n": 1}


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ("", True),
        ("  ", True),
        ("team=a", True),
        ("team==a", True),
        ("team=b", False),
        ("team!=b", True),
        ("team!=a", False),
        ("missing!=a", True),
        ("missing=a", False),
        ("team", True),
        ("missing", False),
        ("!missing", True),
        ("! team", False),
        ("team in (a,b)", True),
        ("team in ( b , c )", False),
        ("team notin (b)", True),
        ("missing notin (a)", True),
        ("team notin (a,b)", False),
        ("team=a,tier=prod", True),
        (" team = a , tier != prod ", False),
        ("team in (a),!missing,tier", True),
        ("example.com/x=", True),
        ("example.com/x", True),
        ("n=1", False),
    ],
)
def test_selectors(selector: str, selected: bool) -> None:  # noqa: FBT001 - a column of the table
    """Kubernetes, "Labels and Selectors": all parts have to hold; an absent label has no value at all."""
    assert all(requirement.holds(LABELS) for requirement in parse_selector(selector)) is selected


@pytest.mark.parametrize(
    "text", ["team=a,", ",team", "a b", "=a", "a in b", "a in (b", "a=b=c", "!", "a>1", "a/=b", "ä=b"]
)
def test_what_is_none(text: str) -> None:
    """Refused, not taken for something else."""
    with pytest.raises(ValueError, match="expected labels such as"):
        parse_selector(text)
