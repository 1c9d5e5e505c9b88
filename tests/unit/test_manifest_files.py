"""Which files are read as manifests, what is passed over, and what they may be filled from."""

from __future__ import annotations

import errno
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from credrotator.core.errors import PolicyError, UsageError
from credrotator.core.model import ObjectKey, SecretKeyRef
from credrotator.files import bounded
from credrotator.files.manifest_files import LIMIT_BYTES
from credrotator.files.manifests import ManifestOptions, ManifestReading, read_manifests
from credrotator.files.substitution import LIMIT_BYTES as SUBSTITUTE_LIMIT_BYTES
from credrotator.policies.reader import Defaults
from credrotator.providers import policy_reader
from tests.support.builders import Manifest, aws, azure, changed, from_stdin, secret
from tests.support.denied import deny_listing

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(60)

POLICY = ObjectKey("team-a", "bedrock")
CLIENT = ObjectKey("team-a", "oidc-client")
REF = SecretKeyRef(CLIENT, "client-secret", "spec.x")


def text_of(*manifests: Manifest) -> str:
    """The manifests as YAML documents."""
    return yaml.safe_dump_all(manifests, sort_keys=False)


def read(*paths: Path, **options: Any) -> ManifestReading:
    """Read files and directories."""
    names, reader = [str(path) for path in paths], policy_reader(Defaults())
    return read_manifests(names, io.StringIO(), reader, ManifestOptions(**options))


def refusal(*paths: Path, **options: Any) -> str:
    """Read what has to be refused; return why."""
    with pytest.raises(UsageError) as caught:
        read(*paths, **options)
    assert str(caught.value).isprintable()
    return str(caught.value)


def named(name: str) -> Manifest:
    """A policy of that name."""
    return changed(aws(), "metadata.name", name)


class TestFiles:
    """Security 12: regular files, of bounded size."""

    @pytest.fixture
    def pipe(self, tmp_path: Path) -> Path:
        """A pipe to which nobody writes."""
        os.mkfifo(tmp_path / "pipe.yaml")
        return tmp_path / "pipe.yaml"

    def test_a_pipe(self, pipe: Path) -> None:
        """Nobody waits for a writer, and standard input is named in its place."""
        assert refusal(pipe) == f"cannot read {pipe}: it is a pipe; feed it to -f -, which is standard input"

    @pytest.mark.parametrize("device", ["/dev/zero", "/dev/urandom", "/dev/null"])
    def test_a_device(self, device: str) -> None:
        """One of them has no end."""
        assert "it is a device" in refusal(Path(device))

    def test_links_lead_to_what_they_lead_to(self, tmp_path: Path, pipe: Path) -> None:
        """A link to a file is the file, as in a mounted ConfigMap; others are what they lead to, or lead nowhere."""
        (tmp_path / "real").write_text(text_of(aws()))
        for name, target in (("a.yaml", "real"), ("b.yaml", "pipe.yaml"), ("c.yaml", "nowhere")):
            (tmp_path / name).symlink_to(target)
        assert list(read(tmp_path / "a.yaml").inventory.policies) == [POLICY]
        assert "it is a pipe" in refusal(tmp_path / "b.yaml")
        assert "No such file" in refusal(tmp_path / "c.yaml")

    def test_a_huge_file(self, tmp_path: Path) -> None:
        """Longer than anybody's manifests: refused before it is parsed, whatever its length claims to be."""
        huge = tmp_path / "huge.yaml"
        huge.touch()
        os.truncate(huge, LIMIT_BYTES + 1)
        assert refusal(huge) == f"cannot read {huge}: it is longer than 64 MiB"

    def test_standard_input_without_end(self) -> None:
        """It is read up to the same limit."""

        class Endless(io.StringIO):
            def read(self, size: int | None = -1, /) -> str:
                assert size is not None
                assert size > 0
                return "x" * size

        with pytest.raises(UsageError, match="standard input: it is longer than 64 MiB"):
            read_manifests(["-"], Endless(), policy_reader(Defaults()))

    def test_encodings_are_named(self, tmp_path: Path) -> None:
        """What PowerShell and git-crypt leave is called by its name."""
        path = tmp_path / "a.yaml"
        for content, words in (
            (text_of(aws()).encode("utf-16"), "UTF-16, as PowerShell writes it"),
            (b"\0GITCRYPT\0\xff\x00", "encrypted by git-crypt"),
        ):
            path.write_bytes(content)
            assert words in refusal(path)

    def test_names_that_are_none(self) -> None:
        """A name with a NUL, or too long for any file system, is one sentence."""
        assert "it is no name of a file" in refusal(Path("a\0b"))
        assert "File name too long" in refusal(Path("a" * 5000))

    def test_addresses(self) -> None:
        """Other tools take them; nothing is fetched that nobody can look at first."""
        with pytest.raises(UsageError, match="it is a URL; feed what is there to -f -"):
            read_manifests(["https://x.example/a.yaml"], io.StringIO(), policy_reader(Defaults()))

    def test_no_descriptor_is_left_open(self, pipe: Path) -> None:
        """However often a directory, a pipe, a missing file is named."""
        before = len(list(Path("/proc/self/fd").iterdir()))
        for path in (pipe, pipe.parent / "missing", Path("/dev/zero")) * 5:
            with pytest.raises(UsageError):
                bounded.read_bytes(path, 10)
        with pytest.raises(UsageError):
            bounded.read_bytes(pipe.parent, 10)
        assert len(list(Path("/proc/self/fd").iterdir())) == before


