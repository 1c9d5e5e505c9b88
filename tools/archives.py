"""Pack a release's archives so that the same content makes the same bytes: the chart, and the plugin for kubectl.

Entries are sorted, belong to nobody, and bear one time, which is the commit's; gzip's header names no file.
The chart's archive is what `helm package` makes; the plugin's is for krew, which links its program into the PATH.
Source: https://helm.sh/docs/topics/charts, https://krew.sigs.k8s.io/docs/developer-guide/plugin-manifest.
"""

import gzip
import io
import platform
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path

EXECUTABLE, PLAIN = 0o755, 0o644
LEFT_OUT = {"__pycache__", "direct_url.json"}
"""What differs from machine to machine: compiled files bear times, and pip notes from where it installed."""
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
LAUNCHER = """\
#!/bin/sh
# krew links this program into the PATH: the packages lie beside the file that the link leads to.
set -eu
program=$0
while [ -L "$program" ]; do
  target=$(readlink "$program")
  case $target in /*) program=$target ;; *) program=$(dirname "$program")/$target ;; esac
done
packages=$(CDPATH= cd -- "$(dirname -- "$program")" && pwd)/packages
python=python{minor}
command -v "$python" >/dev/null 2>&1 || {{
  echo "kubectl-credrotator needs $python, for which its packages are built; or install it by pipx" >&2
  exit 2
}}
start="import sys; from credrotator.cli.main import main; sys.argv[0] = 'kubectl-credrotator'; main()"
PYTHONPATH=$packages exec "$python" -P -c "$start" "$@"
"""


def pack(target: Path, entries: Iterable[tuple[str, bytes, int]], at_s: int) -> None:
    """Write a .tar.gz of entries (name, content, mode); ``at_s`` is their time in Unix seconds."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content, mode in sorted(entries):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(content), mode, at_s
            archive.addfile(entry, io.BytesIO(content))
    target.write_bytes(gzip.compress(held.getvalue(), mtime=at_s))


def chart(folder: Path) -> list[tuple[str, bytes, int]]:
    """Return a chart's files, as they lie in its archive."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return [(f"{folder.name}/{file.relative_to(folder)}", file.read_bytes(), PLAIN) for file in files]


def plugin(packages: Path, license_file: Path) -> list[tuple[str, bytes, int]]:
    """Return the plugin's files: a launcher, and all packages of an environment (its site-packages)."""
    found: list[tuple[str, bytes, int]] = []
    for file in packages.rglob("*"):
        below = file.relative_to(packages)
        if file.is_file() and not LEFT_OUT & set(below.parts):
            found.append((f"packages/{below}", file.read_bytes(), PLAIN))
    launcher = LAUNCHER.format(minor=f"{sys.version_info.major}.{sys.version_info.minor}")
    found.append(("LICENSE", license_file.read_bytes(), PLAIN))
    return [*found, ("kubectl-credrotator", launcher.encode(), EXECUTABLE)]


def system() -> tuple[str, str]:
    """Return this machine's operating system and processor, by krew's (Go's) names."""
    machine = platform.machine().lower()
    return platform.system().lower(), ARCHITECTURES.get(machine, machine)


def manifest(version: str, archive: str, digest: str, location: str) -> str:
    """Return krew's manifest of the plugin; ``location`` is the address below which the archive will lie."""
    name, processor = system()
    return f"""\
apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: credrotator
spec:
  version: v{version}
  shortDescription: Keep an AI gateway's cloud credentials fresh
  description: |
    Shows, tests and rotates the cloud credentials of an Envoy AI Gateway:
    kubectl credrotator status -A, kubectl credrotator check NAMESPACE/NAME.
  caveats: |
    Needs python{sys.version_info.major}.{sys.version_info.minor}.
  platforms:
    - selector:
        matchLabels: {{os: {name}, arch: {processor}}}
      uri: {location}/{archive}
      sha256: {digest}
      bin: kubectl-credrotator
"""
