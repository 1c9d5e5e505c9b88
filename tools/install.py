"""Install what a lock file pins with pip, and say how far that is: on a slow line it takes minutes.

At a terminal one line tells the present package and the time; elsewhere a line follows every ten seconds. Must work
with nothing but the standard library, since it installs the rest.
"""

import re
import subprocess
import sys
import threading
import time
from pathlib import Path

_PIP = ("-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar=off", "--require-hashes")
_PINNED = re.compile(r"^[A-Za-z0-9][^\s;]*==", re.MULTILINE)
_TERMINAL_S, _FILE_S = 1.0, 10.0


class Progress:
    """What pip's output says of how far it is.

    Args:
        packages: How many there are to be, at most: some are for other platforms.
    """

    def __init__(self, packages: int) -> None:
        self._packages = packages
        self._found = 0
        self.stage = "starting"

    def read(self, line: str) -> None:
        """Take note of a line of pip's output."""
        word, _, rest = line.strip().partition(" ")
        if word == "Collecting":
            self._found += 1
            self.stage = f"fetching {self._found} of {self._packages}: {re.split(r'[=<>!~ ;[]', rest)[0]}"
        elif line.startswith("Installing collected packages"):
            self.stage = f"unpacking {self._found} packages"


def main(lock: Path) -> int:
    """Install; return pip's exit code, after pip's own words if it failed."""
    progress = Progress(len(_PINNED.findall(lock.read_text(encoding="utf-8"))))
    over = threading.Event()
    shown = threading.Thread(target=_show, args=(progress, over), daemon=True)
    shown.start()
    lines: list[str] = []
    command = (sys.executable, *_PIP, "--requirement", str(lock))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:  # noqa: S603 - pip itself
        assert pip.stdout  # noqa: S101 - asked for above
        for line in pip.stdout:
            lines.append(line)
            progress.read(line)
    over.set()
    shown.join()
    if pip.returncode:
        sys.stderr.writelines(lines[-20:])
    return pip.returncode


def _show(progress: Progress, over: threading.Event) -> None:
    terminal, began = sys.stdout.isatty(), time.monotonic()
    while not over.wait(_TERMINAL_S if terminal else _FILE_S):
        text = f"      {progress.stage}, {time.monotonic() - began:.0f} s"
        _write(f"\r{text}\x1b[K" if terminal else f"{text}\n")
    if terminal:
        _write("\r\x1b[K")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
