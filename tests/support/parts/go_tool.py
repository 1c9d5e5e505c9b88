"""Go programs, built from their modules at the versions that `tools/<module>/go.mod` pins.

NOTE: the small go.mod names the program as a `tool` and no checksum file lies beside it: minimal version selection
makes the build list depend on that one line, and the checksum database vouches for the contents.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.support.parts.cache import Cache, run_tool

_TOOLS = Path(__file__).parent / "tools"
# The machine may have other work: two compilers at once, whatever it has cores.
_JOBS = 2


def build(
    cache: Cache,
    name: str,
    *,
    package: str,
    version: str,
    module: str | None = None,
    stamp: Mapping[str, str] | None = None,
    tags: str = "",
) -> Path:
    """Return the executable of a Go package, built on the first call.

    Args:
        cache: Where it is kept.
        name: What the executable is called.
        package: Its import path.
        version: What tells this build from the next in the cache.
        module: The directory of `tools/` with its go.mod, where that is not named like the program.
        stamp: Variables of the program that the linker sets, by import path and name.
        tags: Build constraints that hold, separated by commas.
    """
    linking = " ".join(("-s -w", *(f"-X {variable}={value}" for variable, value in (stamp or {}).items())))

    def make(directory: Path) -> None:
        source = directory / "source"
        shutil.copytree(_TOOLS / (module or name), source)
        # Whatever repository the cache may lie in says nothing about the program: no stamp of a commit.
        run_tool(
            "go", "build", "-mod=mod", "-buildvcs=false", "-trimpath",
            f"-p={_JOBS}", f"-tags={tags}", f"-ldflags={linking}", "-o", f"../{name}", package,
            cwd=source,
            env={"GOFLAGS": ""},
        )  # fmt: skip

    return cache.entry(f"{name}-{version}", make) / name


def module_directory(tool: str, module: str, *, scratch: Path) -> Path:
    """Return where the sources of a module lie that `tools/<tool>/go.mod` depends on; they are read-only."""
    copy = scratch / tool
    if not copy.is_dir():
        shutil.copytree(_TOOLS / tool, copy)
    env = {"GOFLAGS": "-mod=mod"}
    run_tool("go", "mod", "download", module, cwd=copy, env=env)
    listing = ("go", "list", "-m", "-f", "{{.Dir}}", module)
    listed = subprocess.run(listing, cwd=copy, env={**os.environ, **env}, capture_output=True, text=True, check=True)
    return Path(listed.stdout.strip())
