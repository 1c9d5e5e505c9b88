"""docs/metrics.md is the list of all metrics: each is there with its type and labels, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from credrotator.observability.metrics import Metrics
from tests.support.metric_names import existing

PAGE = Path(__file__).parent.parent.parent / "docs" / "metrics.md"
_ROW = re.compile(r"^\| `(credrotator_\w+)` \| (\w+) \|(.*?)\| (.+) \|$", re.MULTILINE)


def test_the_page_lists_what_there_is() -> None:
    """Names, types and labels; every row says what the metric means."""
    found = _ROW.findall(PAGE.read_text(encoding="utf-8"))
    rows = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels, _ in found}
    assert rows == existing()


def test_every_metric_speaks_for_itself() -> None:
    """What a scraper sees has a help text."""
    families = list(text_string_to_metric_families(Metrics().exposition().decode()))
    assert [family.name for family in families if not family.documentation] == []
