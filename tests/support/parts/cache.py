"""Where fetched and built parts are kept between runs, outside the checkout.

An entry is made in a directory of its own and renamed into place when it is whole, so the name of the entry
is its own finish marker: a build that was killed leaves nothing that a later run could take for a result.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class BuildError(Exception):
    """A part could not be fetched or built; the message says which command failed and how it ended."""


def default_root() -> Path:
    """Return the cache directory that the environment names, else the one of the user."""
    if named := os.environ.get("CREDROTATOR_E2E_CACHE"):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "credrotator-e2e"


@dataclass(frozen=True)
class Cache:
    """Finished parts by name; a name carries its version, so a new version is a new entry."""

    root: Path

    def entry(self, name: str, make: Callable[[Path], None]) -> Path:
        """Return the directory of a part, made by `make(directory)` if it is not there yet.

        Two runs at once make it once: the second waits for the first.
        """
        finished = self.root / name
        if finished.is_dir():
            return finished
        self.root.mkdir(parents=True, exist_ok=True)
        with self._locked(name):
            if not finished.is_dir():
                self._make(finished, make)
        return finished

    def _make(self, finished: Path, make: Callable[[Path], None]) -> None:
        unfinished = Path(tempfile.mkdtemp(prefix=f".{finished.name}-", dir=self.root))
        began = time.monotonic()
        _tell(f"making {finished.name}, once and for all runs to come")
        try:
            make(unfinished)
            unfinished.rename(finished)
            _tell(f"made {finished.name} in {time.monotonic() - began:.0f} s")
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        with (self.root / f".{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _tell(line: str) -> None:
    """Say to a waiting person what takes minutes; seen where pytest captures nothing (`-s`)."""
    sys.stderr.write(f"\ne2e: {line}\n")


def run_tool(*argv: str, cwd: Path, env: Mapping[str, str] | None = None) -> None:
    """Run a build tool at low priority; a failure carries the end of what it printed."""
    command: Sequence[str] = ("nice", *argv)
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BuildError(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout[-4000:]}")
