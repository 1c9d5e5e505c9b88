"""Files that a person names, read so that none of them can hang us or fill the memory.

Owns what such a file may be: a regular file, of a size that makes sense. A pipe would block for ever, ``/dev/zero``
never ends. Must not know what is in it.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from credrotator.core.errors import UsageError, printable

if TYPE_CHECKING:
    from pathlib import Path

MIB = 2**20
# Without O_NONBLOCK the opening of a pipe waits for somebody who writes to it.
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_GIT_CRYPT = b"\0GITCRYPT"


class UnreadableError(UsageError):
    """Something that was named is not to be read.

    Args:
        shown: What messages call it.
        why: The reason alone, for who names the place otherwise.
    """

    def __init__(self, shown: str, why: str) -> None:
        super().__init__(f"cannot read {shown}: {why}")
        self.why = why


def read_bytes(path: Path, limit_bytes: int, noun: str = "") -> bytes:
    """Read a whole file; links are followed.

    Args:
        path: The file.
        limit_bytes: How long it may be.
        noun: What messages call it before its name.

    Raises:
        UnreadableError: It is not there, may not be read, is no regular file, or is longer than the limit.
    """
    shown = f"{noun} {printable(path)}".strip()
    try:
        # One byte more than is allowed tells a file that is too long from one that just fits.
        content = _read(path, limit_bytes + 1, shown)
    except OSError as error:
        raise UnreadableError(shown, error.strerror or str(error)) from error
    except ValueError as error:
        raise UnreadableError(shown, "it is no name of a file") from error
    if len(content) > limit_bytes:
        raise UnreadableError(shown, f"it is longer than {limit_bytes // MIB} MiB")
    return content


def _read(path: Path, size_bytes: int, shown: str) -> bytes:
    descriptor = os.open(path, _READ)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise UnreadableError(shown, f"it is {_kind(mode)}")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(size_bytes)
    finally:
        os.close(descriptor)


def read_text(path: Path, limit_bytes: int, noun: str = "") -> str:
    """Read a whole file of text; the byte order mark with which files of Windows begin is no part of it.

    Raises:
        UnreadableError: As for ``read_bytes``, or it is not UTF-8.
    """
    content = read_bytes(path, limit_bytes, noun)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        shown = f"{noun} {printable(path)}".strip()
        raise UnreadableError(shown, _no_text(content, error)) from error


def file_mode(path: Path, *, links: bool = False) -> int | None:
    """Return a file's type and mode, None if there is none; with ``links`` those of a link, not of where it leads.

    Raises:
        UsageError: It cannot be looked at: a directory above it may not be entered, for example.
    """
    try:
        return (path.lstat() if links else path.stat()).st_mode
    # ``a/b`` where ``a`` is a file: there is nothing either.
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "this is no name of a file"
        raise UsageError(f"{printable(path)}: {why}") from error


def _no_text(content: bytes, error: UnicodeDecodeError) -> str:
    if content.startswith(_UTF16):
        return "it is UTF-16, as PowerShell writes it; save it as UTF-8"
    if content.startswith(_GIT_CRYPT):
        return "it is encrypted by git-crypt; unlock it first, it has to be UTF-8 text"
    return f"{error.reason}; it has to be UTF-8 text"


def _kind(mode: int) -> str:
    """Name what is no regular file, with what to do instead."""
    if stat.S_ISDIR(mode):
        return "a directory; name a file in it"
    if stat.S_ISFIFO(mode):
        return "a pipe; feed it to -f -, which is standard input"
    return "a device; name a regular file, or feed it to -f -, which is standard input"
