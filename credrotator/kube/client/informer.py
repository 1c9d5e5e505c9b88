"""A live copy of some objects of the API server, and a call for each that changes.

Owns list and watch: paging, resuming, 410, silence, back-off; what is known is kept by ``livecopy``. Must not decide
anything: a change only says "look at this key". Source: client-go ``reflector.go``; Kubernetes API concepts, "Efficient
detection of changes"; reliability.md 29, 30, 32.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from credrotator.core.threads import dead
from credrotator.kube.client.api_errors import GONE, NOT_FOUND, ApiError
from credrotator.kube.client.listing import pages
from credrotator.kube.client.live_copy import Entry, LiveCopy
from credrotator.kube.client.reconnect import RetryWait, jitter

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from credrotator.core.model import ObjectKey
    from credrotator.kube.client.api import KubeApi
    from credrotator.kube.client.api_objects import Json
    from credrotator.kube.client.watch import Watch

log = logging.getLogger(__name__)

T = TypeVar("T")

AFTER_S = 5.0
DEFAULT_RETRY_WAIT = RetryWait()


@dataclass(frozen=True, slots=True)
class WatchTiming:
    """Seconds. A watch ends by the server's hand before silence could mean anything but a dead connection.

    Attributes:
        lasts_s: How long the server is asked to keep a watch; shortened by up to a quarter.
        silent_s: A watch that says nothing for so long is dead.
        stop_s: How long ``stop`` waits for the thread.
        absent_s: The wait while the resource is not served at all.
    """

    lasts_s: float = 60.0
    silent_s: float = 70.0
    stop_s: float = 1.0
    absent_s: float = 5.0


NO_TIMING = WatchTiming()


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects of the API server.

    Attributes:
        path: A collection, of one namespace or of all.
        label_selector: As kubectl's ``-l``.
        field_selector: As kubectl's ``--field-selector``.
        name: For logs and the thread; by default that of the collection.
    """

    path: str
    label_selector: str = ""
    field_selector: str = ""
    name: str = ""

    @property
    def shown(self) -> str:
        """The name, whether given or not."""
        return self.name or self.path.rpartition("/")[2]


