"""The alerts before Prometheus' own judge: well-formed as they lie there and as the chart renders them, and right."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.chart.monitoring import RULES, alerts
from tests.support.parts import prometheus
from tests.support.parts.cache import Cache, default_root

if TYPE_CHECKING:
    from tests.chart.rendering import Helm

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(40 * 60)]

SERIES = Path(__file__).parent / "alerts" / "series.yaml"


@pytest.fixture(scope="session")
def promtool() -> Path:
    """Return promtool, of this machine or of the real parts."""
    return prometheus.executable(Cache(default_root()), "promtool")


def run(promtool: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of promtool."""
    return subprocess.run([str(promtool), *arguments], capture_output=True, text=True, check=False)


def rendered(helm: Helm, directory: Path, **values: Any) -> Path:
    """Write the rules that the chart renders, as a rule file."""
    spec = helm.render({"prometheusRule": {"enabled": True, **values}}).one("PrometheusRule")["spec"]
    file = directory / "alerts.yaml"
    file.write_text(yaml.safe_dump(spec))
    return file


def judge(promtool: Path, rules: Path, directory: Path) -> subprocess.CompletedProcess[str]:
    """Play the recorded series to some rules."""
    if rules.parent != directory:
        shutil.copy(rules, directory / "alerts.yaml")
    shutil.copy(SERIES, directory)
    return run(promtool, "test", "rules", str(directory / SERIES.name))


def test_well_formed(promtool: Path, helm: Helm, tmp_path: Path) -> None:
    """Names, expressions, templates: the file that lies there, and what the chart makes of it."""
    for file in (RULES, rendered(helm, tmp_path, alertLabels={"team": "x"}, matchers='job=~"a|b", cluster="eu"')):
        done = run(promtool, "check", "rules", str(file))
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"SUCCESS: {len(alerts())} rules found" in done.stdout


def test_on_recorded_series(promtool: Path, tmp_path: Path) -> None:
    """Each alert fires when it should, and is quiet when it should be."""
    done = judge(promtool, RULES, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_charts_rules_on_recorded_series(promtool: Path, helm: Helm, tmp_path: Path) -> None:
    """The chart changes nothing but what it is told to."""
    file = rendered(helm, tmp_path, matchers='job="credrotator"')
    done = judge(promtool, file, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", alerts())
def test_the_series_would_notice(promtool: Path, tmp_path: Path, name: str) -> None:
    """An alert that never fires, or one that always does, does not get past the recorded series."""
    for expression in ("vector(1) > 2", "vector(1)"):
        whole = yaml.safe_load(RULES.read_text(encoding="utf-8"))
        (rule,) = (found for found in whole["groups"][0]["rules"] if found["alert"].endswith(name))
        rule["expr"] = expression
        (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(whole))
        assert judge(promtool, tmp_path / "alerts.yaml", tmp_path).returncode, expression


def test_runbooks_and_labels_are_the_operators(helm: Helm, tmp_path: Path) -> None:
    """Where the runbooks are and what Alertmanager routes by is set by the values; the job is the release's."""
    file = rendered(helm, tmp_path, alertLabels={"team": "x"}, runbookUrl="https://docs.example.com/runbooks/%s/")
    (group,) = yaml.safe_load(file.read_text())["groups"]
    for name, rule in zip(alerts(), group["rules"], strict=True):
        assert rule["annotations"]["runbook_url"] == f"https://docs.example.com/runbooks/{name}/"
        assert rule["labels"] == {**alerts()[name]["labels"], "team": "x"}
        assert 'job="eu-credrotator"' in rule["expr"]
        assert 'job="credrotator"' not in rule["expr"]
