#!/usr/bin/env python3
"""Start a container image and rotate with it, against the sandbox on this side.

    try_image.py NAME:TAG

By buildah in chroot isolation, so without a container engine; needs root, and `credrotator[sandbox]` around it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from credrotator.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

EXAMPLES = Path(__file__).parent.parent / "examples"
WRITTEN_FOR = "https://localhost:9443"
USER = 65532
# What a container of this image must not be able to do, as a program for its own Python.
CONFINED = """
import importlib.util, os, sys
if os.getuid() == 0 or os.getgid() == 0:
    sys.exit("it runs as root")
for tool in ("pip", "ensurepip"):
    if importlib.util.find_spec(tool):
        sys.exit(f"{tool} is there")
for place in ("/", "/opt/credrotator", sys.prefix, "/usr/bin"):
    if os.access(place, os.W_OK):
        sys.exit(f"{place} can be written")
print(f"uid {os.getuid()}, Python {sys.version.split()[0]}, nothing to install with, nothing to write to")
"""


@dataclass(frozen=True)
class Container:
    """A container of the image, with one directory of this side in it, at the same place."""

    name: str
    shared: Path

    def run(self, *command: str, env: Mapping[str, str] | None = None) -> str:
        """Run a command as the image's user and return what it printed.

        Raises:
            SystemExit: It failed; its own words were printed.
        """
        variables = [f"{name}={value}" for name, value in (env or {}).items()]
        options = ["--isolation", "chroot", "--volume", f"{self.shared}:{self.shared}"]
        done = subprocess.run(  # noqa: S603
            ["buildah", "run", *options, self.name, "--", "env", *variables, *command],  # noqa: S607
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        sys.stdout.write(done.stdout)
        if done.returncode:
            sys.exit(f"{command[0]} {command[1]} ended with {done.returncode} in the container")
        return done.stdout


def main(image: str) -> None:
    """Try an image; ends with an error as soon as something is not as it should be."""
    with tempfile.TemporaryDirectory(prefix="credrotator-image-") as temporary:
        place = Path(temporary)
        place.chmod(0o755)
        out = place / "credentials"
        out.mkdir(mode=0o700)
        os.chown(out, USER, USER)
        with Sandbox(place / "sandbox") as sandbox, container(image, place) as tried:
            policies = fit_examples(place / "policies", sandbox.issuer.url)
            tried.run("credrotator", "--version")
            tried.run("python3", "-c", CONFINED)
            rotate = ("credrotator", "rotate", "-f", str(policies), "--out", str(out))
            tried.run(*rotate, env=sandbox.environment())
            published = [file for name in ("credentials", "azureAccessToken") for file in out.glob(f"*/*/{name}")]
            if not published or any(file.stat().st_uid != USER or not file.stat().st_size for file in published):
                sys.exit("the credentials are not where they should be")
            tried.run(*rotate, env=sandbox.environment())
    sys.stdout.write(f"{image} works: {len(published)} credentials published, then kept\n")


@contextmanager
def container(image: str, shared: Path) -> Iterator[Container]:
    """Make a container of an image, and remove it in the end."""
    made = subprocess.run(["buildah", "from", image], stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603, S607
    name = made.stdout.strip()
    try:
        yield Container(name, shared)
    finally:
        subprocess.run(["buildah", "rm", name], stdout=subprocess.DEVNULL, check=True)  # noqa: S603, S607


def fit_examples(directory: Path, issuer: str) -> Path:
    """Copy the manifests of the examples, with the sandbox's own issuer in them."""
    directory.mkdir()
    for manifest in EXAMPLES.glob("*.yaml"):
        text = manifest.read_text(encoding="utf-8")
        (directory / manifest.name).write_text(text.replace(WRITTEN_FOR, issuer), encoding="utf-8")
    return directory


if __name__ == "__main__":
    main(sys.argv[1])