class Informer(Generic[T]):
    """Keeps ``items`` equal to what the server has, in a thread of its own.

    ``changed(key, value)`` is called in that thread, once for each object whose parsed value differs from the known
    one, with None for one that is gone. After a reconnection that includes what happened meanwhile.

    Args:
        api: The server.
        selection: What to follow.
        parse: Makes the value that is kept; values are compared by ``==``. One that cannot be parsed keeps its last
            good value.
        changed: Must not block.
        pace: Waits after failures.
        timing: Of watches.
        after: What is to be listed first, for ``AFTER_S`` at most: without it this one works as well.
        relocate: Called in the thread when the path is not served (any more); returns where the objects are, as far as
            that is known.

    Attributes:
        synced: Set after the first complete list.
        restarts: How often it had to list again, by reason.
        last_contact: ``time.monotonic`` of the last sign of life; of the start, before the first.
        absent: Set while the path is not served.
    """

    def __init__(
        self,
        api: KubeApi,
        selection: Selection,
        *,
        parse: Callable[[Json], T],
        changed: Callable[[ObjectKey, T | None], None],
        pace: RetryWait = DEFAULT_RETRY_WAIT,
        timing: WatchTiming = NO_TIMING,
        after: threading.Event | None = None,
        relocate: Callable[[], str] | None = None,
    ) -> None:
        self._api, self._path = api, selection.path
        self._relocate = relocate
        self._selectors: dict[str, Any] = {
            "labelSelector": selection.label_selector,
            "fieldSelector": selection.field_selector,
        }
        self._retry_wait, self._timing = pace, timing
        self._waits_for = after
        self.name = selection.shown
        self._copy = LiveCopy(self.name, parse, changed)
        self.synced = threading.Event()
        self.absent = threading.Event()
        self.restarts: Counter[str] = Counter()
        self.last_contact = time.monotonic()
        # Only around the watch that ``begin_to_stop`` interrupts from another thread.
        self._lock = threading.Lock()
        self._failures = 0
        self._stopping = threading.Event()
        self._watch: Watch | None = None
        self._thread = threading.Thread(target=self._run, name=f"informer-{self.name}", daemon=True)

    def start(self) -> None:
        """Begin to list and watch."""
        self.last_contact = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """End it; returns within about a second, and no change is reported afterwards."""
        stop_all([self], self._timing.stop_s)

    def begin_to_stop(self) -> None:
        """Have it end soon; no change is reported from now on."""
        self._stopping.set()
        self._copy.fall_silent()
        with self._lock:
            watch = self._watch
        if watch:
            watch.interrupt()

    def join(self, within_s: float) -> None:
        """Wait for its end; a request that hangs is left behind."""
        if self._thread.is_alive():
            self._thread.join(within_s)

    def dead(self) -> list[str]:
        """Name its thread if that has ended though it was not stopped."""
        return [] if self._stopping.is_set() else dead((self._thread,))

    def get(self, key: ObjectKey) -> T | None:
        """Return the value of one object, None if there is none."""
        return self._copy.get(key)

    def items(self) -> dict[ObjectKey, T]:
        """Return a copy of all that is known."""
        return self._copy.items()

    def _run(self) -> None:
        version = ""
        # Not for ever: a list that fails must not keep this one from its own.
        if self._waits_for:
            self._waits_for.wait(AFTER_S)
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                version = self._follow(version or self._list())
                wait_s = self._ended(time.monotonic() - started)
            except ApiError as error:
                # Whatever failed, list again. To go on from the last version would be cheaper, but after an error
                # nobody knows which events were lost, and a lost one is a policy that is never looked at.
                version, wait_s = "", self._after(error, time.monotonic() - started)
            except Exception:
                # The thread's outermost loop: a callback's defect must not end the watching.
                log.exception("%s: unexpected failure, listing again", self.name)
                version, wait_s = "", self._failed("Unexpected")
            self._stopping.wait(wait_s)

    def _ended(self, lasted_s: float) -> float:
        if lasted_s < self._retry_wait.first_s:
            # One that ends at once, again and again, would be a tight loop.
            return self._failed("EndedEarly")
        self._failures = 0
        return 0.0

    def _after(self, error: ApiError, lasted_s: float) -> float:
        if self._stopping.is_set():
            return 0.0
        # It worked for long, so this is a new trouble, not the next failure of the old one.
        if lasted_s > self._retry_wait.longest_s:
            self._failures = 0
        reason = {GONE: "Gone", NOT_FOUND: "NotFound"}.get(error.status, error.reason)
        wait_s = self._failed("Silent" if reason == "Timeout" else reason)
        if error.status == NOT_FOUND:
            wait_s = 0.0 if self._is_elsewhere() else self._timing.absent_s
        # The server's priority and fairness asks for it; to come sooner would be refused again, at its cost.
        elif error.retry_after:
            wait_s = max(wait_s, error.retry_after.total_seconds())
        log.log(
            logging.INFO if reason == "Gone" else logging.WARNING, "%s: %s; again in %.0f s", self.name, error, wait_s
        )
        return wait_s

    def _is_elsewhere(self) -> bool:
        self.absent.set()
        path = self._relocate() if self._relocate else self._path
        if path == self._path:
            return False
        log.info("%s: served at %s now", self.name, path)
        self._path = path
        self._copy.distrust()
        return True

    def _failed(self, reason: str) -> float:
        self._failures += 1
        self.restarts[reason] += 1
        return self._retry_wait.wait_s(self._failures, self.name)

    def _list(self) -> str:
        listed: dict[ObjectKey, Entry[T]] = {}
        version = ""
        for page in pages(self._api, self._path, **self._selectors):
            self.last_contact = time.monotonic()
            for item in page.get("items") or ():
                self._copy.read(item, listed)
            version = str(page["metadata"]["resourceVersion"])
        self.absent.clear()
        # Only after the last page: a list that breaks off half way would make the rest look deleted.
        self._copy.replace(listed)
        # After everything of the list was reported: whoever waits for this reads the copy next.
        self.synced.set()
        return version

    def _follow(self, version: str) -> str:
        """Watch until the server ends it; return the version to go on from."""
        # Spread, so that the watches of all replicas do not end, and begin anew, in the same second.
        lasts_s = self._timing.lasts_s * (1 - jitter(self.name, int(time.monotonic())) / 4)
        watch = self._api.watch(
            self._path,
            read_timeout_s=self._timing.silent_s,
            resourceVersion=version,
            # Without bookmarks, a watch on objects that rarely change goes on from an old version, which the server has
            # compacted by then: 410, and a whole list for nothing.
            allowWatchBookmarks=True,
            timeoutSeconds=max(int(lasts_s), 1),
            **self._selectors,
        )
        with watch:
            with self._lock:
                self._watch = watch
            if self._stopping.is_set():
                return version
            for event in watch:
                self.last_contact = time.monotonic()
                version = self._copy.apply(event)
        return version


def stop_all(informers: Collection[Informer[Any]], within_s: float = NO_TIMING.stop_s) -> None:
    """End informers together: however many of them hang, it takes no longer than for one."""
    ends_s = time.monotonic() + within_s
    for informer in informers:
        informer.begin_to_stop()
    for informer in informers:
        informer.join(max(0.0, ends_s - time.monotonic()))
