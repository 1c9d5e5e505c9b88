"""Judges, by the API server's log, that the credentials in a cluster have one writer at a time.

Each daemon is a user of its own, so the log tells who wrote. Who holds the Lease is what the last accepted write of it
said; a write whose connection was cut may have been accepted, so that its sender may lead, too. A credential that
somebody else wrote counts against him, once he has had the time to notice: where the Lease is deleted by hand, the next
one to look takes it at once, and the former leader learns of it at his next renewal.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.kube.faults import Request

NOTICED_S = 5.0
"""Within this time a former leader has tried to renew a Lease that is there no more: it does so every two seconds."""
ANSWERED_S = 60.0
"""What has no answer after that gets none: its connection was cut."""
_WRITES = frozenset({"create", "update", "patch", "delete"})


@dataclass(frozen=True)
class _Entry:
    at_s: float
    request: Request


class Log(list["Request"]):
    """A server's log, which also remembers when what matters here arrived; take it with :meth:`take`."""

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._seconds = seconds
        self._lock = threading.Lock()
        self._entries: list[_Entry] = []

    def append(self, request: Request) -> None:
        """Log a request."""
        super().append(request)
        if request.verb in _WRITES:
            with self._lock:
                self._entries.append(_Entry(self._seconds(), request))

    def take(self) -> list[_Entry]:
        """Return the writes since, in the order of their arrival, up to the first that may still be answered."""
        with self._lock:
            writes, late_s = self._entries, self._seconds() - ANSWERED_S
            pending = (n for n, entry in enumerate(writes) if not entry.request.status and entry.at_s > late_s)
            ready = next(pending, len(writes))
            self._entries = writes[ready:]
        return writes[:ready]


class Writers:
    """Follows a log.

    Attributes:
        writes: How many writes of credentials were judged.
        complaints: Those of one who did not lead, in words.
        changes: How often the Lease went to another one.
    """

    def __init__(self, log: Log) -> None:
        self.writes = self.changes = 0
        self.complaints: list[str] = []
        self._log = log
        self._holder, self._since_s = "", 0.0
        self._perhaps: set[str] = set()

    def judge(self) -> None:
        """Judge what was logged since the last time."""
        for entry in self._log.take():
            request = entry.request
            if request.resource == "leases":
                self._lead(entry)
            elif request.resource == "secrets" and request.status in range(200, 300):
                self._write(entry)

    def _lead(self, entry: _Entry) -> None:
        request = entry.request
        if not request.status:
            self._perhaps.add(request.user)
        if request.status not in range(200, 300):
            return
        holder = request.user if (request.body or {}).get("spec", {}).get("holderIdentity") else ""
        self._perhaps.clear()
        if holder != self._holder:
            self._holder, self._since_s = holder, entry.at_s
            self.changes += bool(holder)

    def _write(self, entry: _Entry) -> None:
        request = entry.request
        self.writes += 1
        led_s = entry.at_s - self._since_s
        if request.user not in {self._holder, *self._perhaps} and led_s > NOTICED_S:
            self.complaints.append(
                f"{request.user} wrote {request.name or 'a credential'} ({request.verb}), though "
                f"{self._holder or 'nobody'} had led for {led_s:.1f} s"
            )
