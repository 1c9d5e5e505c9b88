"""Files that are there whole or not at all, for readers and across a crash; nobody's symlink is followed.

Owns the recipe (temporary file beside the target, 0600, fsync of file and directory, rename), who else may be let in,
the lock between processes, and what an OSError means to a person. POSIX only.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import grp
import hashlib
import logging
import os
import re
import secrets
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from credrotator.core.errors import (
    Denied,
    RotationError,
    StoreAway,
    StoreClosed,
    Transient,
    UsageError,
    printable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = logging.getLogger(__name__)

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# O_EXCL and a random name: whoever may write beside us could have put a link where the file is to be, and have us write
# a credential to a place of theirs.
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK, a pipe that somebody put in the file's place would block its reader for ever.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
# A publication takes milliseconds; whoever holds the lock for this long hangs, at NFS for example.
_LOCK_TIMEOUT_S = 10
_ABANDONED_S = 3600
"""A temporary file of that age has no writer any more."""
# What FUSE, SMB and other file systems answer to fsync, flock and symlink.
_NOT_SUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF}
_ROOT = 0
_NUMBER = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Access:
    """Who else may read what is written, and write where it lies.

    A volume with an ``fsGroup`` is given to that group, writable, each time it is mounted: whoever has to live with
    that names the group, and trusts its members with the credentials.

    Attributes:
        group: Number of the group; None for nobody.
        mode: Of files, where the operator says which; None: 0600, or 0640 for a group.
    """

    group: int | None = None
    mode: int | None = None

    def is_right(self, status: os.stat_result) -> bool:
        """Tell whether exactly those may open a file who are meant to, as far as its mode says."""
        # Templates alone have a mode of their own; Secrets go by the group.
        if self.mode is not None:
            return stat.S_IMODE(status.st_mode) == self.mode and self.group in {None, status.st_gid}
        if self.group is None:
            return not status.st_mode & 0o077
        return status.st_gid == self.group and bool(status.st_mode & stat.S_IRGRP) and not status.st_mode & 0o007

    def takes_owner(self, uid: int) -> bool:
        """Tell whether a directory may belong to a user; the top of a volume with a group is root's."""
        return uid == os.geteuid() or (self.group is not None and uid == _ROOT)

    def takes_writers(self, status: os.stat_result) -> bool:
        """Tell whether nobody may write to a directory but those who are meant to."""
        mode = status.st_mode
        return not mode & stat.S_IWOTH and (not mode & stat.S_IWGRP or status.st_gid == self.group)

    def share_file(self, descriptor: int) -> None:
        """Let the group read an open file of ours, too, where there is one; or give the file its mode."""
        if self.mode is None:
            self._share(descriptor, stat.S_IRGRP)
            return
        if self.group is not None:
            os.fchown(descriptor, -1, self.group)
        os.fchmod(descriptor, self.mode)

    def share_directory(self, descriptor: int) -> None:
        """Let the group into an open directory of ours, too, where there is one: 2770 in place of 0700."""
        self._share(descriptor, stat.S_ISGID | stat.S_IRWXG)

    def _share(self, descriptor: int, mode: int) -> None:
        status = os.fstat(descriptor)
        # Of another owner's file nothing can be changed (chown(2)): the top of a volume with fsGroup is root's, and set
        # up by the kubelet.
        if self.group is None or status.st_uid != os.geteuid():
            return
        if status.st_gid != self.group:
            os.fchown(descriptor, -1, self.group)
        if status.st_mode & mode != mode:
            os.fchmod(descriptor, stat.S_IMODE(status.st_mode) | mode)


PRIVATE = Access()


def group_number(name: str) -> int:
    """Return the number of a group of this process, by its name or number.

    Raises:
        UsageError: There is no such group, or this process is not in it.
    """
    try:
        number = int(name) if _NUMBER.fullmatch(name) else grp.getgrnam(name).gr_gid
    except (KeyError, ValueError) as error:
        raise UsageError(f"{printable(name, 80)}: there is no such group; name it by its number") from error
    if os.geteuid() and number not in {os.getegid(), *os.getgroups()}:
        raise UsageError(f"{printable(name, 80)}: this process is not in the group, so it cannot give it files")
    return number


class _Present(NamedTuple):
    content: bytes
    status: os.stat_result


def write_file(target: Path, content: bytes, access: Access = PRIVATE, files: Access | None = None) -> bool:
    """Replace a file if its content differs, or if others may open it; tell whether it did. The directory must exist.

    Args:
        target: The file.
        content: What it is to hold.
        access: Who else may write to the directory, and read the file.
        files: Who else may read the file, if others than that.

    NOTE: the new modification time is always later than the old one, even after a backward step of the clock: the
    gateway's filter ignores a file that does not look newer.

    Raises:
        RotationError: With reason DiskFull, NotWritable or UnsafePath; the old file is untouched.
    """
    with storage_errors(str(target)), open_directory(target.parent, access=access, follow=True) as directory:
        return replace_file(directory, target.name, content, access=files or access)


