"""Label selectors, for manifests that no API server selects from. Pure.

Source: Kubernetes, "Labels and Selectors"; apimachinery, ``labels.Parse``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9_./-]*[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?)?"
_REQUIREMENT = re.compile(
    rf"\s*(?:!\s*(?P<absent>{_NAME})"
    rf"|(?P<name>{_NAME})(?:\s*(?P<equality>==|!=|=)\s*(?P<value>{_VALUE})"
    rf"|\s+(?P<set>in|notin)\s*\((?P<values>\s*{_VALUE}\s*(?:,\s*{_VALUE}\s*)*)\))?)\s*(?P<end>,|\Z)"
)


@dataclass(frozen=True, slots=True)
class Requirement:
    """One part of a selector: the label has one of the values, or is there at all; or the contrary."""

    label: str
    values: frozenset[str] | None
    negated: bool

    def holds(self, labels: Mapping[str, object]) -> bool:
        """Tell whether an object's labels meet it; an absent label has none of the values."""
        met = self.label in labels if self.values is None else labels.get(self.label) in self.values
        # ``notin`` and ``!=`` hold for objects without the label (labels.Requirement.Matches).
        return met != self.negated


def parse_selector(text: str) -> tuple[Requirement, ...]:
    """Read a selector: ``a=b``, ``a!=b``, ``a in (b,c)``, ``a notin (b,c)``, ``a``, ``!a``, joined by commas.

    Raises:
        ValueError: It is none.
    """
    requirements: list[Requirement] = []
    # An empty selector selects everything, as kubectl has it.
    position, more = 0, bool(text.strip())
    while more:
        match = _REQUIREMENT.match(text, position)
        if match is None:
            raise ValueError("expected labels such as team=a,tier!=dev or team in (a,b)")
        requirements.append(_requirement(match))
        position, more = match.end(), bool(match["end"])
    return tuple(requirements)


def _requirement(match: re.Match[str]) -> Requirement:
    if match["absent"]:
        return Requirement(match["absent"], None, negated=True)
    if match["equality"]:
        return Requirement(match["name"], frozenset([match["value"]]), match["equality"] == "!=")
    if match["set"]:
        values = frozenset(value.strip() for value in match["values"].split(","))
        return Requirement(match["name"], values, match["set"] == "notin")
    return Requirement(match["name"], None, negated=False)
