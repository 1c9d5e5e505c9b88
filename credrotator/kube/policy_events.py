"""Events on policies, by their keys: the object is taken from what was last seen of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from credrotator.core.model import ObjectKey
    from credrotator.kube.deferred import Defer
    from credrotator.kube.events import EventRecorder
    from credrotator.kube.source import Observer


class PolicyEvents:
    """Events on policies, as they were last seen; one that is gone by then gets none.

    Args:
        recorder: Writes them.
        observer: Knows the policies.
        defer: Has them written once the gateway has what it needs.
    """

    def __init__(self, recorder: EventRecorder, observer: Observer, defer: Defer) -> None:
        self._recorder = recorder
        self._observer = observer
        self._defer = defer

    def emit(self, key: ObjectKey, reason: str, message: str, *, warning: bool = False) -> None:
        """See ``EventRecorder.emit``."""
        kind: Literal["Normal", "Warning"] = "Warning" if warning else "Normal"
        # At the time of the outcome, not of the write: an Event names the UID of the object that it is about.
        if observed := self._observer.observed(key):
            self._defer(key.namespace, lambda: self._recorder.emit(observed.subject, reason, message, kind=kind))