def replace_file(directory: int, name: str, content: bytes, *, durable: bool = True, access: Access = PRIVATE) -> bool:
    """Do what ``write_file`` does, in an open directory; if not ``durable``, a power cut may bring the old one back."""
    # Compared first. A file that is replaced by an equal one wakes up everybody who watches it, for nothing.
    old = _find(directory, name)
    if old and old.content == content and access.is_right(old.status):
        return False
    # Named after the target by a hash only: the target's name may be as long as the file system allows.
    family = f".credrotator-{hashlib.sha256(name.encode()).hexdigest()[:12]}-"
    temporary = f"{family}{secrets.token_hex(6)}"
    try:
        newer_than_ns = old.status.st_mtime_ns if old else 0
        create_file(directory, temporary, content, newer_than_ns=newer_than_ns, durable=durable, access=access)
        # By descriptors, not by paths: the directory that was checked is the one that is written to, whatever stands at
        # its path by now.
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
    if durable:
        synchronize(directory)
    _remove_abandoned(directory, family, name)
    return True


def create_file(
    directory: int,
    name: str,
    content: bytes,
    *,
    newer_than_ns: int = 0,
    durable: bool = True,
    access: Access = PRIVATE,
) -> None:
    """Create a file of mode 0600 (0640 for a group) in an open directory and bring it to the disk."""
    descriptor = os.open(name, _CREATE, 0o600, dir_fd=directory)
    with os.fdopen(descriptor, "wb") as file:
        # Before the content: the mode must not be wider, nor the group another, for a moment in which there is a secret
        # in it.
        access.share_file(descriptor)
        file.write(content)
        # Python's own buffer; fsync knows only what the system has.
        file.flush()
        # A clock that was set back, or a file system with coarse times. The gateway's filter reads a file again only if
        # it looks newer.
        if os.fstat(descriptor).st_mtime_ns <= newer_than_ns:
            os.utime(descriptor, ns=(newer_than_ns, newer_than_ns + 1_000_000))
        if durable:
            synchronize(descriptor)


