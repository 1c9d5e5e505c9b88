"""What a collection looked like when: the events of a watch, each with the moment of its arrival."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar
from urllib.parse import urlencode, urlsplit

from tests.support.parts.api import Api, Json, Resource

T = TypeVar("T")


@dataclass(frozen=True)
class Seen:
    """One version of an object. `kind` is ADDED, MODIFIED or DELETED."""

    at: datetime
    kind: str
    object: Json

    @property
    def name(self) -> str:
        return str(self.object["metadata"]["name"])


class History(Generic[T]):
    """What was noted of a watch, in order; safe to read while more comes."""

    def __init__(self) -> None:
        self._grew = threading.Condition()
        self._notes: list[T] = []

    def add(self, note: T) -> None:
        with self._grew:
            self._notes.append(note)
            self._grew.notify_all()

    def all(self) -> Sequence[T]:
        with self._grew:
            return list(self._notes)

    def first(self, wanted: Callable[[T], bool], *, within: timedelta) -> T | None:
        """Return the first note that is wanted, there or still to come, or None when the time is over."""
        give_up = time.monotonic() + within.total_seconds()
        looked_at = 0
        while True:
            with self._grew:
                fresh = self._notes[looked_at:]
                if not fresh and not self._grew.wait(give_up - time.monotonic()):
                    return None
            for note in fresh:
                if wanted(note):
                    return note
            looked_at += len(fresh)


@contextmanager
def watching(
    api: Api, resource: Resource, namespace: str | None, heed: Callable[[Seen], None], **query: str
) -> Iterator[None]:
    """Watch a collection until the block ends; `heed` hears of each event, first of what is there, as ADDED."""
    collection = api.list(resource, namespace, **query)
    for item in collection["items"]:
        heed(Seen(datetime.now(UTC), "ADDED", item))
    asked = {**query, "watch": "true", "resourceVersion": collection["metadata"]["resourceVersion"]}
    server = urlsplit(api.url)
    connection = http.client.HTTPSConnection(server.hostname or "", server.port, context=api.tls())
    connection.request("GET", f"{resource.path(namespace)}?{urlencode(asked)}")
    events = connection.getresponse()
    line = connection.sock
    thread = threading.Thread(target=_read, args=(events, heed))
    thread.start()
    try:
        yield
    finally:
        line.shutdown(socket.SHUT_RDWR)
        thread.join()
        connection.close()


def _read(events: http.client.HTTPResponse, heed: Callable[[Seen], None]) -> None:
    try:
        for line in events:
            at = datetime.now(UTC)
            event = json.loads(line)
            heed(Seen(at, event["type"], event["object"]))
    except (OSError, ValueError, http.client.HTTPException):
        return  # the connection was shut down, perhaps in the middle of a line
