"""The programs of tools/, which are scripts and in no package, as modules."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

TOOLS = Path(__file__).parents[2] / "tools"


def load_tool(name: str) -> Any:
    """Import a program of tools/ by its name without ``.py``.

    Any, since no module of that name is known to mypy.
    """
    spec = importlib.util.spec_from_file_location(f"credrotator_tools.{name}", TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    # Before it is run: a dataclass looks its module up by name.
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
