"""The programs of the real parts, each built when a test first needs it."""

from pathlib import Path

import pytest

from tests.support.parts import cache, controller
from tests.support.parts.kubernetes import Programs


@pytest.fixture(scope="session")
def parts() -> cache.Cache:
    """The cache that the parts come from."""
    return cache.Cache(cache.default_root())


@pytest.fixture(scope="session")
def programs(parts: cache.Cache) -> Programs:
    """etcd, Kubernetes and Helm, each built when it is needed."""
    return Programs(parts)


@pytest.fixture(scope="session")
def gateway_program(parts: cache.Cache) -> Path:
    """The gateway's controller."""
    return controller.executable(parts)
