"""What the upstream was sent: the requests, the credentials they carried, and what it made of them."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

_POLL_S = 0.02


@dataclass(frozen=True)
class Request:
    """A request as it arrived. Header names are in lower case; the target is as it stood on the wire."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def host(self) -> str:
        return self.headers["host"]


@dataclass(frozen=True)
class Verdict:
    """Which credential a request used, by a name that is safe to print, and what was wrong with it.

    Attributes:
        status: How a request with a fault is answered.
        answer: What a good request is answered, in JSON; None for an answer in kind.
    """

    credential: str
    fault: str | None = None
    status: int = HTTPStatus.FORBIDDEN
    answer: object = None


@dataclass(frozen=True)
class Entry:
    """One request, judged."""

    at: datetime
    host: str
    verdict: Verdict


class Journal:
    """The upstream's memory, in the order of arrival; safe to read while requests flow."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[Entry] = []

    def add(self, host: str, verdict: Verdict) -> None:
        with self._lock:
            self._entries.append(Entry(datetime.now(UTC), host, verdict))

    def entries(self, host: str | None = None) -> Sequence[Entry]:
        """Return what has arrived so far, for one host or for all."""
        with self._lock:
            return [entry for entry in self._entries if host in (None, entry.host)]

    def faults(self) -> list[str]:
        """Return what was wrong with requests so far."""
        return [entry.verdict.fault for entry in self.entries() if entry.verdict.fault]

    def first_use(self, credential: str, *, within: timedelta) -> datetime | None:
        """Wait for the first request that uses a credential and return when it arrived, or None."""
        give_up = time.monotonic() + within.total_seconds()
        while True:
            for entry in self.entries():
                if entry.verdict.credential == credential:
                    return entry.at
            if time.monotonic() > give_up:
                return None
            time.sleep(_POLL_S)