def a_pipe(path: Path) -> None:
    """Nobody writes to it."""
    os.mkfifo(path)


def no_limit(path: Path) -> None:
    """Longer than it may be."""
    path.touch()
    os.truncate(path, LIMIT_BYTES + 1)


UNREADABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe": (a_pipe, "it is a pipe"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
    "a link to nowhere": (lambda path: path.symlink_to("nowhere"), "No such file"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
    "UTF-16": (lambda path: path.write_bytes(text_of(aws()).encode("utf-16")), "it is UTF-16"),
    "too long": (no_limit, "it is longer than 64 MiB"),
    "not permitted": (lambda path: path.write_text("denied"), "Permission denied"),
}


class TestOneOfSeveral:
    """A file beside others that cannot be read is a problem, as one that is no YAML is, and the others are used."""

    @pytest.fixture(autouse=True)
    def _permissions(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Deny one file; root, who runs the tests of an image, is denied none."""
        real = os.open

        def denying(path: Any, *rest: Any, **named: Any) -> int:
            if (file := Path(os.fsdecode(path))).is_file() and file.stat().st_size == len("denied"):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return real(path, *rest, **named)

        monkeypatch.setattr(os, "open", denying)

    @pytest.mark.parametrize("case", UNREADABLE)
    def test_in_a_directory(self, case: str, tmp_path: Path) -> None:
        """The problem has its place, and why; alone it is a problem as well."""
        make, why = UNREADABLE[case]
        make(tmp_path / "b.yaml")
        assert not read(tmp_path).inventory.policies
        (tmp_path / "a.yaml").write_text(text_of(aws()))
        reading = read(tmp_path)
        (problem,) = reading.problems
        assert list(reading.inventory.policies) == [POLICY]
        assert problem.startswith(f"{tmp_path}/b.yaml:1: cannot be read: ")
        assert why in problem
        assert reading.lost == [problem]

    @pytest.mark.parametrize("case", [case for case in UNREADABLE if case != "a link to nowhere"])
    def test_one_of_several_names(self, case: str, tmp_path: Path) -> None:
        """Named by itself beside others it is a problem too; as the only name it is refused."""
        make, why = UNREADABLE[case]
        make(tmp_path / "b.yaml")
        (tmp_path / "a.yaml").write_text(text_of(aws()))
        (problem,) = read(tmp_path / "b.yaml", tmp_path / "a.yaml").problems
        assert why in problem
        assert why in refusal(tmp_path / "b.yaml")

    def test_a_name_that_leads_nowhere(self, tmp_path: Path) -> None:
        """It is refused beside others too: it is a slip on the command line."""
        (tmp_path / "a.yaml").write_text(text_of(aws()))
        (tmp_path / "link.yaml").symlink_to("nowhere")
        for name in ("nowhere.yaml", "link.yaml", "a.yaml/b.yaml"):
            refusal(tmp_path / "a.yaml", tmp_path / name)

    def test_standard_input(self, tmp_path: Path) -> None:
        """It has no lines to name."""
        (tmp_path / "a.yaml").write_text(text_of(aws()))
        stdin = io.TextIOWrapper(io.BytesIO(b"\xff"), encoding="utf-8")
        reading = read_manifests(["-", str(tmp_path)], stdin, policy_reader(Defaults()))
        assert list(reading.inventory.policies) == [POLICY]
        assert reading.problems == ["stdin: cannot be read: invalid start byte; it has to be UTF-8 text"]

    def test_a_directory_in_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """One that cannot be listed is a problem, without a line."""
        (tmp_path / "a.yaml").write_text(text_of(aws()))
        (tmp_path / "locked").mkdir()
        deny_listing(monkeypatch, tmp_path / "locked")
        reading = read(tmp_path, recursive=True)
        assert list(reading.inventory.policies) == [POLICY]
        assert reading.problems == [f"{tmp_path}/locked: cannot be read: Permission denied"]
        assert refusal(tmp_path / "locked") == f"cannot read {tmp_path}/locked: Permission denied"


class TestDirectories:
    """What a directory stands for, and what of it is passed over."""

    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        """Manifests on three levels, and what lies about beside them."""
        for name in ("a.yaml", "team/b.yaml", "team/deep/c.json", ".git/d.yaml", "..2026_11_24/a.yaml"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(json.dumps(named(Path(name).stem)))
        for name in ("notes.txt", "e.YAML", ".hidden", ".copy.yaml", "team/README.md"):
            (tmp_path / name).write_text("x")
        # As Emacs marks a file that is being edited.
        (tmp_path / ".#a.yaml").symlink_to("user@host.123:456")
        (tmp_path / "linked").symlink_to("team")
        (tmp_path / "..data").symlink_to("..2026_11_24")
        (tmp_path / "empty").mkdir()
        return tmp_path

    def test_one_level(self, tree: Path) -> None:
        """Its own files; what is passed over is said, once, without what is hidden."""
        reading = read(tree)
        assert [key.name for key in reading.inventory.policies] == ["a"]
        assert reading.problems == []
        assert reading.notes == [
            f"{tree}: passed over e.YAML, notes.txt (not .json, .yaml or .yml)",
            f"{tree}: passed over empty, linked, team (a directory; -R reads it too)",
        ]

    def test_recursive(self, tree: Path) -> None:
        """All levels, each file once: links to directories and hidden directories are not gone into."""
        reading = read(tree, recursive=True)
        assert [key.name for key in reading.inventory.policies] == ["a", "b", "c"]
        assert f"{tree}: passed over linked (a link to a directory)" in reading.notes
        assert f"{tree / 'team'}: passed over README.md (not .json, .yaml or .yml)" in reading.notes

    def test_a_link_that_is_named_is_followed(self, tree: Path) -> None:
        """As in kubectl: the operator means where it leads."""
        assert [key.name for key in read(tree / "linked", recursive=True).inventory.policies] == ["b", "c"]

    def test_a_circle(self, tree: Path) -> None:
        """Links that lead upwards end nothing."""
        (tree / "team" / "up").symlink_to("..")
        assert len(read(tree, recursive=True).inventory.policies) == 3

    def test_many_are_counted(self, tmp_path: Path) -> None:
        """Nobody reads a thousand names."""
        (tmp_path / "a.yaml").write_text(text_of(aws()))
        for number in range(20):
            (tmp_path / f"x{number:02}").touch()
        (note,) = read(tmp_path).notes
        assert note.endswith("passed over x00, x01, x02, x03, x04 and 15 more (not .json, .yaml or .yml)")

    def test_nothing_but_directories(self, tmp_path: Path) -> None:
        """The refusal says what would help."""
        (tmp_path / "team").mkdir()
        assert "no manifest in" in refusal(tmp_path)
        assert "passed over team (a directory; -R reads it too)" in refusal(tmp_path)
        assert "-R" not in refusal(tmp_path, recursive=True)


class TestPassedOver:
    """Objects that are no concern of ours are silent, unless they look like a slip of the pen."""

    @pytest.mark.parametrize(
        ("kind", "meant"),
        [
            ("BackendSecurityPolicies", "BackendSecurityPolicy"),
            ("BackendSecurtyPolicy", "BackendSecurityPolicy"),
            ("backendsecuritypolicy", "BackendSecurityPolicy"),
            ("Secrets", "Secret"),
            ("secret", "Secret"),
            ("AIServiceBackends", "AIServiceBackend"),
            ("AIGateWayRoute", "AIGatewayRoute"),
        ],
    )
    def test_a_misspelt_kind_beside_a_good_policy(self, kind: str, meant: str) -> None:
        """Said with its line; the good policy is no worse for it."""
        reading = from_stdin(text_of(aws(), changed(azure(), "kind", kind)))
        assert list(reading.inventory.policies) == [POLICY]
        (note,) = reading.notes
        assert note.endswith(f"passed over: kind {kind}; did you mean {meant}?")
        assert note.startswith("stdin:")
        assert reading.problems == []

    @pytest.mark.parametrize("kind", ["ConfigMap", "Kustomization", "MCPRoute", "SecretStore", "HTTPRoute", "Gateway"])
    def test_other_kinds_are_silent(self, kind: str) -> None:
        """Repositories hold many."""
        reading = from_stdin(text_of(changed(aws(), "kind", kind)))
        assert (reading.notes, reading.problems) == ([], [])

    @pytest.mark.parametrize("kind", ["SealedSecret", "ExternalSecret", "SopsSecret", "VaultStaticSecret"])
    def test_what_makes_secrets_in_a_cluster(self, kind: str) -> None:
        """Its Secret is not here, and that is said before a policy misses it."""
        (note,) = from_stdin(text_of(changed(secret("oidc-client"), "kind", kind))).notes
        assert note.endswith(f"passed over: {kind} oidc-client: its Secret is made in a cluster only")

    def test_a_file_that_is_encrypted_whole(self) -> None:
        """SOPS encrypts each value by default, apiVersion and kind too."""
        text = (
            "apiVersion: ENC[AES256_GCM,data:x,iv:y,tag:z,type:str]\nkind: ENC[AES256_GCM,data:x,iv:y,tag:z,type:str]\n"
        )
        (problem,) = from_stdin(text + "sops: {version: 3.9.0}\n").problems
        assert problem.startswith("stdin:1: kind: a value that SOPS encrypted; decrypt the file first")

    @pytest.mark.parametrize("block", ["data", "stringData"])
    @pytest.mark.parametrize("value", ["ENC[AES256_GCM,data:x,iv:y,tag:z,type:str]", "${OIDC_SECRET}"])
    def test_a_secret_that_is_encrypted(self, block: str, value: str) -> None:
        """Where a policy refers to it; that it is not base64 is not what is wrong with it."""
        manifest = {**secret("oidc-client"), block: {"client-secret": value}}
        reading = from_stdin(text_of(manifest))
        assert reading.problems == []
        with pytest.raises(PolicyError) as caught:
            reading.inventory.reader(POLICY)(REF)
        assert caught.value.reason == ("SecretEncrypted" if "ENC" in value else "SecretPlaceholder")


class TestSelector:
    """``-l`` with ``-f``: the policies with these labels."""

    def test_labels(self, tmp_path: Path) -> None:
        """Secrets and what refers to policies stay, whatever their labels are."""
        labelled = changed(named("a"), "metadata.labels", {"team": "a"})
        (tmp_path / "a.yaml").write_text(text_of(labelled, named("b"), secret("oidc-client", client_secret="x")))
        assert [key.name for key in read(tmp_path, selector="team=a").inventory.policies] == ["a"]
        assert [key.name for key in read(tmp_path, selector="!team").inventory.policies] == ["b"]
        assert list(read(tmp_path, selector="team=z").inventory.secrets) == [CLIENT]

    @pytest.mark.parametrize("labels", [None, [], "x", {"team": 1}, {1: 2}])
    def test_labels_of_another_shape(self, tmp_path: Path, labels: Any) -> None:
        """They match nothing."""
        (tmp_path / "a.yaml").write_text(text_of(changed(aws(), "metadata.labels", labels)))
        assert not read(tmp_path, selector="team=1").inventory.policies


ENV, FILE = "substitution.aigw.run/env/client-secret", "substitution.aigw.run/file/client-secret"


class TestSubstitution:
    """Values that stand in the environment or in files, as the stand-alone gateway fills them in."""

    def client(self, annotations: dict[str, Any], /, **metadata: Any) -> str:
        """The client's Secret with annotations, and a placeholder in the value's place."""
        manifest = secret("oidc-client")
        manifest["stringData"] = {"client-secret": "OIDC_CLIENT_SECRET"}
        manifest["metadata"] |= {"annotations": annotations, **metadata}
        return text_of(manifest)

    def reading(self, text: str, tmp_path: Path, **environment: str) -> ManifestReading:
        """Read it from a file."""
        (tmp_path / "secret.yaml").write_text(text)
        return read(tmp_path / "secret.yaml", environment=environment)

    def value(self, reading: ManifestReading) -> str:
        """Read the client secret as a policy would."""
        return reading.inventory.reader(POLICY)(REF).reveal()

    def test_a_variable(self, tmp_path: Path) -> None:
        """It takes the placeholder's place, to the byte."""
        reading = self.reading(self.client({ENV: "OIDC_CLIENT_SECRET"}), tmp_path, OIDC_CLIENT_SECRET="s3cr=t ö")
        assert self.value(reading) == "s3cr=t ö"
        assert (reading.problems, reading.notes) == ([], [])

    @pytest.mark.parametrize(
        ("content", "value"), [("s3cret", "s3cret"), ("s3cret\n", "s3cret"), ("s3cret\r\n", "s3cret")]
    )
    def test_a_file(self, tmp_path: Path, content: str, value: str, caplog: pytest.LogCaptureFixture) -> None:
        """A file of one line ends in a newline by habit, of which nobody is warned."""
        path = tmp_path / "client-secret"
        path.write_text(content)
        reading = self.reading(self.client({FILE: str(path)}), tmp_path)
        assert (self.value(reading), reading.files) == (value, [path])
        assert not caplog.records

    def test_a_file_at_home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """``~`` is the home of who runs it, and relative names begin where it runs."""
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.chdir(tmp_path)
        (tmp_path / "x").write_text("s3cret")
        for name in ("~/x", "x"):
            assert self.value(self.reading(self.client({FILE: name}), tmp_path)) == "s3cret"

    def test_a_variable_wins_over_a_file(self, tmp_path: Path) -> None:
        """As in ``aigw run``; then the file may be missing."""
        reading = self.reading(self.client({ENV: "X", FILE: "/nowhere"}), tmp_path, X="from-variable")
        assert (self.value(reading), reading.problems) == ("from-variable", [])

    def test_a_key_that_is_not_there(self, tmp_path: Path) -> None:
        """The annotation alone is enough."""
        manifest = secret("oidc-client")
        manifest["metadata"]["annotations"] = {ENV: "X"}
        assert self.value(self.reading(text_of(manifest), tmp_path, X="s3cret")) == "s3cret"

    @pytest.mark.parametrize("environment", [{}, {"X": ""}])
    def test_a_variable_that_is_not_set(self, tmp_path: Path, environment: dict[str, str]) -> None:
        """The placeholder is not used in its place: a problem of the Secret, with Secret, key and variable."""
        reading = self.reading(self.client({ENV: "X"}), tmp_path, **environment)
        (problem,) = reading.problems
        assert "Secret team-a/oidc-client: client-secret: the variable X is not set" in problem
        with pytest.raises(PolicyError) as caught:
            self.value(reading)
        assert caught.value.reason == "SecretNotReadable"

    def test_a_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        """Missing, a directory, a pipe, endless, or longer than a Secret may be."""
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "long").touch()
        os.truncate(tmp_path / "long", SUBSTITUTE_LIMIT_BYTES + 1)
        for name in ("missing", ".", "pipe", "long", "/dev/zero"):
            reading = self.reading(self.client({FILE: str(tmp_path / name)}), tmp_path)
            (problem,) = reading.problems
            assert "client-secret: cannot read" in problem
            with pytest.raises(PolicyError):
                self.value(reading)

    @pytest.mark.parametrize(
        "metadata",
        [
            {"uid": "1"},
            {"resourceVersion": "1"},
            {"creationTimestamp": "2026-11-24T12:00:00Z"},
            {"managedFields": [{"manager": "kubectl"}]},
        ],
    )
    @pytest.mark.parametrize("annotation", [ENV, FILE])
    def test_never_for_a_secret_from_a_cluster(self, tmp_path: Path, annotation: str, metadata: dict[str, Any]) -> None:
        """There a tenant annotates, and would have the operator's variables and files sent to an issuer of its own."""
        (tmp_path / "passwd").write_text("root")
        target = str(tmp_path / "passwd") if annotation == FILE else "X"
        reading = self.reading(self.client({annotation: target}, **metadata), tmp_path, X="hunter2")
        assert reading.inventory.secrets[CLIENT] == {"client-secret": b"OIDC_CLIENT_SECRET"}
        assert reading.files == []
        (note,) = reading.notes
        assert "comes from a cluster" in note
        assert "hunter2" not in str(reading)

    @pytest.mark.parametrize("value", [1, None, ["X"], True])
    def test_annotations_of_another_shape(self, tmp_path: Path, value: Any) -> None:
        """They name nothing."""
        assert self.reading(self.client({ENV: value}), tmp_path, X="x").problems == []

    def test_only_secrets_are_filled(self, tmp_path: Path) -> None:
        """An annotation on a policy is nobody's business."""
        manifest = changed(aws(), "metadata.annotations", {ENV: "X"})
        reading = self.reading(text_of(manifest), tmp_path)
        assert (list(reading.inventory.policies), reading.problems) == ([POLICY], [])
