"""Directories as volumes are: shared with a group by the kubelet, on file systems that cannot do everything."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
from typing import TYPE_CHECKING

import pytest

from credrotator.core.errors import Denied, RotationError
from credrotator.files import atomic
from credrotator.files.atomic import Access, write_file
from credrotator.files.directory import DirectoryStore
from tests.support.twins import KEY, SECRET, StandingClock, document

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROOT = os.geteuid() == 0
GROUP = 12345 if ROOT else os.getegid()
OTHER_GROUP = 23456
only_root = pytest.mark.skipif(not ROOT, reason="only root can give files away")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a directory for credentials, not made yet."""
    return tmp_path / "out"


@pytest.fixture
def shared(root: Path) -> DirectoryStore:
    """Return a store whose group may read and write there too."""
    return DirectoryStore(root, StandingClock(), access=Access(GROUP))


def version(store: DirectoryStore) -> str | None:
    """Return the version that the next write has to name."""
    stored = store.read(SECRET)
    return stored.version if stored else None


def publish(store: DirectoryStore, value: str) -> None:
    """Publish a value, and see that it is there."""
    store.publish(document(a=value), version(store))
    stored = store.read(SECRET)
    assert stored
    assert stored.document.data["a"].reveal() == value


def mount(root: Path, group: int = GROUP) -> None:
    """Do what the kubelet does to a volume with an fsGroup at each mount (``pkg/volume/volume_linux.go``)."""
    for path in [root, *root.rglob("*")]:
        if path.is_symlink():
            os.lchown(path, -1, group)
            continue
        os.chown(path, -1, group)
        mode = stat.S_IMODE(path.stat().st_mode) | 0o660
        path.chmod(mode | 0o2110 if path.is_dir() else mode)


def parts(root: Path) -> list[Path]:
    """List what lies there, but for links."""
    return [path for path in [root, *root.rglob("*")] if not path.is_symlink()]


