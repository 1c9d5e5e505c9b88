"""Events on a policy: what ``kubectl describe`` shows of a rotation.

Owns the shape, the limits and the counting of repeated Events. Must never make a rotation fail: an Event that cannot be
written is a line in the debug log. Source: core/v1 Event; client-go ``tools/record``; API conventions, "Events".
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Literal

from credrotator.core.clock import system_clock
from credrotator.core.errors import RotationError, printable
from credrotator.core.model import ObjectKey
from credrotator.kube.client import resource_paths
from credrotator.kube.client.api_errors import NOT_FOUND, ApiError
from credrotator.kube.write_budget import WriteBudget

if TYPE_CHECKING:
    from collections.abc import Callable

    from credrotator.core.ports import Clock
    from credrotator.kube.client.api import KubeApi
    from credrotator.kube.client.api_objects import Json

log = logging.getLogger(__name__)

COMPONENT = "credrotator"
# What events.k8s.io takes for a note (``NoteLengthLimit`` of its validation).
MESSAGE_BYTES = 1024
NAME_LENGTH = 253
# client-go's correlator aggregates over ten minutes, too.
TOGETHER = timedelta(minutes=10)
REMEMBERED = 4096
"""Events that a repetition is recognised of; older ones are made anew."""
# An Event is not worth more: other deferred writes wait behind it.
TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class InvolvedObject:
    """The object that an Event is about."""

    key: ObjectKey
    uid: str
    api_version: str
    kind: str = "BackendSecurityPolicy"


@dataclass(slots=True)
class _Emitted:
    key: ObjectKey
    count: int
    at: float


class EventRecorder:
    """Writes Events; safe to share between threads.

    Args:
        api: The server.
        instance: This process, as it appears in the Event.
        clock: For the times in the Event.
        monotonic: Seconds, to tell what belongs together.
    """

    def __init__(
        self,
        api: KubeApi,
        instance: str,
        *,
        clock: Clock = system_clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api, self._instance = api, instance
        self._clock, self._monotonic = clock, monotonic
        self._lock = threading.Lock()
        self._budget = WriteBudget(monotonic)
        self._emitted: OrderedDict[tuple[str, str, str, str], _Emitted] = OrderedDict()

    def emit(
        self, subject: InvolvedObject, reason: str, message: str, *, kind: Literal["Normal", "Warning"] = "Normal"
    ) -> None:
        """Write an Event, or count the same one up if it was last written less than ten minutes ago.

        Of one object there are five in a row, then ten a minute; what is left out is counted where it comes again. The
        last place is a warning's: where success and failure take turns, successes would leave none for what is wrong.

        Args:
            subject: What it is about.
            reason: CamelCase, short, stable.
            message: Made printable and cut to 1024 bytes.
            kind: ``Warning`` where a person should look.
        """
        text = cut_bytes(printable(message, MESSAGE_BYTES), MESSAGE_BYTES)
        # The text is part of it: Kubernetes counts repetitions of one Event, and a reader of the count must be able to
        # trust it.
        same = (subject.uid, kind, reason, text)
        now = self._monotonic()
        with self._lock:
            known = self._emitted.get(same)
            if known and _is_over(known, now):
                known = None
            if known is None:
                known = self._emitted[same] = _Emitted(_event_key(subject), 0, now)
            known.count, known.at = known.count + 1, now
            count = known.count
            self._emitted.move_to_end(same)
            # In the order of their last writing. One that no repetition is recognised of any more is of no use: where
            # policies come and go, thousands would be held for nothing.
            while len(self._emitted) > REMEMBERED or _is_over(next(iter(self._emitted.values())), now):
                self._emitted.popitem(last=False)
        # Counted above all the same: what was left out shows in the count of the next one.
        if self._budget.wait_s(subject.key, spare=-1 if kind == "Warning" else 0):
            log.debug("no Event %s on %s: there were many of late", reason, subject.key)
            return
        self._budget.note(subject.key)
        try:
            self._write(subject, known.key, count, {"reason": reason, "message": text, "type": kind})
        except (ApiError, RotationError) as error:
            log.debug("no Event %s on %s: %s", reason, subject.key, error)
            with self._lock:
                # Not written, so the next one is made anew, in place of a patch of one that is not there.
                self._emitted.pop(same, None)

    def _write(self, subject: InvolvedObject, key: ObjectKey, count: int, what: Json) -> None:
        now = self._clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if count > 1:
            try:
                self._api.patch(
                    resource_paths.event(key), {"count": count, "lastTimestamp": now}, read_timeout_s=TIMEOUT_S
                )
            except ApiError as error:
                # Events live for an hour by default, and people delete them.
                if error.status != NOT_FOUND:
                    raise
            else:
                return
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": key.name, "namespace": key.namespace},
            "involvedObject": {
                "apiVersion": subject.api_version,
                "kind": subject.kind,
                "namespace": subject.key.namespace,
                "name": subject.key.name,
                "uid": subject.uid,
            },
            **what,
            "count": count,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": COMPONENT, "host": self._instance},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._instance,
        }
        self._api.post(resource_paths.events(key.namespace), body, read_timeout_s=TIMEOUT_S)


def _is_over(emitted: _Emitted, now: float) -> bool:
    return now - emitted.at >= TOGETHER.total_seconds()


def cut_bytes(text: str, limit: int) -> str:
    """Cut to ``limit`` bytes of UTF-8, between characters."""
    data = text.encode()
    return text if len(data) <= limit else data[: limit - 3].decode(errors="ignore") + "…"


def _event_key(subject: InvolvedObject) -> ObjectKey:
    suffix = f".{uuid.uuid4().hex[:16]}"
    return ObjectKey(subject.key.namespace, subject.key.name[: NAME_LENGTH - len(suffix)].rstrip(".-") + suffix)
