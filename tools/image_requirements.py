#!/usr/bin/env python3
"""Say what the image installs: the part of the lock that the project needs when it runs, hashes and all.

The lock also holds what developers need. pip resolves the direct requirements under the lock's constraints, and what it
names is cut out of the lock: for `pip --require-hashes` it is not enough that a constraints file has the hashes.

    image_requirements.py direct PYPROJECT EXTRAS     what the project and its extras (EXTRAS: a,b) ask for
    image_requirements.py pins LOCK                   the lock's versions, as constraints
    image_requirements.py locked LOCK REPORT          the lock's entries for what `pip install --report` resolved
"""

import json
import re
import sys
import tomllib
from pathlib import Path


def direct(pyproject: str, extras: str) -> list[str]:
    """Return the requirements of the project and of the extras that are named, separated by commas."""
    project = tomllib.loads(Path(pyproject).read_text(encoding="utf-8"))["project"]
    optional = project.get("optional-dependencies", {})
    named = [name for name in extras.split(",") if name]
    return [*project["dependencies"], *(line for name in named for line in optional[name])]


def pins(lock: str) -> list[str]:
    """Return each entry of a lock without its hashes."""
    return [entry.partition("\\")[0].strip() for entry in entries(lock).values()]


def locked(lock: str, report: str) -> list[str]:
    """Return the entries of a lock for the packages of a resolution."""
    resolved = json.loads(Path(report).read_text(encoding="utf-8"))["install"]
    wanted = {normal(package["metadata"]["name"]) for package in resolved}
    found = entries(lock)
    if missing := wanted - found.keys():
        sys.exit(f"the lock lacks {', '.join(sorted(missing))}: run make lock")
    return [found[name] for name in sorted(wanted)]


def entries(lock: str) -> dict[str, str]:
    """Return a lock's entries by package; one begins at the margin with NAME==, its hashes follow, indented."""
    parts = re.split(r"^(?=\S)", Path(lock).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {normal(part.partition("==")[0]): part.rstrip() for part in parts if "==" in part}


def normal(name: str) -> str:
    """Return a package's name as PyPI compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    match sys.argv[1:]:
        case "direct", pyproject, extras:
            lines = direct(pyproject, extras)
        case "pins", lock:
            lines = pins(lock)
        case "locked", lock, report:
            lines = locked(lock, report)
        case _:
            sys.exit(__doc__)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
