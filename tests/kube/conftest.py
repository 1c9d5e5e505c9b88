"""A simulated API server and a client for each test; nothing of the machine's own cluster."""

from __future__ import annotations

from tests.support.kube.fixtures import _no_own_cluster, api, server

__all__ = ["_no_own_cluster", "api", "server"]
