"""A sandbox to talk to, and a directory of manifests that fit it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from credrotator.sandbox import DEFAULT_ROLE, Sandbox
from tests.cli.asking import SHORT_LIFE
from tests.support.command_line import Backend

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def running_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Start a sandbox once."""
    with Sandbox(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.fixture
def sandbox(running_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Return the sandbox, without faults, and lead this process and its children to it."""
    for name, value in running_sandbox.environment().items():
        monkeypatch.setenv(name, value)
    yield running_sandbox
    for service in (running_sandbox.issuer, *running_sandbox.vendors):
        service.faults.clear()


@pytest.fixture
def world(tmp_path: Path, sandbox: Sandbox) -> Backend:
    """Return a world with nothing but the clients' Secrets in it."""
    return Backend(tmp_path, sandbox.issuer.url)


@pytest.fixture
def short_lives(sandbox: Sandbox) -> Iterator[None]:
    """Let STS give short lives."""
    sandbox.sts.roles[DEFAULT_ROLE].forced_life = SHORT_LIFE
    yield
    sandbox.sts.roles[DEFAULT_ROLE].forced_life = None
