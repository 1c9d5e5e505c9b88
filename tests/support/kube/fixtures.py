"""A simulated API server and a client for each test; nothing of the machine's own cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.kube.simulator import ApiServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from credrotator.kube.client.api import KubeApi


@pytest.fixture(autouse=True)
def _no_own_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[ApiServer]:
    """Run a server for the length of a test."""
    with ApiServer() as running:
        yield running


@pytest.fixture
def api(server: ApiServer) -> Iterator[KubeApi]:
    """Return a client of it."""
    with server.api() as client:
        yield client