class TestGroup:
    """``--out-group``: a group that somebody named may read, and replace, the credentials."""

    @pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
    def test_modes(self, shared: DirectoryStore, root: Path, umask: int) -> None:
        """Directories 2770, files 0640, all of the group, whatever the umask is and whatever is written first."""
        before = os.umask(umask)
        try:
            shared.record({"action": "skipped"}, KEY)
            publish(shared, "x")
            publish(shared, "y")
        finally:
            os.umask(before)
        for path in parts(root):
            status = path.stat()
            if path.name != "..lock":
                assert stat.S_IMODE(status.st_mode) == (0o2770 if path.is_dir() else 0o640), path
            assert not status.st_mode & 0o007, path
            assert path.name == "..lock" or status.st_gid == GROUP, path

    def test_a_volume_that_is_mounted_again(self, shared: DirectoryStore, root: Path) -> None:
        """What the kubelet makes of all modes at each mount is no reason to refuse the next publication."""
        for number in range(3):
            publish(shared, str(number))
            shared.record({"action": "rotated"}, KEY)
            mount(root)
        publish(shared, "last")
        assert shared.last_outcome(KEY)
        with shared.exclusive():
            pass
        assert "can be written to" in shared.examine(SECRET)

    def test_without_the_option_it_is_refused(self, root: Path) -> None:
        """With advice that outlasts the next mount: the group by its number."""
        store = DirectoryStore(root, StandingClock())
        publish(store, "old")
        mount(root)
        with pytest.raises(Denied) as caught:
            store.publish(document(a="new"), None)
        assert caught.value.reason == "UnsafePath"
        assert f"--out-group {GROUP}" in caught.value.hint
        assert "chmod go-w" in caught.value.hint

    def test_a_directory_that_was_private(self, root: Path, shared: DirectoryStore) -> None:
        """The option, once given, lets the group into what is there already."""
        publish(DirectoryStore(root, StandingClock()), "old")
        publish(shared, "new")
        for path in (root, root / SECRET.namespace, root / SECRET.namespace / SECRET.name):
            assert stat.S_IMODE(path.stat().st_mode) == 0o2770
            assert path.stat().st_gid == GROUP

    @only_root
    @pytest.mark.parametrize("where", ["", SECRET.namespace, f"{SECRET.namespace}/{SECRET.name}"])
    def test_another_group(self, shared: DirectoryStore, root: Path, where: str) -> None:
        """Only the group that was named: another one that may write is refused."""
        publish(shared, "old")
        os.chown(root / where, -1, OTHER_GROUP)
        with pytest.raises(Denied) as caught:
            shared.publish(document(a="new"), None)
        assert caught.value.reason == "UnsafePath"
        assert f"--out-group {OTHER_GROUP}" in caught.value.hint

    @pytest.mark.parametrize("mode", [0o2777, 0o2772, 0o707])
    def test_everybody(self, shared: DirectoryStore, root: Path, mode: int) -> None:
        """A group is not the world."""
        publish(shared, "old")
        root.chmod(mode)
        with pytest.raises(Denied) as caught:
            shared.publish(document(a="new"), None)
        assert caught.value.reason == "UnsafePath"
        assert "--out-group" not in caught.value.hint

    @only_root
    def test_the_top_of_a_volume_is_roots(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who is in the group may use it; a directory of a third user's stays refused."""
        root.mkdir()
        os.chown(root, 0, GROUP)
        root.chmod(0o2770)
        assert Access(GROUP).takes_owner(0)
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        assert Access(GROUP).takes_owner(0)
        assert not Access(GROUP).takes_owner(54321)
        assert not Access().takes_owner(0)

    def test_rendered_files(self, tmp_path: Path) -> None:
        """A template's file is the group's to read, in a directory that it may write to; modes are put right."""
        tmp_path.chmod(0o700)
        os.chown(tmp_path, -1, GROUP)
        tmp_path.chmod(0o2770)
        target, access = tmp_path / "filter.yaml", Access(GROUP)
        with pytest.raises(Denied):
            write_file(target, b"x")
        assert write_file(target, b"x", access)
        assert (stat.S_IMODE(target.stat().st_mode), target.stat().st_gid) == (0o640, GROUP)
        assert not write_file(target, b"x", access)
        target.chmod(0o660)  # as the kubelet leaves it
        assert not write_file(target, b"x", access)
        for mode in (0o644, 0o600):
            target.chmod(mode)
            assert write_file(target, b"x", access)
            assert stat.S_IMODE(target.stat().st_mode) == 0o640


class TestLinks:
    """Security 12: the directory that is named is one, not a link to one."""

    @pytest.mark.parametrize("leads_to", ["directory", "nothing"])
    def test_a_link(self, root: Path, tmp_path: Path, leads_to: str) -> None:
        """Whoever may write beside it could lead it elsewhere: refused to read, to write and to check."""
        real = tmp_path / "real"
        if leads_to == "directory":
            real.mkdir(mode=0o700)
        root.symlink_to(real)
        store = DirectoryStore(root, StandingClock())
        attempts: list[Callable[[], object]] = [
            lambda: store.publish(document(a="x"), None),
            lambda: store.examine(SECRET),
        ]
        if leads_to == "directory":
            attempts.append(lambda: store.read(SECRET))
        for attempt in attempts:
            with pytest.raises(RotationError) as caught:
                attempt()
            assert caught.value.reason in {"UnsafePath", "NotWritable"}
        assert leads_to == "nothing" or list(real.iterdir()) == []

    def test_a_link_above_it(self, tmp_path: Path) -> None:
        """Where the path to it leads is the operator's."""
        (tmp_path / "real").mkdir(mode=0o700)
        (tmp_path / "link").symlink_to("real")
        publish(DirectoryStore(tmp_path / "link" / "out", StandingClock()), "x")
        assert (tmp_path / "real" / "out").is_dir()


class TestPlainFileSystems:
    """CIFS, vboxsf, FUSE, NFS without a lock daemon: what they lack costs a warning, or says what it is."""

    @pytest.fixture(autouse=True)
    def _nothing_warned_of(self) -> None:
        atomic._warn_of_power_cuts.cache_clear()

    @pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF])
    @pytest.mark.parametrize("what", ["directories", "files", "both"])
    def test_no_fsync(
        self, root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int, what: str
    ) -> None:
        """Published all the same, with one warning for the file system, however much is published."""
        real = os.fsync

        def fsync(descriptor: int) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode) if what == "directories" else what == "both":
                raise OSError(code, os.strerror(code))
            if what == "files" and stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(code, os.strerror(code))
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        store = DirectoryStore(root, StandingClock())
        with caplog.at_level(logging.WARNING):
            assert "can be made" in store.examine(SECRET)
            for number in range(3):
                publish(store, str(number))
            root.chmod(0o700)
            write_file(root / "rendered", b"x")
        (record,) = caplog.records
        assert os.strerror(code) in record.getMessage()

    @pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
    def test_an_fsync_that_fails(self, root: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
        """A disk that breaks is no disk that cannot: nothing counts as published, and ``check`` finds it."""

        def fsync(_descriptor: int) -> None:
            raise OSError(code, os.strerror(code))

        store = DirectoryStore(root, StandingClock())
        publish(store, "old")
        monkeypatch.setattr(os, "fsync", fsync)
        for attempt in (lambda: store.publish(document(a="new"), version(store)), lambda: store.examine(SECRET)):
            with pytest.raises(RotationError) as caught:
                attempt()
            assert caught.value.kind == "transient"

    @pytest.mark.parametrize(
        ("call", "code", "words"),
        [
            ("symlink", errno.EPERM, "no symbolic links"),
            ("symlink", errno.EOPNOTSUPP, "no symbolic links"),
            ("flock", errno.ENOLCK, "no locks"),
            ("flock", errno.EOPNOTSUPP, "no locks"),
            ("flock", errno.EINVAL, "no locks"),
        ],
    )
    def test_what_cannot_be_done_without(
        self, root: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int, words: str
    ) -> None:
        """Links and locks: named as what is missing, by a publication and by ``check``, and nothing is left behind."""

        def fail(*_: object, **__: object) -> None:
            raise OSError(code, os.strerror(code))

        store = DirectoryStore(root, StandingClock())
        publish(store, "old")
        before = {path.name for path in root.rglob("*")}
        monkeypatch.setattr(os if call == "symlink" else fcntl, call, fail)
        for attempt in (lambda: store.publish(document(b="new"), version(store)), lambda: store.examine(SECRET)):
            with pytest.raises(Denied, match=words) as caught:
                attempt()
            assert caught.value.reason == "StorageUnsupported"
            assert "another file system" in caught.value.hint
        assert {path.name for path in root.rglob("*")} == before


class TestExamine:
    """``check`` takes the steps of a publication, where the credential would lie."""

    @pytest.mark.parametrize("made", [False, True])
    def test_nothing_is_left(self, root: Path, made: bool) -> None:  # noqa: FBT001 - a parameter of the test
        """Neither in the directory nor beside it."""
        store = DirectoryStore(root, StandingClock())
        if made:
            publish(store, "x")
        before = sorted(root.parent.rglob("*"))
        assert ("can be written to" if made else "can be made in") in store.examine(SECRET)
        assert sorted(root.parent.rglob("*")) == before

    def test_what_is_published_stays(self, root: Path) -> None:
        """Readers notice nothing of it."""
        store = DirectoryStore(root, StandingClock())
        publish(store, "x")
        seen = version(store)
        store.examine(SECRET)
        assert version(store) == seen
