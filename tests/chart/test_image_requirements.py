"""The image installs the run-time part of the lock, with the lock's hashes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCK = """\
# made by a tool
one==1.0 \\
    --hash=sha256:aa \\
    --hash=sha256:ab
Two.Parts==2.0 ; sys_platform == 'linux' \\
    --hash=sha256:bb
dev-only==3.0 \\
    --hash=sha256:cc
"""


def say(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the tool."""
    command = [sys.executable, str(ROOT / "tools" / "image_requirements.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """A lock with three entries."""
    file = tmp_path / "requirements.lock"
    file.write_text(LOCK)
    return file


def resolve(directory: Path, *names: str) -> Path:
    """Write a report as pip does."""
    file = directory / "report.json"
    file.write_text(json.dumps({"install": [{"metadata": {"name": name}} for name in names]}))
    return file


def test_pins_have_no_hashes(lock: Path) -> None:
    """As constraints, entries keep their version and marker only."""
    assert say("pins", lock).stdout.splitlines() == [
        "one==1.0",
        "Two.Parts==2.0 ; sys_platform == 'linux'",
        "dev-only==3.0",
    ]


def test_only_what_is_needed_is_installed(lock: Path, tmp_path: Path) -> None:
    """What was resolved is cut out of the lock whole, however its name is spelt; the rest stays out."""
    done = say("locked", lock, resolve(tmp_path, "two-parts", "One"))
    assert done.stdout.splitlines() == LOCK.splitlines()[1:6]


def test_what_the_lock_lacks_is_an_error(lock: Path, tmp_path: Path) -> None:
    """Nothing gets into the image without a hash of the lock."""
    done = say("locked", lock, resolve(tmp_path, "one", "stranger"))
    assert done.returncode != 0
    assert "stranger" in done.stderr


def test_extras_are_added() -> None:
    """An extra adds its requirements; without any, only the project's own stand there."""
    plain, more = (say("direct", ROOT / "pyproject.toml", extras).stdout for extras in ("", "sandbox"))
    assert "boto3" in plain
    assert "werkzeug" not in plain
    assert more.startswith(plain)
    assert "werkzeug" in more


def test_every_direct_requirement_is_locked() -> None:
    """The lock covers what the image asks for."""
    pinned = {line.partition("==")[0] for line in say("pins", ROOT / "requirements.lock").stdout.splitlines()}
    asked = {line.split(">")[0] for line in say("direct", ROOT / "pyproject.toml", "sandbox").stdout.splitlines()}
    assert asked <= pinned
