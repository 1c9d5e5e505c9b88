"""Files that are there whole or not at all, for readers and across a crash; nobody's symlink is followed.

Owns the recipe (temporary file beside the target, 0600, fsync of file and directory, rename), the lock between
processes, and what an OSError means to a person. POSIX only.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
import time
from typing import TYPE_CHECKING, NamedTuple

from credrotator.core.errors import Denied, RotationError, Transient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK, a pipe that somebody put in the file's place would block its reader for ever.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK_TIMEOUT_S = 10
_ABANDONED_S = 3600
"""A temporary file of that age has no writer any more."""


class _Found(NamedTuple):
    content: bytes
    modified_ns: int
    private: bool


def write_file(target: Path, content: bytes) -> bool:
    """Replace a file if its content differs, or if others may open it; tell whether it did. The directory must exist.

    NOTE: the new modification time is always later than the old one, even after a backward step of the clock: the
    gateway's filter ignores a file that does not look newer.

    Raises:
        RotationError: With reason DiskFull, NotWritable or UnsafePath; the old file is untouched.
    """
    with storage_errors(str(target)), open_directory(target.parent) as directory:
        return replace_file(directory, target.name, content)


def replace_file(directory: int, name: str, content: bytes, *, durable: bool = True) -> bool:
    """Do what ``write_file`` does, in an open directory; if not ``durable``, a power cut may bring the old one back."""
    old = _find(directory, name)
    if old and old.content == content and old.private:
        return False
    # Named after the target by a hash only: the target's name may be as long as the file system allows.
    family = f".credrotator-{hashlib.sha256(name.encode()).hexdigest()[:12]}-"
    temporary = f"{family}{secrets.token_hex(6)}"
    try:
        create_file(directory, temporary, content, newer_than_ns=old.modified_ns if old else 0, durable=durable)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
    if durable:
        os.fsync(directory)
    _remove_abandoned(directory, family, name)
    return True


def create_file(directory: int, name: str, content: bytes, *, newer_than_ns: int = 0, durable: bool = True) -> None:
    """Create a file of mode 0600 in an open directory and bring it to the disk."""
    descriptor = os.open(name, _CREATE, 0o600, dir_fd=directory)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        if os.fstat(descriptor).st_mtime_ns <= newer_than_ns:
            os.utime(descriptor, ns=(newer_than_ns, newer_than_ns + 1_000_000))
        if durable:
            os.fsync(descriptor)


def read_file(directory: int, name: str) -> bytes | None:
    """Read a regular file of an open directory; None if there is none."""
    found = _find(directory, name)
    return found.content if found else None


def _find(directory: int, name: str) -> _Found | None:
    try:
        descriptor = os.open(name, _READ, dir_fd=directory)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Denied("UnsafePath", f"{name} is not a regular file", hint="see who put it there, then remove it")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return _Found(file.read(), status.st_mtime_ns, private=not status.st_mode & 0o077)
    finally:
        os.close(descriptor)


def _remove_abandoned(directory: int, family: str, newest: str) -> None:
    """Remove what writers of this file left behind when they were killed: it holds credentials too."""
    with contextlib.suppress(OSError):
        now_s = os.stat(newest, dir_fd=directory, follow_symlinks=False).st_ctime
        for name in os.listdir(directory):
            if not name.startswith(family):
                continue
            if now_s - os.stat(name, dir_fd=directory, follow_symlinks=False).st_ctime > _ABANDONED_S:
                os.unlink(name, dir_fd=directory)


@contextlib.contextmanager
def open_directory(
    path: Path | str, *, inside: int | None = None, create: bool = False, shown: object = None
) -> Iterator[int]:
    """Open a directory that is ours alone to write to, and yield its descriptor.

    Args:
        path: The directory; with ``inside``, a single name in that open directory, which must not be a symlink.
        inside: Descriptor of the parent.
        create: Make it (0700) if it is missing, to outlive a power cut.
        shown: What messages call it; the path itself by default.

    Raises:
        OSError: It cannot be opened.
        Denied: Reason UnsafePath: somebody else owns it or may write to it.
    """
    if create:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700, dir_fd=inside)
            if inside is not None:
                os.fsync(inside)
    flags = _DIRECTORY if inside is None else _DIRECTORY | os.O_NOFOLLOW
    descriptor = os.open(path, flags, dir_fd=inside)
    try:
        _check_ownership(descriptor, path if shown is None else shown)
        yield descriptor
    finally:
        os.close(descriptor)


def _check_ownership(descriptor: int, shown: object) -> None:
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid():
        raise Denied(
            "UnsafePath",
            f"directory {shown} belongs to user {status.st_uid}, not to user {os.geteuid()} who runs credrotator",
            hint="name a directory of your own, for example a new one inside it",
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Denied(
            "UnsafePath",
            f"directory {shown} can be written to by others (mode {stat.S_IMODE(status.st_mode):04o})",
            # Nobody should follow such advice about /tmp.
            hint="name a new directory inside it"
            if status.st_mode & stat.S_ISVTX
            else f"chmod go-w {shown}, or name a new directory inside it",
        )


@contextlib.contextmanager
def locked(directory: int, name: str, shown: object) -> Iterator[None]:
    """Hold a lock file of an open directory, which lasts as long as the process at most (flock(2)).

    Raises:
        Transient: Reason StorageBusy: somebody else holds it for too long.
    """
    descriptor = os.open(name, _LOCK, 0o600, dir_fd=directory)
    try:
        deadline_s = time.monotonic() + _LOCK_TIMEOUT_S
        while not _try_lock(descriptor):
            if time.monotonic() > deadline_s:
                hint = "look for another credrotator that hangs on this directory"
                raise Transient("StorageBusy", f"{shown} is locked by another process", hint=hint)
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def storage_errors(where: str) -> Iterator[None]:
    """Turn an OSError of the block into a RotationError that says what to do."""
    try:
        yield
    except OSError as error:
        raise _explained(error, where) from error


def _explained(error: OSError, where: str) -> RotationError:
    text = error.strerror or type(error).__name__
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return Transient("DiskFull", f"{where}: {text}", hint="make room there; the last good credential stays")
        case errno.EMFILE | errno.ENFILE:
            return Transient("TooManyFiles", f"{where}: {text}", hint="raise ulimit -n, or lower --workers")
        case errno.ELOOP | errno.ENOTDIR:
            message = f"{where}: a symlink stands there, or something else where a directory is expected"
            return Denied("UnsafePath", message, hint="look at each part of that path; see who put it there, remove it")
        case errno.EISDIR | errno.EEXIST:
            message = f"{where}: a directory stands there where a file is expected"
            return Denied("UnsafePath", message, hint="see who put it there, then remove it")
        case errno.ENOENT:
            return Denied("NotWritable", f"{where}: {text}", hint="create the directory, or name another one")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            hint = "let the user who runs credrotator write there, or name another directory"
            return Denied("NotWritable", f"{where}: {text}", hint=hint)
    return Transient("StorageFailed", f"{where}: {text}", hint="see the system's log for this device")
