"""The metrics that there are: name, type and labels of each, as a scrape would bring them."""

from __future__ import annotations

from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from credrotator.core.outcome import Outcome
from credrotator.observability.metrics import Metrics
from tests.support.twins import HOUR, KEY, NOW, SECRET


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
