"""Helm and a cluster as fixtures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chart import rendering
from tests.support.parts import cluster
from tests.support.parts.cache import Cache, default_root
from tests.support.parts.kubernetes import Programs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chart.rendering import Helm
    from tests.support.parts.cluster import Cluster

NAMESPACES = (rendering.NAMESPACE, "team-a", "team-b", "vault")


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm, of this machine or of the real parts."""
    return rendering.find(tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="module")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster for the tests of one file, with the namespaces that they speak of."""
    programs = Programs(Cache(default_root()))
    with cluster.serving(programs, directory=tmp_path_factory.mktemp("cluster")) as running:
        running.apply(*({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in NAMESPACES))
        yield running
