"""Go programs, built from their modules at the versions that `tools/<name>/go.mod` pins.

NOTE: the small go.mod names the program as a `tool` and no checksum file lies beside it: minimal version selection
makes the build list depend on that one line, and the checksum database vouches for the contents.
"""

import shutil
from pathlib import Path

from tests.e2e.parts.cache import Cache, run_tool

_TOOLS = Path(__file__).parent / "tools"


def build(cache: Cache, name: str, *, package: str, version: str) -> Path:
    """Return the executable of a Go package, built on the first call."""

    def make(directory: Path) -> None:
        source = directory / "source"
        shutil.copytree(_TOOLS / name, source)
        # Whatever repository the cache may lie in says nothing about the program: no stamp.
        run_tool(
            "go", "build", "-mod=mod", "-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-o", f"../{name}", package,
            cwd=source,
            env={"GOFLAGS": ""},
        )  # fmt: skip

    return cache.entry(f"{name}-{version}", make) / name
