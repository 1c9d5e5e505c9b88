"""What a collection looked like when: the objects of a watch, each with the moment of its arrival."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode, urlsplit

from tests.e2e.parts.api import Api, Json, Resource


@dataclass(frozen=True)
class Seen:
    """One version of an object. `kind` is ADDED, MODIFIED or DELETED."""

    at: datetime
    kind: str
    object: Json

    @property
    def name(self) -> str:
        return str(self.object["metadata"]["name"])


class Watch:
    """The events of one collection since the watch began; safe to read while they arrive.

    `heed` is called with each event, one after the other, before anybody else can see it.
    """

    def __init__(self, heed: Callable[["Seen"], None] | None = None) -> None:
        self._heed = heed
        self._arrived = threading.Condition()
        self._seen: list[Seen] = []

    def add(self, kind: str, observed: Json) -> None:
        seen = Seen(datetime.now(UTC), kind, observed)
        if self._heed:
            self._heed(seen)
        with self._arrived:
            self._seen.append(seen)
            self._arrived.notify_all()

    def all(self, name: str | None = None) -> Sequence[Seen]:
        """Return what has arrived so far, of one object or of all."""
        with self._arrived:
            return [seen for seen in self._seen if name in (None, seen.name)]

    def first(self, wanted: Callable[[Seen], bool], *, within: timedelta) -> Seen | None:
        """Return the first event that is wanted, arrived or still to come, or None when the time is over."""
        give_up = time.monotonic() + within.total_seconds()
        looked_at = 0
        with self._arrived:
            while True:
                for seen in self._seen[looked_at:]:
                    if wanted(seen):
                        return seen
                looked_at = len(self._seen)
                if not self._arrived.wait(give_up - time.monotonic()):
                    return None


@contextmanager
def watching(
    api: Api,
    resource: Resource,
    namespace: str | None = None,
    *,
    heed: Callable[[Seen], None] | None = None,
    **query: str,
) -> Iterator[Watch]:
    """Watch a collection until the block ends; it begins with what is there, as ADDED."""
    collection = api.list(resource, namespace, **query)
    watch = Watch(heed)
    for item in collection["items"]:
        watch.add("ADDED", item)
    asked = {**query, "watch": "true", "resourceVersion": collection["metadata"]["resourceVersion"]}
    server = urlsplit(api.url)
    connection = http.client.HTTPSConnection(server.hostname or "", server.port, context=api.tls())
    connection.request("GET", f"{resource.path(namespace)}?{urlencode(asked)}")
    events = connection.getresponse()
    line = connection.sock
    thread = threading.Thread(target=_read, args=(events, watch))
    thread.start()
    try:
        yield watch
    finally:
        line.shutdown(socket.SHUT_RDWR)
        thread.join()
        connection.close()


def _read(events: http.client.HTTPResponse, watch: Watch) -> None:
    try:
        for line in events:
            event = json.loads(line)
            watch.add(event["type"], event["object"])
    except (OSError, ValueError, http.client.HTTPException):
        return  # the connection was shut down, perhaps in the middle of a line