def synchronize(descriptor: int) -> None:
    """Bring an open file or directory to the disk, where its file system can.

    Some cannot, for directories above all (CIFS before Linux 4.17, vboxsf, FUSE): what was written is there all the
    same, and only a power cut can tell.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
        _warn_of_power_cuts(os.fstat(descriptor).st_dev, error.strerror)


@functools.lru_cache(maxsize=64)
def _warn_of_power_cuts(_device: int, why: str) -> None:
    """Say it once for each file system."""
    log.warning("the file system cannot bring all files to the disk (%s): a power cut may bring old ones back", why)


def read_file(directory: int, name: str) -> bytes | None:
    """Read a regular file of an open directory; None if there is none."""
    old_file = _find(directory, name)
    return old_file.content if old_file else None


def _find(directory: int, name: str) -> _Present | None:
    try:
        descriptor = os.open(name, _READ, dir_fd=directory)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(descriptor)
        # Asked of the open file, not of the name: between a check by name and the opening, somebody could put another
        # thing there.
        if not stat.S_ISREG(status.st_mode):
            raise Denied("UnsafePath", f"{name} is not a regular file", hint="see who put it there, then remove it")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return _Present(file.read(), status)
    finally:
        os.close(descriptor)


def _remove_abandoned(directory: int, family: str, newest: str) -> None:
    """Remove what writers of this file left behind when they were killed: it holds credentials too."""
    with contextlib.suppress(OSError):
        # The file system's clock, by the file that was just written: on a network volume it is the server's, and the
        # age of the others is measured by it.
        now_s = os.stat(newest, dir_fd=directory, follow_symlinks=False).st_ctime
        for name in os.listdir(directory):
            if not name.startswith(family):
                continue
            if now_s - os.stat(name, dir_fd=directory, follow_symlinks=False).st_ctime > _ABANDONED_S:
                os.unlink(name, dir_fd=directory)


@contextlib.contextmanager
def open_directory(
    path: Path | str,
    *,
    inside: int | None = None,
    create: bool = False,
    shown: object = None,
    access: Access = PRIVATE,
    follow: bool = False,
) -> Iterator[int]:
    """Open a directory that is ours alone to write to, and yield its descriptor.

    Args:
        path: The directory; with ``inside``, a single name in that open directory.
        inside: Descriptor of the parent.
        create: Make it (0700, 2770 for a group) if it is missing, to outlive a power cut.
        shown: What messages call it; the path itself by default.
        access: Whom else it may belong to.
        follow: Whether the last part of the path may be a symlink.

    Raises:
        OSError: It cannot be opened.
        Denied: Reason UnsafePath: somebody else owns it or may write to it.
    """
    if create:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700, dir_fd=inside)
            if inside is not None:
                synchronize(inside)
    flags = _DIRECTORY if follow else _DIRECTORY | os.O_NOFOLLOW
    # Opened first and then checked, by the descriptor: what is checked is what is used.
    descriptor = os.open(path, flags, dir_fd=inside)
    try:
        _check_ownership(descriptor, path if shown is None else shown, access)
        if create:
            access.share_directory(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def _check_ownership(descriptor: int, shown: object, access: Access) -> None:
    status = os.fstat(descriptor)
    if not access.takes_owner(status.st_uid):
        raise Denied(
            "UnsafePath",
            f"directory {shown} belongs to user {status.st_uid}, not to user {os.geteuid()} who runs credrotator",
            hint="name a directory of your own, for example a new one inside it",
        )
    if not access.takes_writers(status):
        message = f"directory {shown} can be written to by others (mode {stat.S_IMODE(status.st_mode):04o})"
        raise Denied("UnsafePath", message, hint=_advice_on_mode(status, shown))


def _advice_on_mode(status: os.stat_result, shown: object) -> str:
    if status.st_mode & stat.S_ISVTX:
        return "name a new directory inside it"  # nobody should change the mode of /tmp
    advice = f"chmod go-w {shown}, or name a new directory inside it"
    if status.st_mode & stat.S_ISGID and not status.st_mode & stat.S_IWOTH:
        # The kubelet's work on a volume with fsGroup, which it does again at the next mount.
        return f"if the group may read and replace the credentials: --out-group {status.st_gid}; else {advice}"
    return advice


@contextlib.contextmanager
def locked(directory: int, name: str, shown: object) -> Iterator[None]:
    """Hold a lock file of an open directory, which lasts as long as the process at most (flock(2)).

    Raises:
        Transient: Reason StorageBusy: somebody else holds it for too long.
    """
    # A file of its own, never removed: a lock on a file that somebody removes and makes anew would be held twice.
    descriptor = os.open(name, _LOCK, 0o600, dir_fd=directory)
    try:
        deadline_s = time.monotonic() + _LOCK_TIMEOUT_S
        while not _try_lock(descriptor):
            if time.monotonic() > deadline_s:
                hint = "look for another credrotator that hangs on this directory"
                raise Transient("StorageBusy", f"{shown} is locked by another process", hint=hint)
            # Polled, since flock cannot wait with a limit without signals, which belong to the main thread.
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in {*_NOT_SUPPORTED, errno.ENOLCK}:
            raise _unsupported("no locks", error) from error
        raise
    return True


def make_symlink(directory: int, name: str, target: str) -> None:
    """Make a symlink in an open directory.

    Raises:
        Denied: Reason StorageUnsupported: the file system has none.
    """
    try:
        os.symlink(target, name, dir_fd=directory)
    except OSError as error:
        if error.errno in {*_NOT_SUPPORTED, errno.EPERM}:
            raise _unsupported("no symbolic links", error) from error
        raise


def _unsupported(what: str, error: OSError) -> Denied:
    message = f"the file system has {what} ({error.strerror})"
    return Denied("StorageUnsupported", message, hint="name a directory on another file system, such as a local one")


@contextlib.contextmanager
def storage_errors(where: str, *, reads: bool = False) -> Iterator[None]:
    """Turn an OSError of the block into a RotationError that says what to do.

    Args:
        where: What it was about.
        reads: Whether nothing is written in the block.
    """
    try:
        yield
    except OSError as error:
        if reads and error.errno in {errno.EACCES, errno.EPERM}:
            hint = "run credrotator as the user who owns it, or share the directory with --out-group"
            raise StoreClosed("NotReadable", f"{where}: {error.strerror}", hint=hint) from error
        raise _explained(error, where) from error


def _explained(error: OSError, where: str) -> RotationError:
    # An OSError that Python made itself, such as for a name with a NUL, has no strerror.
    text = error.strerror or type(error).__name__
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return StoreAway("DiskFull", f"{where}: {text}", hint="make room there; the last good credential stays")
        # Passes when other threads close theirs, so it counts as the store being away.
        case errno.EMFILE | errno.ENFILE:
            return StoreAway("TooManyFiles", f"{where}: {text}", hint="raise ulimit -n, or lower --workers")
        case errno.ELOOP | errno.ENOTDIR:
            message = f"{where}: a symlink stands there, or something else where a directory is expected"
            return Denied("UnsafePath", message, hint="check each part of that path; see who put it there, remove it")
        case errno.EISDIR | errno.EEXIST:
            message = f"{where}: a directory stands there where a file is expected"
            return Denied("UnsafePath", message, hint="see who put it there, then remove it")
        case errno.ENOENT:
            return StoreClosed("NotWritable", f"{where}: {text}", hint="create the directory, or name another one")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            hint = "let the user who runs credrotator write there, or name another directory"
            return StoreClosed("NotWritable", f"{where}: {text}", hint=hint)
        case _:
            pass
    return StoreAway("StorageFailed", f"{where}: {text}", hint="see the system's log for this device")
