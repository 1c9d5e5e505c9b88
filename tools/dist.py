#!/usr/bin/env python3
"""Make what a release consists of, into dist/, and try it.

Wheel and source archive, built twice and equal byte for byte; the chart's archive; the plugin for kubectl with krew's
manifest; parts list (SBOM), provenance and checksums. The wheel is installed into an empty environment with the
versions and hashes of the lock, has to rotate a policy there against its own sandbox, and parts list and plugin are
made of that very environment. With DIST_KEY=FILE (an EC key on P-256, PEM), checksums and attestations are signed.

    dist.py CYCLONEDX_PY     run by `make dist`, with the Python of .venv
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import archives
import attestation

ROOT = Path(__file__).parent.parent
DIST = ROOT / "dist"
LOCK = ROOT / "requirements.lock"
EXTRA = "sandbox"
POLICY = "examples/aws-bedrock.yaml"
SECRETS = "examples/secrets.yaml"
SERVERS = ("issuer", "sts", "entra", "google", "anthropic", "openai", "exchange")
WRITTEN_FOR = "https://localhost:9443"


def main(cyclonedx: str) -> None:
    """Build, install, try, list, attest, and add up."""
    key = signing_key()
    commit, at_s = attestation.revision(ROOT)
    shutil.rmtree(DIST, ignore_errors=True)
    wheel = build(at_s)
    version = wheel.name.split("-")[1]
    archives.pack(DIST / f"credrotator-{version}.tgz", archives.chart(ROOT / "charts" / "credrotator"), at_s)
    with tempfile.TemporaryDirectory(prefix="credrotator-dist-") as temporary:
        place = Path(temporary)
        # Without pip: the parts list is of what runs, not of what installs.
        venv.create(place / "venv", with_pip=False)
        install(wheel, place)
        rotate(place, version)
        inventory(cyclonedx, place, version)
        plugin(place, version, at_s)
    attest(version, commit, at_s, key)
    add_up(key)
    print("\n".join(sorted(file.name for file in DIST.iterdir())))  # noqa: T201 - what a person waits for


def signing_key() -> attestation.Key | None:
    """Read the key of DIST_KEY; DIST_KEY_PASSWORD opens an encrypted one."""
    if not (path := os.environ.get("DIST_KEY")):
        return None
    try:
        return attestation.Key(Path(path).read_bytes(), os.environ.get("DIST_KEY_PASSWORD", "").encode() or None)
    except (OSError, ValueError, TypeError) as error:
        sys.exit(f"DIST_KEY={path}: {error}")


def build(at_s: int) -> Path:
    """Build wheel and source archive twice, see that both are the same, and return the wheel."""
    os.environ["SOURCE_DATE_EPOCH"] = str(at_s)
    with tempfile.TemporaryDirectory(prefix="credrotator-twice-") as again:
        for target in (str(DIST), again):
            run(sys.executable, "-m", "hatchling", "build", "-d", target)
        for file in sorted(DIST.iterdir()):
            if file.read_bytes() != (Path(again) / file.name).read_bytes():
                sys.exit(f"{file.name} differs from one build to the next")
    (wheel,) = DIST.glob("*.whl")
    return wheel


def plugin(place: Path, version: str, at_s: int) -> None:
    """Pack the environment as a plugin for kubectl, try it behind a link as krew makes one, and write its manifest."""
    (packages,) = (place / "venv" / "lib").glob("python*/site-packages")
    archive = DIST / f"kubectl-credrotator-{version}-{'-'.join(archives.system())}.tar.gz"
    archives.pack(archive, archives.plugin(packages, ROOT / "LICENSE"), at_s)
    store, path = place / "store", place / "path"
    with tarfile.open(archive) as packed:
        packed.extractall(store, filter="data")
    path.mkdir()
    (path / "kubectl-credrotator").symlink_to(store / "kubectl-credrotator")
    if run(str(path / "kubectl-credrotator"), "--version", there=place).split()[-1] != version:
        sys.exit("the plugin does not run behind a link")
    location = os.environ.get("DIST_URL", "https://example.invalid/credrotator").rstrip("/")
    said = archives.manifest(version, archive.name, attestation.sha256(archive), location)
    (DIST / "credrotator.krew.yaml").write_text(said, encoding="utf-8")


def attest(version: str, commit: str, at_s: int, key: attestation.Key | None) -> None:
    """Write the provenance of all files, and the parts list as a statement about the wheel; signed, with a key."""
    files = sorted(DIST.iterdir())
    parts = json.loads((DIST / f"credrotator-{version}.cdx.json").read_text(encoding="utf-8"))
    locks = [ROOT / name for name in ("requirements.lock", "requirements.docs.lock")]
    made = attestation.provenance(version, commit, locks, datetime.fromtimestamp(at_s, UTC))
    statements = {
        "provenance": attestation.statement(attestation.PROVENANCE, made, files),
        "sbom": attestation.statement(attestation.PARTS_LIST, parts, [*DIST.glob("*.whl")]),
    }
    for name, said in statements.items():
        document = attestation.envelope(said, key) if key else said
        ending = "intoto.jsonl" if key else "statement.json"
        (DIST / f"credrotator-{version}.{name}.{ending}").write_text(json.dumps(document) + "\n", encoding="utf-8")


def add_up(key: attestation.Key | None) -> None:
    """Write the checksums; with a key, their signature and the public key too."""
    sums = DIST / "SHA256SUMS"
    lines = [f"{attestation.sha256(file)}  {file.name}\n" for file in sorted(DIST.iterdir())]
    sums.write_text("".join(lines), encoding="utf-8")
    if key:
        (DIST / "SHA256SUMS.sig").write_text(key.sign(sums.read_bytes()) + "\n", encoding="utf-8")
        (DIST / "release.pub").write_bytes(key.public())


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
        f'sed "s,{WRITTEN_FOR},${{CREDROTATOR_ALLOWED_ISSUER%% *}}," "$0" > policy.yaml && '
        '"$1" rotate -f policy.yaml -f "$2" --out credentials -o json'
    )
    ports = [word for name in SERVERS for word in (f"--{name}-port", "0")]
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
