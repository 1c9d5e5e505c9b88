"""What the first `make` shows while it installs; it may take minutes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def install() -> Any:
    """Load the installer."""
    spec = importlib.util.spec_from_file_location("install", ROOT / "tools" / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pips_lines_tell_how_far_it_is(install: Any) -> None:
    """The package that is fetched, by number; then that they are unpacked. All other lines change nothing."""
    progress = install.Progress(55)
    seen = []
    for line in (
        "Collecting annotated-types==0.8.0 (from -r requirements.lock (line 7))\n",
        "  Downloading annotated_types-0.8.0-py3-none-any.whl (13 kB)\n",
        'Collecting boto3==1.44.2; python_version >= "3.11" (from -r requirements.lock (line 9))\n',
        "Installing collected packages: boto3, annotated-types\n",
        "Successfully installed annotated-types-0.8.0 boto3-1.44.2\n",
    ):
        progress.read(line)
        seen.append(progress.stage)
    first, second, unpacking = "fetching 1 of 55: annotated-types", "fetching 2 of 55: boto3", "unpacking 2 packages"
    assert seen == [first, first, second, unpacking, unpacking]


def test_what_pip_says_is_shown_when_it_fails(install: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A lock file that pip cannot follow: its exit code, and its own words."""
    lock = tmp_path / "requirements.lock"
    lock.write_text("./nothing-1.0-py3-none-any.whl\n", encoding="utf-8")
    assert install.main(lock) != 0
    assert "nothing-1.0" in capsys.readouterr().err
