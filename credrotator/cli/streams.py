"""Standard input, output and error, whatever the parent process left of them.

Owns that none of them can stop the work: a launcher may have closed one, a disk may be full behind one. A credential
that was published is published, whether or not anybody can be told. Must not know what is printed.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from typing import Any, TextIO

INPUT, OUTPUT, ERROR = 0, 1, 2


class _Writer(io.RawIOBase):
    """An open descriptor that takes everything; ``failure`` says why nothing arrives any more."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.failure: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: Any) -> int:
        size_bytes = memoryview(data).nbytes
        if self.failure is not None:
            return size_bytes
        try:
            return os.write(self._descriptor, data)
        # Somebody made the pipe non-blocking (Node.js does, for all who share it): wait until there is room. Zero bytes
        # written make BufferedWriter try again.
        except BlockingIOError:
            select.select([], [self._descriptor], [])
            return 0
        except OSError as error:
            # Whoever reads our output and has enough of it (``| head``) ends us; nobody does so by reading our errors.
            if isinstance(error, BrokenPipeError) and self._descriptor == OUTPUT:
                # Without its number: click takes an EPIPE for its own affair, and ends with 1, "some policies failed".
                raise BrokenPipeError("nobody reads standard output any more") from error
            self.failure = error
            return size_bytes


def open_standard_streams() -> None:
    """Replace the streams of this process by such as never fail, and closed ones by the null device.

    NOTE: a closed descriptor is the first that the next file gets: what is meant for a person would be written there.
    """
    for descriptor in (INPUT, OUTPUT, ERROR):
        _open_if_closed(descriptor)
    # Streams that somebody put in their place, such as a test's, are left alone.
    if sys.stdin is sys.__stdin__ and sys.stdin is None:
        sys.stdin = open(INPUT, encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as we run
    if sys.stdout is sys.__stdout__:
        sys.stdout = _guarded(sys.stdout, OUTPUT)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _guarded(sys.stderr, ERROR)


def _open_if_closed(descriptor: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        if null != descriptor:
            os.dup2(null, descriptor)
            os.close(null)
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - a credential plug-in is a child of ours


def _guarded(stream: TextIO | None, descriptor: int) -> TextIO:
    return io.TextIOWrapper(
        io.BufferedWriter(_Writer(descriptor)),
        # A closed stream has none. backslashreplace: a name that the locale cannot write must not end the command.
        encoding=getattr(stream, "encoding", None) or "utf-8",
        errors=getattr(stream, "errors", None) or "backslashreplace",
        line_buffering=descriptor == ERROR or os.isatty(descriptor),
    )


def lost_output() -> OSError | None:
    """Return why standard output could not be written; None if it could, as far as anybody knows.

    Raises:
        BrokenPipeError: Nobody reads it any more.
    """
    with contextlib.suppress(ValueError):
        sys.stdout.flush()
    writer = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return writer.failure if isinstance(writer, _Writer) else None
