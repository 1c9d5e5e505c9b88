"""Label and field selectors, as far as credrotator and its tests use them.

Source: Kubernetes documentation, "Labels and Selectors" and "Field Selectors".
"""

from __future__ import annotations

import re
from typing import Any

REQUIREMENT = re.compile(
    r"(?P<absent>!)?\s*(?P<name>[\w./-]+)\s*"
    r"(?:(?P<equality>==|=|!=)\s*(?P<value>[\w.-]*)|(?P<set>in|notin)\s*\((?P<values>[^)]*)\))?\s*(?:,|$)"
)
"""One requirement of a selector, and the comma behind it."""


def matches(item: dict[str, Any], query: dict[str, str]) -> bool:
    """Tell whether an object is selected by a request's ``labelSelector`` and ``fieldSelector``."""
    metadata = item["metadata"]
    fields = {"metadata.name": metadata["name"], "metadata.namespace": metadata.get("namespace", "")}
    involved = item.get("involvedObject", {})
    fields |= {f"involvedObject.{name}": value for name, value in involved.items()}
    return _selected(metadata.get("labels") or {}, query.get("labelSelector", "")) and _selected(
        fields, query.get("fieldSelector", "")
    )


def _selected(found: dict[str, str], selector: str) -> bool:
    return all(_holds(found, requirement) for requirement in REQUIREMENT.finditer(selector))


def _holds(found: dict[str, str], requirement: re.Match[str]) -> bool:
    value = found.get(requirement["name"])
    match requirement["equality"] or requirement["set"]:
        case "=" | "==":
            return value == requirement["value"]
        case "!=":
            return value != requirement["value"]
        case None:
            return (value is None) == bool(requirement["absent"])
        case operator:
            values = {part.strip() for part in requirement["values"].split(",")}
            return (value in values) == (operator == "in")
