"""What is released agrees with itself: one version, and a wheel that holds the package and nothing else."""

from __future__ import annotations

import email
import re
import subprocess
import sys
import tomllib
import zipfile
from typing import TYPE_CHECKING

import pytest
import yaml

import credrotator
from tests.docs.pages import DOCS, ROOT

if TYPE_CHECKING:
    from pathlib import Path

VERSION = credrotator.__version__


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, as `make dist` and pipx do."""
    place = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = place.glob("*.whl")
    return built


def test_the_wheel_bears_the_packages_version(wheel: Path) -> None:
    """The version is written once, in the package; name, licence and extra go with it."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(archive.read(name))
    assert metadata["Name"] == "credrotator"
    assert metadata["Version"] == VERSION
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("Provides-Extra") == ["otel", "sandbox"]


def test_the_wheel_holds_the_package(wheel: Path) -> None:
    """Every module is in it, with its types, the licence and the program; tests and tools are not."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entry_points,) = [archive.read(name).decode() for name in names if name.endswith("entry_points.txt")]
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "credrotator").rglob("*.py")}
    assert modules <= names
    assert "credrotator/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names} == {
        "credrotator",
        f"credrotator-{VERSION}.dist-info",
        f"credrotator-{VERSION}.data",
    }
    data = [name for name in names if name.startswith(f"credrotator-{VERSION}.data/")]
    assert data == [f"credrotator-{VERSION}.data/data/share/man/man1/credrotator.1"]
    assert "credrotator = credrotator.cli.main:main" in entry_points
    assert "kubectl-credrotator = credrotator.cli.main:main" in entry_points


def test_the_image_is_built_of_what_the_wheel_needs() -> None:
    """The Dockerfile copies every file that goes into the wheel from outside the package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    copied = re.findall(r"^COPY (.+) \S+$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    there = {word for line in copied for word in line.split()}
    needed = {*project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"], project["project"]["readme"]}
    needed |= {"credrotator", "pyproject.toml", *project["project"]["license-files"]}
    assert needed <= there
    let_in = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {f"!{name}" for name in needed} <= set(let_in)


def test_chart_and_image_bear_it_too() -> None:
    """The chart's version and appVersion are the package's, and the image's tag is the appVersion unless it is set."""
    chart = yaml.safe_load((ROOT / "charts" / "credrotator" / "Chart.yaml").read_text(encoding="utf-8"))
    values = yaml.safe_load((ROOT / "charts" / "credrotator" / "values.yaml").read_text(encoding="utf-8"))
    assert (chart["version"], chart["appVersion"]) == (VERSION, VERSION)
    assert values["image"]["tag"] == ""


def test_documents_name_this_version() -> None:
    """Where a command of the documentation names an image or a wheel, it is that of this version."""
    named = re.compile(r"(?:credrotator[:-]|VERSION=)(\d+\.\d+\.\d+)")
    for page in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        assert set(named.findall(page.read_text(encoding="utf-8"))) <= {VERSION}, page.name


def test_the_changelog_knows_it() -> None:
    """A version that is released has its heading; until then there is what is not released yet."""
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased" or headings[0].startswith(VERSION)
