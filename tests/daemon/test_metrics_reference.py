"""docs/metrics.md is the list of all metrics: each is there with its type and labels, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from credrotator.core.model import Outcome
from credrotator.observability.metrics import Metrics
from tests.unit.twins import HOUR, KEY, NOW, SECRET

PAGE = Path(__file__).parent.parent.parent / "docs" / "metrics.md"
_ROW = re.compile(r"^\| `(credrotator_\w+)` \| (\w+) \|(.*?)\| (.+) \|$", re.MULTILINE)


def existing() -> dict[str, tuple[str | None, set[str]]]:
    """Return type and labels of every metric of ours, by the name under which it is queried."""
    metrics = Metrics()
    metrics.record(Outcome(KEY, "aws-oidc", "rotated", "Missing", SECRET, NOW + HOUR, NOW))
    found: dict[str, tuple[str | None, set[str]]] = {}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            name = metric._name + ("_total" if metric._type == "counter" else "")
            found[name] = (metric._type, set(metric._labelnames))
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        if family.name.startswith("credrotator_credential_"):
            found[family.name] = (family.type, set(family.samples[0].labels))
    return found


def test_the_page_lists_what_there_is() -> None:
    """Names, types and labels; every row says what the metric means."""
    found = _ROW.findall(PAGE.read_text(encoding="utf-8"))
    rows = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels, _ in found}
    assert rows == existing()


def test_every_metric_speaks_for_itself() -> None:
    """What a scraper sees has a help text."""
    families = list(text_string_to_metric_families(Metrics().exposition().decode()))
    assert [family.name for family in families if not family.documentation] == []
