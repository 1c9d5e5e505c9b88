"""The log of what a sandbox server was asked.

Owns the recorded requests of one server and the count of those being answered. Must not decide anything: the server
answers the same whether somebody reads the log or not. Specification: none; the model is python-tuf's
``repository_simulator.py``, whose fetch log is what its tests assert on.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from werkzeug.datastructures import Headers, MultiDict


KEPT_REQUESTS = 20_000


@dataclass(frozen=True)
class RecordedRequest:
    """One request as it arrived.

    ``time`` is the server's own clock (aware UTC); ``scheme`` is "https" or "http" as it was on the wire. Headers,
    form and body stay out of ``repr`` because they carry client secrets.
    """

    method: str
    path: str
    query: MultiDict[str, str]
    scheme: str
    time: datetime
    form: MultiDict[str, str] = field(repr=False)
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)

    def matches(self, path: str | None = None, method: str | None = None) -> bool:
        """Tell whether this request has the method and a path that the glob ``path`` covers (None: any)."""
        return (path is None or fnmatchcase(self.path, path)) and method in (None, self.method)


class RequestLog:
    """A thread-safe list of requests that also knows how many are being answered right now.

    It keeps the newest ``KEPT_REQUESTS``, so that a sandbox may run for days.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._requests: deque[RecordedRequest] = deque(maxlen=KEPT_REQUESTS)
        self._total = 0
        self._in_flight = 0
        self._peak_in_flight = 0

    def __iter__(self) -> Iterator[RecordedRequest]:
        return iter(self.matching())

    def __len__(self) -> int:
        return len(self.matching())

    def __getitem__(self, index: int) -> RecordedRequest:
        return self.matching()[index]

    @property
    def total(self) -> int:
        """Return how many requests ever arrived, also those that the log no longer keeps."""
        with self._changed:
            return self._total

    @property
    def in_flight(self) -> int:
        """Return how many requests were read and are not answered yet; a hanging one counts."""
        with self._changed:
            return self._in_flight

    @property
    def peak_in_flight(self) -> int:
        """Return the most requests that were in flight at once since the start or the last ``clear``."""
        with self._changed:
            return self._peak_in_flight

    def matching(self, path: str | None = None, method: str | None = None) -> list[RecordedRequest]:
        """Return a snapshot, oldest first, of the requests with that method and a path under that glob."""
        with self._changed:
            return [request for request in self._requests if request.matches(path, method)]

    def count(self, path: str | None = None, method: str | None = None) -> int:
        """Return how many requests ``matching`` would return."""
        return len(self.matching(path, method))

    def clear(self) -> None:
        """Forget all requests; those in flight stay counted."""
        with self._changed:
            self._requests.clear()
            self._peak_in_flight = self._in_flight

    def wait_for(self, condition: Callable[[RequestLog], bool], timeout_s: float = 30.0) -> bool:
        """Wait until ``condition(log)`` holds and return True, or False when ``timeout_s`` passed first.

        It is looked at again whenever a request arrives or is answered, so a test needs no sleep.
        """
        with self._changed:
            return self._changed.wait_for(lambda: condition(self), timeout_s)

    @contextmanager
    def recording(self, request: RecordedRequest) -> Iterator[None]:
        """Add ``request`` and count it as in flight until the block ends."""
        with self._changed:
            self._requests.append(request)
            self._total += 1
            self._in_flight += 1
            self._peak_in_flight = max(self._peak_in_flight, self._in_flight)
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._in_flight -= 1
                self._changed.notify_all()
