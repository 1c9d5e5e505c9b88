"""What keeps a store from writing, and what is said of it."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from credrotator.core.errors import Denied, RotationError, StoreClosed, Transient
from credrotator.files.atomic import locked, open_directory
from credrotator.files.directory import DATA, LOCK, DirectoryStore
from tests.support.twins import SECRET, StandingClock, document
from tests.unit.directory.generations import assert_old, place, store_root, value, version

if TYPE_CHECKING:
    from collections.abc import Iterator


class TestRefusals:
    """Fault 36: whatever stands in the way, the old value stays and the error says what to do."""

    @pytest.fixture(autouse=True)
    def _published(self, store: DirectoryStore) -> None:
        store.publish(document(a="old"), None)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
    def test_disk_full(self, tmp_path: Path) -> None:
        """A full disk is transient; what was there stays, and nothing of the attempt is left to fill it further."""
        with small_disk(tmp_path / "disk") as disk:
            store = DirectoryStore(disk / "out", StandingClock())
            store.publish(document(a="old"), None)
            before = {path.name for path in place(disk / "out").iterdir()}
            error = refused(store, "n" * 2_000_000)
            assert (error.kind, error.reason) == ("transient", "DiskFull")
            assert "No space left on device" in error.message
            assert {path.name for path in place(disk / "out").iterdir()} == before
            assert (place(disk / "out") / "a").read_text() == "old"
            store.publish(document(a="new"), version(store))

    def test_no_more_bytes(self, store: DirectoryStore, root: Path) -> None:
        """The same without root: the system stops the write in the middle of a file."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # Python ignores SIGXFSZ
        try:
            error = refused(store, "n" * 10_000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert (error.kind, error.reason) == ("transient", "DiskFull")
        assert_old(store, root)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
    def test_read_only(self, tmp_path: Path) -> None:
        """A read-only file system is denied, named as such, and still read."""
        with small_disk(tmp_path / "disk") as disk:
            store = DirectoryStore(disk / "out", StandingClock())
            store.publish(document(a="old"), None)
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            error = refused(store)
            assert (error.kind, error.reason) == ("denied", "NotWritable")
            assert "Read-only file system" in error.message
            assert_old(store, disk / "out")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_not_writable(self, store: DirectoryStore, root: Path) -> None:
        """A directory without write permission is denied and named."""
        place(root).chmod(0o500)
        error = refused(store)
        assert (error.kind, error.reason) == ("denied", "NotWritable")
        assert str(place(root)) in error.message
        assert_old(store, root)

    @pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
    def test_not_readable(self, store: DirectoryStore, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """What may not be read is called so: advice about writing would lead astray."""

        def refuse(*_arguments: object, **_options: object) -> int:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(StoreClosed) as caught:
            store.read(SECRET)
        assert (caught.value.kind, caught.value.reason) == ("denied", "NotReadable")
        assert "write" not in caught.value.hint

    def test_too_many_open_files(self, store: DirectoryStore, root: Path) -> None:
        """Running out of file descriptors is not called a full disk."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            with pytest.raises(Transient) as caught:
                store.publish(document(a="new"), "whichever")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert caught.value.reason == "TooManyFiles"
        assert_old(store, root)

    @pytest.mark.parametrize("where", ["default", f"default/{SECRET.name}"])
    def test_planted_directory_link(self, store: DirectoryStore, root: Path, tmp_path: Path, where: str) -> None:
        """A symlink in the place of the namespace's or the Secret's directory is not followed, to read or to write."""
        planted, moved = root / where, tmp_path / "moved"
        planted.rename(moved)
        planted.symlink_to(moved)
        for error in refused_both_ways(store):
            assert error.reason == "UnsafePath"
            assert str(place(root)) in error.message
        assert next(moved.rglob("a")).read_text() == "old"

    @pytest.mark.parametrize("target", ["/etc", "..", "../other/..data", "..data", "a", "/"])
    def test_planted_data_link(self, store: DirectoryStore, root: Path, target: str) -> None:
        """A ..data that leads anywhere but to a generation beside it is refused, to read and to write."""
        (place(root) / DATA).unlink()
        (place(root) / DATA).symlink_to(target)
        for error in refused_both_ways(store):
            assert error.reason == "UnsafePath"
            assert "not a link to a generation beside it" in error.message
        assert (place(root) / DATA).readlink() == Path(target)

    @pytest.mark.parametrize("what", ["file", "directory"])
    def test_data_is_no_link(self, store: DirectoryStore, root: Path, what: str) -> None:
        """A ..data that a copying program made a file or a directory is refused with a clear word."""
        data = place(root) / DATA
        data.unlink()
        data.write_text("x") if what == "file" else data.mkdir()
        with pytest.raises(Denied, match="not a link to a generation"):
            store.read(SECRET)

    @pytest.mark.parametrize("what", ["link", "directory"])
    def test_planted_lock(self, store: DirectoryStore, root: Path, tmp_path: Path, what: str) -> None:
        """A lock file that is a symlink is not followed, and never created elsewhere."""
        lock = place(root) / LOCK
        lock.unlink()
        lock.symlink_to(tmp_path / "elsewhere") if what == "link" else lock.mkdir()
        assert refused(store).reason == "UnsafePath"
        assert not (tmp_path / "elsewhere").exists()
        assert_old(store, root)

    def test_planted_value(self, store: DirectoryStore, root: Path, tmp_path: Path) -> None:
        """A symlink or a pipe in the place of a value is not opened, and a reader does not hang on it."""
        planted = place(root) / DATA / "a"
        planted.unlink()
        planted.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(Denied):
            store.read(SECRET)
        planted.unlink()
        os.mkfifo(planted)
        with pytest.raises(Denied, match="not a regular file"):
            store.read(SECRET)

    @pytest.mark.parametrize("where", ["", "default", f"default/{SECRET.name}"])
    @pytest.mark.parametrize("mode", [0o770, 0o707])
    def test_writable_by_others(self, store: DirectoryStore, root: Path, where: str, mode: int) -> None:
        """A directory into which others may write is refused with its whole path and the command that helps."""
        (root / where).chmod(mode)
        error = refused(store)
        assert (error.kind, error.reason) == ("denied", "UnsafePath")
        assert f"{root / where} can be written to by others (mode {mode:04o})" in error.message
        assert f"chmod go-w {root / where}" in error.hint
        (root / where).chmod(0o700)
        assert_old(store, root)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    @pytest.mark.parametrize("where", ["", "default", f"default/{SECRET.name}"])
    def test_foreign_owner(self, store: DirectoryStore, root: Path, where: str) -> None:
        """A directory of somebody else's is refused, by name and user id."""
        os.chown(root / where, 12345, -1)
        error = refused(store)
        assert (error.kind, error.reason) == ("denied", "UnsafePath")
        assert f"{root / where} belongs to user 12345" in error.message
        os.chown(root / where, os.geteuid(), -1)
        assert_old(store, root)

    @pytest.mark.parametrize("what", ["file", "nothing"])
    def test_root_is_no_directory(self, tmp_path: Path, what: str) -> None:
        """A file in the place of the directory is refused; a missing directory is made, with its parents."""
        root = tmp_path / "deep" / "down"
        store = DirectoryStore(root, StandingClock())
        if what == "nothing":
            store.publish(document(a="x"), None)
            assert value(store) == "x"
            return
        root.parent.mkdir()
        root.write_text("x")
        with pytest.raises(Denied) as caught:
            store.publish(document(a="x"), None)
        assert caught.value.reason == "UnsafePath"

    def test_lock_held(self, store: DirectoryStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A lock that another process never gives back ends in an error, not in a hang."""
        monkeypatch.setattr("credrotator.files.atomic._LOCK_TIMEOUT_S", 0.05)
        with open_directory(place(root)) as secret, locked(secret, LOCK, "x"):
            error = refused(store)
        assert (error.kind, error.reason) == ("transient", "StorageBusy")
        assert_old(store, root)


def refused(store: DirectoryStore, text: str = "new") -> RotationError:
    """Publish in vain, as somebody who knows the version."""
    current = next((path.readlink() for path in store_root(store).glob(f"*/*/{DATA}") if path.is_symlink()), None)
    with pytest.raises(RotationError) as caught:
        store.publish(document(a=text), str(current))
    assert caught.value.hint
    return caught.value


def refused_both_ways(store: DirectoryStore) -> list[RotationError]:
    """Publish and read in vain."""
    with pytest.raises(Denied) as writing:
        store.publish(document(a="new"), None)
    with pytest.raises(Denied) as reading:
        store.read(SECRET)
    return [writing.value, reading.value]


@contextlib.contextmanager
def small_disk(where: Path) -> Iterator[Path]:
    """Mount a file system of 1 MiB, if this machine lets us."""
    where.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(where)]
    if not shutil.which("mount") or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", str(where)], check=True)
