"""A new provider is one package: what it lacks is named by mypy, and nothing else has to know it.

A made-up provider is added to a copy of the package, first with nothing in it, then whole. mypy has to name each thing
that the first one lacks; the second one has to pass mypy and the layers, and then its policies are read, planned,
exchanged, published and explained by code that has never heard of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import credrotator

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKAGE = Path(credrotator.__file__).parent
MADE_UP = Path(__file__).parent / "made_up"
SOURCE_LACKS = ("asked", "identity", "kind", "own_expiry", "own_references", "token_source", "unusable")
CREDENTIAL_LACKS = ("expires_at", "issued_at", "request_id", "secret_data", "summary")
VENDOR_LACKS = ("credential", "endpoint")
PROVIDER_LACKS = (
    "advice_member",
    "advice_title",
    "advise",
    "annotations",
    "managed",
    "name",
    "options",
    "policy_type",
    "read",
    "sandbox",
    "sources",
    "terraform",
    "terraform_requirement",
    "vendor",
)
EMPTY = '''
"""A provider with nothing in it."""
from dataclasses import dataclass

from credrotator.core.model import Credential, Rotatable
from credrotator.exchange.vendors import Vendor
from credrotator.providers.provider import Provider


@dataclass(frozen=True, slots=True)
class Source(Rotatable):
    """Nothing."""


class Token(Credential):
    """Nothing."""


class Service(Vendor):
    """Nothing."""


class MadeUp(Provider):
    """Nothing."""


THINGS = (Source(), Token(), Service(), MadeUp())
'''


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package."""
    shutil.copytree(PACKAGE, tmp_path / "credrotator", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PACKAGE.parent / "pyproject.toml", tmp_path)
    return tmp_path


def mypy(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Check types in a copy, by the project's own settings."""
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--no-pretty", *arguments]
    environment = {**os.environ, "MYPYPATH": str(folder), "COLUMNS": "10000"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_what_is_missing_is_named(copy: Path) -> None:
    """Everything that the rest of the package asks of a provider is abstract: none can be forgotten."""
    package = copy / "credrotator" / "providers" / "madeup"
    package.mkdir()
    (package / "__init__.py").write_text(EMPTY.lstrip())
    printed = mypy(copy, "-p", "credrotator.providers.madeup").stdout
    for kind, lacks in (
        ("Source", SOURCE_LACKS),
        ("Token", CREDENTIAL_LACKS),
        ("Service", VENDOR_LACKS),
        ("MadeUp", PROVIDER_LACKS),
    ):
        (line,) = [line for line in printed.splitlines() if f'Cannot instantiate abstract class "{kind}"' in line]
        named = _abstract(kind)
        assert set(lacks) == named, f"{kind} asks for {sorted(named)}"
        assert f'"{lacks[0]}"' in line, line


def _abstract(kind: str) -> set[str]:
    from credrotator.core.model import Credential, Rotatable  # noqa: PLC0415
    from credrotator.exchange.vendors import Vendor  # noqa: PLC0415
    from credrotator.providers.provider import Provider  # noqa: PLC0415

    of = {"Source": Rotatable, "Token": Credential, "Service": Vendor, "MadeUp": Provider}[kind]
    return set(getattr(of, "__abstractmethods__", ()))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_whole_one_needs_no_other_change(copy: Path) -> None:
    """Its package, the schema's block and the list of providers are all that is touched; then it works, end to end."""
    touched = _add(copy)
    assert len(touched) <= 6, touched
    checked = mypy(copy, "-p", "credrotator")
    assert checked.returncode == 0, checked.stdout
    ran = subprocess.run(
        [sys.executable, "-c", (MADE_UP / "try_it.py.in").read_text()],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.splitlines()[-1] == "rotated, kept, explained"


def _add(copy: Path) -> list[str]:
    """Add the made-up provider to a copy; return the files of the package that were made or changed for it."""
    package = copy / "credrotator"
    home = package / "providers" / "madeup"
    home.mkdir()
    for source in (MADE_UP / "madeup").iterdir():
        (home / source.stem).write_text(source.read_text())
    schema_edits = {
        '"GCPCredentials"]': '"GCPCredentials", "MadeUpCredentials"]',
        "    credential_override: Any": (
            '    made_up: MadeUpCredentials | None = Field(None, alias="madeUp")\n    credential_override: Any'
        ),
        "class TargetRef(": f"{(MADE_UP / 'schema_block.py.in').read_text()}\n\nclass TargetRef(",
        '    "GCPCredentials": Mechanism(': (
            '    "MadeUpCredentials": Mechanism("madeUp"),\n    "GCPCredentials": Mechanism('
        ),
    }
    first = "PROVIDERS: tuple[Provider, ...] = ("
    edits = {
        "policies/schema.py": schema_edits,
        "providers/__init__.py": {
            first: f"{first}MadeUp(), ",
            "\nif TYPE_CHECKING:": "from credrotator.providers.madeup import MadeUp\n\nif TYPE_CHECKING:",
        },
    }
    for name, changes in edits.items():
        _edit(package / name, changes)
    made = [str(path.relative_to(package)) for path in home.iterdir()]
    return [*made, *edits]


def _edit(file: Path, changes: Mapping[str, str]) -> None:
    """Replace texts, each of which has to be there."""
    text = file.read_text()
    for old, new in changes.items():
        assert old in text, f"{file}: {old}"
        text = text.replace(old, new, 1)
    file.write_text(text)
