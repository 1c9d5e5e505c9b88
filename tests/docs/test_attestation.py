"""What a release says of itself can be verified with programs that others have, and its archives are reproducible."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import tarfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.docs.pages import ROOT
from tests.support.tools import load_tool

if TYPE_CHECKING:
    from pathlib import Path

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not here")
AT_S = 1_764_000_000


attestation, archives = load_tool("attestation"), load_tool("archives")


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Make a key as the documents say."""
    file = tmp_path_factory.mktemp("key") / "release.pem"
    subprocess.run([*attestation.MAKE_ONE.split()[:-1], str(file)], check=True, capture_output=True)
    return file.read_bytes()


def _verified(tmp_path: Path, key: Any, content: bytes, signature: str) -> bool:
    files = {"pub": key.public(), "content": content, "sig": base64.b64decode(signature)}
    for name, held in files.items():
        (tmp_path / name).write_bytes(held)
    asked = ["openssl", "dgst", "-sha256", "-verify", "pub", "-signature", "sig", "content"]
    return subprocess.run(asked, cwd=tmp_path, capture_output=True, check=False).returncode == 0


@needs_openssl
def test_signature(pem: bytes, tmp_path: Path) -> None:
    """Openssl accepts the signature of the file, and of no other."""
    key = attestation.Key(pem)
    signature = key.sign(b"checksums")
    assert _verified(tmp_path, key, b"checksums", signature)
    assert not _verified(tmp_path, key, b"others", signature)


@needs_openssl
def test_envelope(pem: bytes, tmp_path: Path) -> None:
    """A DSSE signature is over the encoding of type and payload, and the payload is the statement."""
    file = tmp_path / "wheel"
    file.write_bytes(b"wheel")
    key = attestation.Key(pem)
    said = attestation.statement(attestation.PARTS_LIST, {"components": []}, [file])
    made = attestation.envelope(said, key)
    payload = base64.b64decode(made["payload"])
    assert json.loads(payload) == said
    assert said["subject"] == [{"name": "wheel", "digest": {"sha256": attestation.sha256(file)}}]
    (signature,) = made["signatures"]
    assert _verified(tmp_path, key, attestation.encoded(payload), signature["sig"])
    assert not _verified(tmp_path, key, payload, signature["sig"])


def test_dsse_encoding() -> None:
    """The example of DSSE's protocol."""
    assert attestation.encoded(b"hello world", "http://example.com/HelloWorld") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


@needs_openssl
def test_wrong_keys() -> None:
    """A key of another kind is refused, with the command that makes the right one."""
    made = subprocess.run(["openssl", "genpkey", "-algorithm", "ED25519"], check=True, capture_output=True).stdout
    with pytest.raises(ValueError, match="EC key on P-256; make one: openssl"):
        attestation.Key(made)
    with pytest.raises(ValueError, match=r"PEM|deserialize"):
        attestation.Key(b"no key")


def test_provenance_names_sources_and_locks() -> None:
    """The commit, and each lock by its hash."""
    lock = ROOT / "requirements.lock"
    made = attestation.provenance("1.2.3", "c0ffee", [lock], datetime.fromtimestamp(AT_S, UTC))
    source, locked = made["buildDefinition"]["resolvedDependencies"]
    assert source["digest"] == {"gitCommit": "c0ffee"}
    assert locked == {"uri": "file:requirements.lock", "digest": {"sha256": attestation.sha256(lock)}}
    assert made["runDetails"]["metadata"]["startedOn"] == "2025-11-24T16:00:00Z"


def test_archives_are_reproducible(tmp_path: Path) -> None:
    """The same content makes the same bytes, whatever the files' order, times and modes."""
    for name, order in (("first", ["a", "b"]), ("second", ["b", "a"])):
        folder = tmp_path / name / "chart"
        folder.mkdir(parents=True)
        for file in order:
            (folder / file).write_text(file, encoding="utf-8")
        (folder / order[0]).chmod(0o600)
        archives.pack(tmp_path / f"{name}.tgz", archives.chart(folder), AT_S)
    assert (tmp_path / "first.tgz").read_bytes() == (tmp_path / "second.tgz").read_bytes()


def test_the_plugin_runs_behind_links(tmp_path: Path) -> None:
    """What krew links into the PATH finds its packages beside the file, through relative and absolute links."""
    packages = tmp_path / "site-packages"
    (packages / "credrotator" / "cli").mkdir(parents=True)
    for folder in ("credrotator", "credrotator/cli"):
        (packages / folder / "__init__.py").touch()
    program = "import sys\ndef main(): print(sys.argv)\n"
    (packages / "credrotator" / "cli" / "main.py").write_text(program, encoding="utf-8")
    (packages / "direct_url.json").write_text("{}", encoding="utf-8")
    archives.pack(tmp_path / "plugin.tar.gz", archives.plugin(packages, ROOT / "LICENSE"), AT_S)
    with tarfile.open(tmp_path / "plugin.tar.gz") as packed:
        assert not [name for name in packed.getnames() if "direct_url" in name or "__pycache__" in name]
        packed.extractall(tmp_path / "store", filter="data")
    link, second = tmp_path / "bin" / "kubectl-credrotator", tmp_path / "kubectl-credrotator"
    link.parent.mkdir()
    link.symlink_to("../store/kubectl-credrotator")
    second.symlink_to(link)
    env = {"PATH": f"{sys.base_prefix}/bin:/usr/bin:/bin"}
    done = subprocess.run([second, "status", "a b"], env=env, text=True, capture_output=True, check=False)
    assert done.stdout == "['kubectl-credrotator', 'status', 'a b']\n", done.stderr


def test_krew_manifest() -> None:
    """One platform, the archive below the address, and the program in it."""
    made = yaml.safe_load(archives.manifest("1.2.3", "plugin.tar.gz", "ab" * 32, "https://example.com/v1.2.3"))
    (platform,) = made["spec"]["platforms"]
    assert made["spec"]["version"] == "v1.2.3"
    assert platform["uri"] == "https://example.com/v1.2.3/plugin.tar.gz"
    assert (platform["sha256"], platform["bin"]) == ("ab" * 32, "kubectl-credrotator")
    assert set(platform["selector"]["matchLabels"]) == {"os", "arch"}
