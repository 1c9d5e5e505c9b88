"""How modules hang together: what import-linter's layers do not see, inside of packages."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import credrotator

PACKAGE = Path(credrotator.__file__).parent
MOST_PARAMETERS = 8
CLIENT_MAY_USE = {
    *("core.clock", "core.errors", "core.http_response", "core.keep_alive", "core.model", "core.one_write"),
    *("core.ports", "core.sensitive", "core.threads"),
}
"""What every layer may: the clock, printable texts, keys and secrets."""


def graph(files: dict[str, Path]) -> dict[str, set[str]]:
    """Return which modules each one imports, wherever it does, those that only type checkers see included."""
    return {name: {target for target in imported(path) if target in files} for name, path in files.items()}


def imported(path: Path) -> set[str]:
    """Return what a file imports by name; of ``from package import name`` both, since either may be the module."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= whole
            # A package that is only passed through on the way to its module is no dependency of the importer's.
            if any(name not in MODULES for name in whole):
                names.add(node.module)
    return names


def modules(package: Path) -> dict[str, Path]:
    """Return the files of a package by module name."""
    files = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package.parent).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return files


MODULES = modules(PACKAGE)


def test_no_circles() -> None:
    """No module needs, directly or through others, one that needs it: each can be read, and tried, from below."""
    try:
        TopologicalSorter(graph(MODULES)).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_a_circle_is_found(tmp_path: Path) -> None:
    """One that only type checkers see is one too."""
    (tmp_path / "a.py").write_text("import b\n")
    (tmp_path / "b.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a import A\n")
    files = {"a": tmp_path / "a.py", "b": tmp_path / "b.py"}
    with pytest.raises(CycleError):
        TopologicalSorter(graph(files)).prepare()


def test_the_client_for_the_api_server_knows_nothing_of_ours() -> None:
    """It could serve any other program; a module that is added tomorrow is no exception, as in import-linter's list."""
    allowed = {f"credrotator.{name}" for name in CLIENT_MAY_USE}
    for name, targets in graph(MODULES).items():
        if name.startswith("credrotator.kube.client"):
            ours = {target for target in targets if not target.startswith("credrotator.kube.client")}
            assert ours <= allowed, name


def test_a_pass_loads_nothing_of_the_daemon() -> None:
    """One pass, over a directory or a cluster, has neither metrics nor a timetable; a directory's no cluster either."""
    script = (
        "import sys, credrotator.cli.rotate, credrotator.cli.check, credrotator.cli.status, credrotator.cli.convert\n"
        "directory = set(sys.modules)\n"
        "import credrotator.app.cluster_backend\n"
        "print({'prometheus_client', 'apscheduler'} & set(sys.modules), [n for n in directory if '.kube' in n])"
    )
    answer = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert answer.stdout == "set() []\n"


def test_constructors_take_at_most_eight_parameters() -> None:
    """What needs more does more than one thing. Plain data (dataclasses) may have as many fields as it has.

    The sandbox is let off: it has a port for each of its servers.
    """
    wide = [
        f"{name}.{node.name}"
        for name, path in MODULES.items()
        if not name.startswith("credrotator.sandbox")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        for each in node.body
        if isinstance(each, ast.FunctionDef) and each.name == "__init__"
        # Self is none of them.
        if len(each.args.posonlyargs + each.args.args + each.args.kwonlyargs) - 1 > MOST_PARAMETERS
    ]
    assert wide == []
