"""The chart's alerts, dashboard and runbooks as data, and what they say of metrics."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import yaml

from tests.chart.reference import CHART

if TYPE_CHECKING:
    from collections.abc import Iterator

RULES = CHART / "files" / "alerts.yaml"
DASHBOARD = CHART / "files" / "dashboard.json"
RUNBOOKS = CHART.parents[1] / "docs" / "runbooks"
PREFIX = "Credrotator"


def alerts() -> dict[str, dict[str, Any]]:
    """Return the alerting rules by name, without the common prefix."""
    (group,) = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"].removeprefix(PREFIX): rule for rule in group["rules"]}


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    found: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return found


def panels() -> list[dict[str, Any]]:
    """Return the panels that show something, without the rows."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def expressions() -> list[tuple[str, str]]:
    """Return each query of the dashboard with its panel's title."""
    return [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]


def runbooks() -> dict[str, str]:
    """Return the runbooks by alert."""
    return {page.stem: page.read_text(encoding="utf-8") for page in RUNBOOKS.glob("*.md") if page.stem != "README"}


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Yield each metric that an expression selects, with the labels by which it does."""
    for name, matchers in re.findall(r"\b((?:credrotator|process)_\w+)(?:\{(.*?)\})?", expression):
        yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
