"""AWS's SDK for Go follows ``credential_process``: one process, several credentials over time."""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.cli.asking import arguments, let_it_be_due
from tests.support.command_line import PROGRAM, Backend
from tests.support.parts.cache import Cache, default_root
from tests.support.parts.go_tool import build

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(20 * 60)]

VERSION = "1.33.9"
"""Of the module ``config`` in ``tools/aws_sdk/go.mod``."""


@pytest.fixture(scope="session")
def client() -> Path:
    """Return a program that prints the key that the SDK signs with, each time it is asked."""
    return build(Cache(default_root()), "aws_sdk", package=".", version=VERSION)


def test_one_process_follows(client: Path, world: Backend, short_lives: None) -> None:
    """It signs with the first credential, then with what a rotation published, then renews by itself."""
    world.aws()
    config = world.directory / "config"
    config.write_text(
        f"[default]\nregion = us-east-1\ncredential_process = {shlex.join([*PROGRAM, *arguments(world)])}\n"
    )
    own = {"AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": str(world.directory / "none")}
    # Keys in the environment would win over the file.
    environment = {name: text for name, text in os.environ.items() if not name.startswith("AWS_ACCESS_KEY")} | own
    with subprocess.Popen(
        [str(client)], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout

        def key() -> str:
            assert process.stdin
            assert process.stdout
            process.stdin.write("\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        first = key()
        assert world.rotate("--force").code == 0
        second = key()
        let_it_be_due(world)
        third = key()
        process.stdin.close()
    assert process.returncode == 0
    assert len({first, second, third} - {""}) == 3
    assert third in world.value()
