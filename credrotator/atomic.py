"""Files that are there whole or not at all, for readers and across a crash; nobody's symlink is followed.

Owns the recipe (temporary file beside the target, 0600, fsync of file and directory, rename) and what an OSError
means to a person. POSIX only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from typing import TYPE_CHECKING

from credrotator.errors import Denied, RotationError, Transient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


def write_file(target: Path, content: bytes) -> bool:
    """Replace a file if its content differs; tell whether it did. The directory must exist.

    NOTE: the new modification time is always later than the old one, even after a backward step of the clock: the
    gateway's filter ignores a file that does not look newer.

    Raises:
        RotationError: With reason DiskFull, NotWritable or UnsafePath; the old file is untouched.
    """
    with storage_errors(str(target)), open_directory(target.parent) as directory:
        old = _read_with_time(directory, target.name)
        if old and old[0] == content:
            return False
        temporary = f".{target.name}.{secrets.token_hex(6)}.tmp"
        try:
            create_file(directory, temporary, content, newer_than_ns=old[1] if old else 0)
            os.rename(temporary, target.name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=directory)
            raise
        os.fsync(directory)
    return True


def create_file(directory: int, name: str, content: bytes, *, newer_than_ns: int = 0) -> None:
    """Create a file of mode 0600 in an open directory and bring it to the disk."""
    descriptor = os.open(name, _CREATE, 0o600, dir_fd=directory)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        if os.fstat(descriptor).st_mtime_ns <= newer_than_ns:
            os.utime(descriptor, ns=(newer_than_ns, newer_than_ns + 1_000_000))
        os.fsync(descriptor)


def read_file(directory: int, name: str) -> bytes | None:
    """Read a regular file of an open directory; None if there is none."""
    found = _read_with_time(directory, name)
    return found[0] if found else None


def _read_with_time(directory: int, name: str) -> tuple[bytes, int] | None:
    try:
        descriptor = os.open(name, _READ, dir_fd=directory)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read(), os.fstat(descriptor).st_mtime_ns


@contextlib.contextmanager
def open_directory(path: Path | str, *, inside: int | None = None, create: bool = False) -> Iterator[int]:
    """Open a directory that is ours alone to write to, and yield its descriptor.

    Args:
        path: The directory; with ``inside``, a single name in that open directory, which must not be a symlink.
        inside: Descriptor of the parent.
        create: Make it (0700) if it is missing.

    Raises:
        OSError: It cannot be opened.
        Denied: Reason UnsafePath: somebody else owns it or may write to it.
    """
    if create:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700, dir_fd=inside)
    flags = _DIRECTORY if inside is None else _DIRECTORY | os.O_NOFOLLOW
    descriptor = os.open(path, flags, dir_fd=inside)
    try:
        _check_ownership(descriptor, path)
        yield descriptor
    finally:
        os.close(descriptor)


def _check_ownership(descriptor: int, path: Path | str) -> None:
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid():
        raise Denied(
            "UnsafePath",
            f"directory {path} belongs to user {status.st_uid}, not to the one who runs credrotator",
            hint="name a directory of your own, for example a new one inside it",
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Denied(
            "UnsafePath",
            f"directory {path} can be written to by others (mode {stat.S_IMODE(status.st_mode):04o})",
            hint=f"chmod go-w {path}, or name a new directory inside it",
        )


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
        case errno.ENOSPC | errno.EDQUOT | errno.EMFILE | errno.ENFILE:
            return Transient("DiskFull", f"{where}: {text}", hint="make room there; the last good credential stays")
        case errno.ELOOP | errno.ENOTDIR:
            message = f"{where}: a symlink or a file stands where a directory is expected"
            return Denied("UnsafePath", message, hint="see who put it there, then remove it")
        case errno.EACCES | errno.EPERM | errno.EROFS | errno.ENOENT:
            hint = "let the user who runs credrotator write there, or name another directory"
            return Denied("NotWritable", f"{where}: {text}", hint=hint)
    return Transient("StorageFailed", f"{where}: {text}", hint="see the system's log for this device")
