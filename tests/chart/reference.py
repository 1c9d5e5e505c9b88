"""The chart's values as the table of its README: `python -m tests.chart.reference` writes it anew."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CHART = Path(__file__).parents[2] / "charts" / "credrotator"
MARK = "<!-- Made from values.yaml by `python -m tests.chart.reference`; a test compares. -->\n"


def values() -> dict[str, Any]:
    """Return the chart's defaults."""
    found: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    return found


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each setting by its dotted name; an empty object is a setting, others are their members."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def comments() -> dict[str, str]:
    """Return what stands above each key of values.yaml, by the key's dotted name."""
    found: dict[str, str] = {}
    path: list[str] = []
    above: list[str] = []
    for line in (CHART / "values.yaml").read_text(encoding="utf-8").splitlines():
        comment = re.fullmatch(r" *# ?(.*)", line)
        key = re.match(r"( *)([A-Za-z0-9]+):", line)
        if comment:
            above.append(comment[1])
        elif key:
            path[len(key[1]) // 2 :] = [key[2]]
            found[".".join(path)] = " ".join(above)
            above = []
        else:
            above = []
    return found


def table() -> str:
    """Return the table of all settings."""
    said = comments()
    rows = [f"| `{name}` | `{json.dumps(value)}` | {said.get(name, '')} |" for name, value in leaves(values())]
    return "\n".join(["| value | default | meaning |", "|---|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    readme = CHART / "README.md"
    before = readme.read_text(encoding="utf-8").partition(MARK)[0]
    readme.write_text(f"{before}{MARK}\n{table()}", encoding="utf-8")
