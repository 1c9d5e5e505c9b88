"""A simulated API server and a client for each test; nothing of the machine's own cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from credrotator.sandbox import DEFAULT_CLIENT, Client, Role, Sandbox
from tests.daemon.listening import Listening
from tests.support.cluster import OTHER_ROLE, Cluster
from tests.support.fakes import Backend
from tests.support.kube.fixtures import _no_own_cluster, api, server
from tests.support.manifests import aws

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from credrotator.kube.client.api import KubeApi
    from tests.support.kube.simulator import ApiServer

__all__ = ["_no_own_cluster", "api", "server"]


@pytest.fixture(scope="module")
def running_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Start a sandbox once."""
    with Sandbox(tmp_path_factory.mktemp("sandbox")) as running:
        running.sts.roles[OTHER_ROLE] = Role(running.issuer.url, subject=DEFAULT_CLIENT)
        yield running


@pytest.fixture
def sandbox(running_sandbox: Sandbox) -> Iterator[Sandbox]:
    """Return the sandbox, without faults and with an empty log."""
    for service in (running_sandbox.issuer, *running_sandbox.vendors):
        service.requests.clear()
    yield running_sandbox
    for service in (running_sandbox.issuer, *running_sandbox.vendors):
        service.faults.clear()
    running_sandbox.issuer.clients[DEFAULT_CLIENT] = Client("sandbox-client-secret", subject=DEFAULT_CLIENT)


@pytest.fixture
def cluster(server: ApiServer, sandbox: Sandbox, tmp_path: Path) -> Cluster:
    """Return a cluster without policies."""
    return Cluster(server, sandbox, tmp_path)


@pytest.fixture
def world() -> Iterator[Backend]:
    """A daemon of four workers that runs, without policies."""
    here = Backend()
    here.daemon.start()
    yield here
    here.exchange.let_go()
    here.daemon.stop()


@pytest.fixture
def here(server: ApiServer, api: KubeApi) -> Listening:
    """Listen for a policy in the gateway's own form."""
    return Listening(server, api, aws())
