#!/usr/bin/env python3
"""Make what a release consists of, into dist/: wheel, source archive, parts list (SBOM), checksums; and try the wheel.

The wheel is installed into an empty environment with the versions and hashes of the lock, has to rotate a policy there
against its own sandbox, and the parts list is made of that very environment (CycloneDX, by cyclonedx-py).

    dist.py CYCLONEDX_PY     run by `make dist`, with the Python of .venv
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
DIST = ROOT / "dist"
LOCK = ROOT / "requirements.lock"
EXTRA = "sandbox"
POLICY = "examples/aws-bedrock.yaml"
SECRETS = "examples/secrets.yaml"
WRITTEN_FOR = "https://localhost:9443"


def main(cyclonedx: str) -> None:
    """Build, install, try, list, and add up."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "hatchling", "build", "-d", str(DIST))
    (wheel,) = DIST.glob("*.whl")
    version = wheel.name.split("-")[1]
    with tempfile.TemporaryDirectory(prefix="credrotator-dist-") as temporary:
        place = Path(temporary)
        # Without pip: the parts list is of what runs, not of what installs.
        venv.create(place / "venv", with_pip=False)
        install(wheel, place)
        rotate(place, version)
        inventory(cyclonedx, place, version)
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}" for file in sorted(DIST.iterdir())]
    (DIST / "SHA256SUMS").write_text("\n".join(sums) + "\n", encoding="utf-8")
    print("\n".join(sorted(file.name for file in DIST.iterdir())))  # noqa: T201 - what a person waits for


def install(wheel: Path, place: Path) -> None:
    """Install the wheel with what it needs, as the lock pins it, into the environment of ``place``."""
    tool = [sys.executable, str(ROOT / "tools" / "image_requirements.py")]
    wanted, pins, report, locked = (place / name for name in ("wanted.txt", "pins.txt", "report.json", "locked.txt"))
    wanted.write_text(run(*tool, "direct", str(ROOT / "pyproject.toml"), EXTRA), encoding="utf-8")
    pins.write_text(run(*tool, "pins", str(LOCK)), encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--python", str(python(place))]
    resolve = ["install", "--dry-run", "--constraint", str(pins), "--report", str(report)]
    run(*pip, *resolve, "--requirement", str(wanted))
    locked.write_text(run(*tool, "locked", str(LOCK), str(report)), encoding="utf-8")
    run(*pip, "install", "--no-deps", "--require-hashes", "--requirement", str(locked))
    run(*pip, "install", "--no-deps", str(wheel))
    run(*pip, "check")


def rotate(place: Path, version: str) -> None:
    """Have the installed program say its version and rotate an example; what ends badly ends this."""
    program = str(place / "venv" / "bin" / "credrotator")
    said = run(program, "--version", there=place)
    if said.split()[-1] != version:
        sys.exit(f"the wheel is {version}, and the program says {said}")
    script = (
        # The example names the sandbox's default port; here any free one must do.
        f'sed "s,{WRITTEN_FOR},$CREDROTATOR_ALLOWED_ISSUER," "$0" > policy.yaml && '
        '"$1" rotate -f policy.yaml -f "$2" --out credentials -o json'
    )
    ports = [word for name in ("issuer", "sts", "entra", "google") for word in (f"--{name}-port", "0")]
    sandbox = [program, "sandbox", *ports, "--"]
    shell = ["sh", "-c", script, str(ROOT / POLICY), program, str(ROOT / SECRETS)]
    summary = json.loads(run(*sandbox, *shell, there=place))["summary"]
    if summary != {"rotated": 1, "kept": 0, "skipped": 0, "failed": 0}:
        sys.exit(f"the installed wheel did not rotate the example: {summary}")
    if not (place / "credentials" / "default" / "ai-eg-bsp-aws-bedrock" / "credentials").is_file():
        sys.exit("the installed wheel published nothing")


def inventory(cyclonedx: str, place: Path, version: str) -> None:
    """Write the parts list of the environment; the same parts make the same file."""
    # The tool reads the project's version where it is written, and here it is taken from the package.
    project = place / "pyproject.toml"
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project.write_text(text.replace('dynamic = ["version"]', f'version = "{version}"'), encoding="utf-8")
    options = ["--output-reproducible", "--output-format", "JSON", "--validate", "--mc-type", "application"]
    file = DIST / f"credrotator-{version}.cdx.json"
    run(cyclonedx, "environment", *options, "--pyproject", str(project), "--output-file", str(file), str(python(place)))
    listed = json.loads(file.read_text(encoding="utf-8"))
    if listed["metadata"]["component"].get("version") != version or not listed["components"]:
        sys.exit(f"{file.name} does not list the parts of credrotator {version}")


def python(place: Path) -> Path:
    """Return the interpreter of the environment."""
    return place / "venv" / "bin" / "python"


def run(*command: str, there: Path = ROOT) -> str:
    """Run a command and return what it printed; where it fails, so does this, after showing its errors."""
    left_out = ("AWS_", "AZURE_", "CREDROTATOR_", "AI_GATEWAY_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    done = subprocess.run(command, cwd=there, env=environment, text=True, stdout=subprocess.PIPE, check=False)  # noqa: S603
    if done.returncode:
        sys.exit(f"{shown(command)} ended with {done.returncode}\n{done.stdout}")
    return done.stdout


def shown(command: Sequence[str]) -> str:
    """Return a command as a person would know it."""
    return " ".join(Path(part).name if part.startswith("/") else part for part in command)[:200]


if __name__ == "__main__":
    if len(sys.argv) != 2:  # noqa: PLR2004 - the program and its one argument
        sys.exit(__doc__)
    main(sys.argv[1])
