"""What the chart says of itself holds: values, schema, README and versions agree. Needs no Helm."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import yaml

import credrotator
from tests.chart.reference import CHART, MARK, comments, leaves, table, values

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
FREE = {"affinity", "podSecurityContext", "securityContext"}
"""Objects of Kubernetes that the API server checks better than a schema here could."""


def errors(changes: dict[str, Any]) -> list[str]:
    """Return what the schema says of the defaults with some values changed, by dotted name."""
    changed = values()
    for name, value in changes.items():
        *path, last = name.split(".")
        place = changed
        for step in path:
            place = place[step]
        place[last] = value
    validator = jsonschema.Draft7Validator(SCHEMA)
    return [f"{'.'.join(map(str, error.path))}: {error.message}" for error in validator.iter_errors(changed)]


def objects(schema: dict[str, Any], name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every part of the schema that describes an object with known members."""
    if "properties" in schema:
        yield name, schema
    for key, part in {**schema.get("properties", {}), **schema.get("definitions", {})}.items():
        yield from objects(part, f"{name}.{key}".lstrip("."))


def test_schema_is_one() -> None:
    """The schema itself is a valid JSON Schema, of the draft that Helm reads."""
    jsonschema.Draft7Validator.check_schema(SCHEMA)


def test_defaults_conform() -> None:
    """The defaults pass the schema."""
    assert errors({}) == []


@pytest.mark.parametrize(
    ("name", "part"), list(objects(SCHEMA)), ids=lambda value: value if isinstance(value, str) else ""
)
def test_schema_is_strict(name: str, part: dict[str, Any]) -> None:
    """No object takes keys that mean nothing: a misspelt value must not be silently ignored."""
    assert part["additionalProperties"] is False


def test_schema_and_defaults_name_the_same_values() -> None:
    """Every value has a default and every default a place in the schema; `global` is Helm's own."""
    assert {*values(), "global"} == set(SCHEMA["properties"])


def test_every_value_is_explained() -> None:
    """Above each setting stands what it means."""
    said = comments()
    assert [name for name, _ in leaves(values()) if not said.get(name)] == []


def test_readme_has_every_value() -> None:
    """The README's table is what values.yaml says; `python -m tests.chart.reference` writes it."""
    assert (CHART / "README.md").read_text(encoding="utf-8").partition(MARK)[2].strip() == table().strip()


def test_versions_are_the_packages() -> None:
    """Chart, image and package are released together."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["version"] == chart["appVersion"] == credrotator.__version__


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": "cronjob"},
        {"watchNamespaces": ["team-a", "team-b"]},
        {"timeout": "1m30s"},
        {"allowedIssuers": ["https://idp.example.com/realms/*", "http://keycloak.auth.svc:8080/*"]},
        {"image.digest": "sha256:" + "0" * 64},
        {"podDisruptionBudget.maxUnavailable": "50%"},
        {"listen.address": "[::]"},
        {"prometheusRule.matchers": 'job="credrotator", cluster=~"eu-.*"'},
        {"prometheusRule.runbookUrl": "https://docs.example.com/runbooks/%s/"},
        {"cronjob.schedule": "@hourly"},
        {"azure.authorityHost": "login.microsoftonline.us"},
        {"tokenFiles": [{"name": "a", "audience": "b", "namespace": "team-a", "expirationSeconds": 7200}]},
        {"resources.limits": {"memory": "1Gi", "cpu": 1}},
        {"env": {"A": "text", "B": 1, "C": True}},
        {"global": {"anything": {}}},
    ],
    ids=str,
)
def test_right_values_pass(changes: dict[str, Any]) -> None:
    """What a person may well want is not refused."""
    assert errors(changes) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": "daemonset"},
        {"watchNamespace": ["team-a"]},
        {"watchNamespaces": "team-a"},
        {"watchNamespaces": ["Team_A"]},
        {"watchNamespaces": ["team-a", "team-a"]},
        {"timeout": 30},
        {"timeout": "30 seconds"},
        {"workers": 0},
        {"workers": 65},
        {"allowedIssuers": ["idp.example.com"]},
        {"image.digest": "latest"},
        {"image.repository": ""},
        {"image.pullPolicy": "Sometimes"},
        {"replicas": 0},
        {"replicas": "2"},
        {"leaderElection": False},
        {"listen.address": "localhost"},
        {"listen.port": 80},
        {"prometheusRule.matchers": "credrotator"},
        {"prometheusRule.matchers": '{job="credrotator"}'},
        {"prometheusRule.runbookUrl": "https://docs.example.com/runbooks"},
        {"prometheusRule.alertLabels": {"a-b": "c"}},
        {"dashboard.labels": ["grafana_dashboard"]},
        {"podDisruptionBudget.maxUnavailable": 0},
        {"terminationGracePeriodSeconds": 5},
        {"cronjob.schedule": "often"},
        {"cronjob.within": "15"},
        {"networkPolicy.extraPorts": ["https"]},
        {"proxy.https": "proxy.example.com:3128"},
        {"proxy.noProxy": "10.0.0.0/8"},
        {"caBundle.key": "a/b"},
        {"tokenFiles": [{"name": "a"}]},
        {"tokenFiles": [{"name": "../a", "audience": "b"}]},
        {"tokenFiles": [{"name": "a", "audience": "b", "expirationSeconds": 60}]},
        {"tokenFiles": [{"name": "a", "audience": "b", "path": "/etc/passwd"}]},
        {"resources.limits": {"memory": "lots"}},
        {"podLabels": {"app.kubernetes.io/name": "other"}},
        {"env": {"not-a-name": "x"}},
    ],
    ids=str,
)
def test_wrong_values_are_refused(changes: dict[str, Any]) -> None:
    """A wrong value is refused, and the error names it."""
    (name,) = changes
    found = errors(changes)
    assert found
    assert any(name.split(".")[0] in error for error in found)


def test_free_objects_are_few() -> None:
    """Only Kubernetes' own objects are taken as they are."""
    assert {name for name, part in SCHEMA["properties"].items() if part == {"type": "object"}} == FREE
