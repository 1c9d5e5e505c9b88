"""Single files are replaced whole, privately, only when needed, and look newer each time."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from credrotator.core.errors import Denied, RotationError
from credrotator.files.atomic import write_file


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Return a file that is not there yet, in a directory of ours."""
    tmp_path.chmod(0o700)
    return tmp_path / "filter.yaml"


def leftovers(target: Path) -> set[str]:
    """Return what lies beside the target."""
    return {path.name for path in target.parent.iterdir()} - {target.name}


def refused(target: Path) -> RotationError:
    """Write in vain."""
    with pytest.raises(RotationError) as caught:
        write_file(target, b"new")
    assert caught.value.hint
    assert str(target) in caught.value.message or target.name in caught.value.message
    return caught.value


def test_created(target: Path) -> None:
    """A file that is not there is made with mode 0600, whatever the umask is, and nothing else stays beside it."""
    before = os.umask(0)
    try:
        assert write_file(target, b"x\r\n")
    finally:
        os.umask(before)
    assert target.read_bytes() == b"x\r\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert leftovers(target) == set()


def test_unchanged(target: Path) -> None:
    """The same content is not written again: neither inode nor modification time move."""
    write_file(target, b"x")
    before = target.stat()
    assert not write_file(target, b"x")
    after = target.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o622])
def test_open_to_others(target: Path, mode: int) -> None:
    """A file that others may read or write is made private even where its content is right already."""
    write_file(target, b"x")
    target.chmod(mode)
    assert write_file(target, b"x")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_replaced_by_rename(target: Path) -> None:
    """A reader that has the old file open goes on reading the old content to its end."""
    write_file(target, b"old")
    with target.open("rb") as reader:
        write_file(target, b"new!")
        assert reader.read() == b"old"
    assert target.read_bytes() == b"new!"


@pytest.mark.parametrize("ahead_s", [0, 1, 3600, 10 * 365 * 86400])
def test_looks_newer(target: Path, ahead_s: int) -> None:
    """The new file's modification time is later than the old one's, even if that lies in the future.

    The gateway's filter ignores a file that does not look newer.
    """
    write_file(target, b"0")
    for number in range(1, 20):
        old_ns = target.stat().st_mtime_ns + ahead_s * 10**9
        os.utime(target, ns=(old_ns, old_ns))
        write_file(target, b"%d" % number)
        assert target.stat().st_mtime_ns > old_ns


@pytest.mark.parametrize("leads_to", ["a file", "nothing", "a directory"])
def test_symlink(target: Path, tmp_path: Path, leads_to: str) -> None:
    """A symlink in the target's place is refused, not followed and not replaced."""
    foreign = tmp_path / "foreign"
    if leads_to == "a file":
        foreign.write_text("theirs")
    elif leads_to == "a directory":
        foreign.mkdir()
    target.symlink_to(foreign)
    assert refused(target).reason == "UnsafePath"
    assert target.is_symlink()
    assert not foreign.is_file() or foreign.read_text() == "theirs"


@pytest.mark.parametrize("what", ["pipe", "directory"])
def test_not_a_file(target: Path, what: str) -> None:
    """Neither a device nor a pipe nor a directory is replaced by a file: the operator named it by mistake."""
    os.mkfifo(target) if what == "pipe" else target.mkdir()
    assert refused(target).reason == "UnsafePath"
    assert not target.is_file()


def test_device() -> None:
    """Root could replace /dev/null for the whole machine; it does not."""
    with pytest.raises(Denied):
        write_file(Path("/dev/null"), b"x")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("mode", [0o770, 0o1777, 0o707])
def test_directory_of_others(target: Path, mode: int) -> None:
    """Where others may write, they could exchange the file: refused, with the mode and with what helps.

    What helps is never to change the mode of a directory such as /tmp.
    """
    write_file(target, b"old")
    target.parent.chmod(mode)
    with pytest.raises(Denied, match=f"mode {mode:04o}") as caught:
        write_file(target, b"new")
    assert caught.value.hint.startswith(f"chmod go-w {target.parent}") is (mode != 0o1777)
    assert "name a new directory inside it" in caught.value.hint
    assert target.read_bytes() == b"old"


def test_no_directory(tmp_path: Path) -> None:
    """A missing directory is not made: it is the operator's typing error more often than not."""
    error = refused(tmp_path / "missing" / "file")
    assert (error.kind, error.reason) == ("denied", "NotWritable")
    assert "create the directory" in error.hint


def test_two_writers(target: Path) -> None:
    """Writers at once harm neither each other nor a reader: each content is whole, and nothing is left over."""
    write_file(target, b"start")
    contents = [bytes([65 + number]) * (5000 * number + 1) for number in range(4)]
    ended, seen = threading.Event(), set()

    def write(content: bytes) -> None:
        for _ in range(30):
            write_file(target, content)

    def read() -> None:
        while not ended.is_set():
            seen.add(target.read_bytes())

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    ended.set()
    reader.join()
    assert seen <= {b"start", *contents}
    assert leftovers(target) == set()


@pytest.mark.parametrize(("age_s", "stays"), [(0, True), (-1, False)])
def test_abandoned(target: Path, monkeypatch: pytest.MonkeyPatch, age_s: int, *, stays: bool) -> None:
    """What a killed writer left behind goes once no writer can be at it; a running writer's file stays."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rename", _killed)
        patch.setattr(os, "unlink", _killed)
        with pytest.raises(KeyboardInterrupt):
            write_file(target, b"half-made")
    (left,) = leftovers(target)
    if not stays:
        # The change time cannot be set, so the limit is moved below any age.
        monkeypatch.setattr("credrotator.files.atomic._ABANDONED_S", age_s)
    write_file(target, b"new")
    assert (left in leftovers(target)) is stays


def _killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_long_name(target: Path) -> None:
    """A name of the longest length that the file system takes can be replaced too."""
    longest = target.parent / ("x" * 255)
    assert write_file(longest, b"x")
    assert longest.read_bytes() == b"x"
