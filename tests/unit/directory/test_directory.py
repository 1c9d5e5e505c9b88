"""The Secret stores keep the port's promises, and the one on disk those of the kubelet's volumes."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from credrotator.core.errors import PolicyError
from credrotator.core.model import ObjectKey
from credrotator.core.secret_document import SecretDocument
from credrotator.core.sensitive import Sensitive
from credrotator.files.directory import ANNOTATIONS, DATA, LOCK, OUTCOMES, DirectoryStore
from tests.support.store_compliance import SecretStoreCompliance
from tests.support.twins import KEY, SECRET, MemoryStore, StandingClock, document
from tests.unit.directory.generations import generation_names, place, value, version

if TYPE_CHECKING:
    from credrotator.core.ports import SecretStore


class TestMemoryStore(SecretStoreCompliance):
    """The twin keeps the promises, so that what is shown with it holds for the real one."""

    @pytest.fixture
    def store(self) -> SecretStore:
        return MemoryStore()


class TestDirectoryStore(SecretStoreCompliance):
    """The real one."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> SecretStore:
        return DirectoryStore(tmp_path / "out", StandingClock())


class TestLayout:
    """The layout of the kubelet's Secret volumes, with the annotations beside the data."""

    def test_as_the_kubelet_lays_it_out(self, store: DirectoryStore, root: Path) -> None:
        """Key → ..data/key, ..data → one generation named after the time, values in it (atomic_writer.go)."""
        store.publish(document(annotations=[("n", "v")], credentials="x", other="y"), None)
        secret = place(root)
        generation = (secret / DATA).readlink()
        assert re.fullmatch(r"\.\.2026_11_24_12_00_00\.[0-9a-f]+", str(generation))
        assert {name.name for name in secret.iterdir()} == {DATA, LOCK, str(generation), "credentials", "other"}
        assert (secret / "credentials").readlink() == Path("..data/credentials")
        assert {name.name for name in (secret / DATA).iterdir()} == {ANNOTATIONS, "credentials", "other"}
        assert (secret / "credentials").read_bytes() == b"x"

    @pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
    def test_modes(self, store: DirectoryStore, root: Path, umask: int) -> None:
        """Files are 0600 in directories 0700, whatever the umask is and whatever is written first."""
        before = os.umask(umask)
        try:
            store.record({"action": "skipped"}, KEY)
            store.publish(document(credentials="x"), None)
            store.publish(document(credentials="y"), version(store))
        finally:
            os.umask(before)
        for path in [root, *root.rglob("*")]:
            if not path.is_symlink():
                assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path

    def test_previous_generation_stays(self, store: DirectoryStore, root: Path) -> None:
        """The generation before stays for readers on their way; older ones go when readers have had their time."""
        generations: list[str] = []
        for number in range(4):
            store.publish(document(a=str(number)), version(store))
            generations.append(str(version(store)))
            os.utime(place(root) / generations[-1], (60 * number, 60 * number))
        assert generation_names(root) == set(generations[2:])

    def test_quick_succession(self, store: DirectoryStore, root: Path) -> None:
        """However quickly publications follow each other, a reader held up in an old generation still finds it."""
        for number in range(4):
            store.publish(document(a=str(number)), version(store))
        assert len(generation_names(root)) == 4

    def test_changed_type(self, store: DirectoryStore, root: Path) -> None:
        """The link of a key that is no more goes; what a person keeps in the directory stays."""
        store.publish(document(credentials="x"), None)
        (place(root) / "notes.txt").write_text("mine")
        (place(root) / "elsewhere").symlink_to("/etc/hostname")
        store.publish(document(azureAccessToken="y"), version(store))
        names = {path.name for path in place(root).iterdir() if not path.name.startswith("..")}
        assert names == {"azureAccessToken", "notes.txt", "elsewhere"}

    @pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../../etc", "/etc", ".hidden", "nul\0", "x" * 256])
    def test_names_lead_nowhere_else(self, store: DirectoryStore, root: Path, name: str) -> None:
        """A manifest's namespace or name never leads out of the directory."""
        for key in (ObjectKey(name, "x"), ObjectKey("x", name)):
            with pytest.raises(PolicyError, match="cannot be the name of a file"):
                store.publish(document(key, a="x"), None)
            with pytest.raises(PolicyError):
                store.read(key)
            store.record({"action": "failed"}, key)
            assert store.last_outcome(key) is None
        with pytest.raises(PolicyError):
            store.publish(SecretDocument(SECRET, {name: Sensitive("x")}, {}), None)


class TestDamage:
    """What was damaged on the disk is read as far as it goes, so that planning can repair it."""

    @pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"a": 1}', "\xff"])
    def test_annotations(self, store: DirectoryStore, root: Path, text: str) -> None:
        """Damaged annotations never raise."""
        store.publish(document(annotations=[("n", "v")], a="x"), None)
        (place(root) / DATA / ANNOTATIONS).write_bytes(text.encode("latin-1"))
        stored = store.read(SECRET)
        assert stored is not None
        assert all(isinstance(text, str) for text in stored.document.annotations.values())

    def test_value_not_text(self, store: DirectoryStore, root: Path) -> None:
        """A value that is no text any more is read as another one, which its hash then tells."""
        store.publish(document(a="x"), None)
        (place(root) / DATA / "a").write_bytes(b"\xff\xfe")
        assert value(store) == "\ufffd\ufffd"


class TestOutcomes:
    """How the last pass ended is kept beside the Secrets, for ``status``."""

    def test_round_trip(self, store: DirectoryStore) -> None:
        """The outcome is read back with the time at which it was recorded."""
        store.record({"action": "failed", "error": {"reason": "X"}}, KEY)
        assert store.last_outcome(KEY) == {"at": "2026-11-24T12:00:00Z", "action": "failed", "error": {"reason": "X"}}

    def test_none(self, store: DirectoryStore, root: Path) -> None:
        """Nothing recorded, or a damaged record, is None."""
        assert store.last_outcome(KEY) is None
        store.record({"action": "kept"}, KEY)
        (root / OUTCOMES / KEY.namespace / f"{KEY.name}.json").write_text("{")
        assert store.last_outcome(KEY) is None

    def test_cannot_be_kept(self, store: DirectoryStore, root: Path, tmp_path: Path) -> None:
        """Not to be able to record is no failure of the pass; and a planted symlink is not written through."""
        root.mkdir(mode=0o700)
        (root / OUTCOMES).symlink_to(tmp_path)
        store.record({"action": "kept"}, KEY)
        assert not (tmp_path / KEY.namespace).exists()
        assert store.last_outcome(KEY) is None
