"""The dashboard before Grafana's own definition of dashboards and panels.

NOTE: Grafana itself is to be had from none of the registries that the other parts come from, so it is not run.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.chart.monitoring import DASHBOARD, dashboard
from tests.support.parts.cache import Cache, default_root
from tests.support.parts.go_tool import build

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(20 * 60)]


@pytest.fixture(scope="session")
def judge() -> Path:
    """Return a program that judges dashboards, built on Grafana's Foundation SDK."""
    return build(Cache(default_root()), "dashboard", package=".", version="0.0.18")


def complaints(judge: Path, file: Path) -> str:
    """Return what is wrong with a dashboard."""
    done = subprocess.run([str(judge), str(file)], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_well_formed(judge: Path) -> None:
    """Every member is known to Grafana, none that it needs is missing, and all are of the right type."""
    assert complaints(judge, DASHBOARD) == ""


def test_a_slip_is_noticed(judge: Path, tmp_path: Path) -> None:
    """The judge knows the options of each kind of panel."""
    slipped = dashboard()
    (panel, *_) = (panel for panel in slipped["panels"] if panel["type"] == "timeseries")
    panel["options"]["legend"]["placment"] = panel["options"]["legend"].pop("placement")
    file = tmp_path / "dashboard.json"
    file.write_text(json.dumps(slipped))
    assert "placment" in complaints(judge, file)
