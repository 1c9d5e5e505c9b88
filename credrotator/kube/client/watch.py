"""One watch: events as they come, line by line.

Owns reading a stream that another thread may interrupt. Must not know what is watched. Source: Kubernetes API concepts,
"Efficient detection of changes"; reliability.md 29, 30.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from urllib3.exceptions import HTTPError

from credrotator.kube.client.api_errors import NO_ANSWER, ApiError, from_status
from credrotator.kube.client.api_objects import WatchEvent

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    import urllib3

LINE_LIMIT = 16 * 1024 * 1024
"""Bytes of one event; etcd itself refuses objects over 1.5 MiB."""


class Watch(Iterator[WatchEvent]):
    """The events of one response; ends where the server ends it.

    Close it in the thread that reads it (it is a context manager); :meth:`interrupt` works from any thread.

    Args:
        response: Not read yet.
        translate: From urllib3's errors to ours.
    """

    def __init__(self, response: urllib3.BaseHTTPResponse, translate: Callable[[Exception], ApiError]) -> None:
        self._response = response
        self._translate = translate
        self._rest = b""
        self._lines: list[bytes] = []
        self._interrupted = False

    def __next__(self) -> WatchEvent:
        while not self._interrupted:
            while self._lines:
                if line := self._lines.pop(0).strip():
                    return self._event(line)
            if not self._fill():
                break
        self.close()
        raise StopIteration

    def _fill(self) -> bool:
        try:
            # What is there, not so many bytes: ``read`` would wait for the rest of a chunk, and an event would be seen
            # when the next one comes.
            chunk = self._response.read1(65536)
        except (HTTPError, OSError, ValueError) as error:
            # A ValueError is what ssl makes of a socket that was shut down between two looks at it.
            self.close()
            if self._interrupted:
                return False
            raise self._translate(error) from error
        *self._lines, self._rest = (self._rest + chunk).split(b"\n")
        # A stream without line ends would fill the memory.
        if len(self._rest) > LINE_LIMIT:
            self.close()
            raise ApiError(NO_ANSWER, "InvalidResponse", "an event is longer than 16 MiB")
        return bool(chunk)

    def _event(self, line: bytes) -> WatchEvent:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError) as error:
            self.close()
            raise ApiError(NO_ANSWER, "InvalidResponse", "an event is not JSON") from error
        if not isinstance(event, dict) or not isinstance(event.get("object"), dict):
            self.close()
            raise ApiError(NO_ANSWER, "InvalidResponse", "an event is not an object")
        if event.get("type") == "ERROR":
            self.close()
            raise from_status(event["object"])
        return {"type": str(event.get("type")), "object": event["object"]}

    def interrupt(self) -> None:
        """End the reading, from any thread."""
        # Before the shutdown: the reader, which wakes up by it, must see that this is no failure.
        self._interrupted = True
        try:
            self._response.shutdown()
        except (ValueError, RuntimeError, OSError):
            # It ended by itself, just now.
            return

    def close(self) -> None:
        """Give up the connection; an unfinished stream cannot be used again."""
        self._response.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()
