"""The fault switches of one sandbox server.

Owns the rules (which fault, for which requests, how often) and their order. Must not know what a fault does: each
kind lives in ``wirefaults`` (connection, timing) or ``answerfaults`` (status, headers, body). Specification: the
numbered faults of the project's reliability table.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug import Request, Response

    from credrotator.sandbox.line import Line
    from credrotator.sandbox.recording import RecordedRequest


class FaultyServer(Protocol):
    """The server that a fault disturbs, as far as a fault may ask it."""

    @property
    def name(self) -> str:
        """Which of the sandbox's servers it is."""

    @property
    def port(self) -> int:
        """The TCP port that it listens on."""

    @property
    def url(self) -> str:
        """Its base URL, without a slash at the end."""

    def refusal(self, code: str, description: str | None = None) -> Response:
        """Return the answer with which it refuses for the reason ``code``."""


class Fault:
    """Something that goes wrong on purpose; the base class does nothing.

    ``kind`` groups faults that exclude each other: of each kind, the first rule that matches a request acts, so two
    rules of one kind form a queue and rules of different kinds act together.
    """

    kind: ClassVar[str] = "none"

    def before(self, line: Line) -> None:
        """Act after the request was read and before it is answered; may set up how ``line`` sends."""

    def answer(self, request: Request, server: FaultyServer, /) -> Response | None:
        """Return an answer in place of the server's own, or None to leave it to the server."""

    def change(self, response: Response) -> Response:
        """Return the answer to send, given the one that was made."""
        return response

    def lifted(self) -> None:
        """Hear that the switch was turned off by hand."""


class Rule:
    """One switch that is on. Leave the ``with`` block, or call ``remove``, to turn it off."""

    def __init__(
        self,
        owner: Faults,
        fault: Fault,
        path: str | None,
        times: int | None,
        when: Callable[[RecordedRequest], bool] | None,
    ) -> None:
        self.fault = fault
        self.times_left = times
        self._owner = owner
        self._path = path
        self._when = when

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Turn this switch off; once is enough, twice does no harm."""
        self._owner.remove(self)

    def matches(self, request: RecordedRequest) -> bool:
        """Tell whether the rule is for this request."""
        return request.matches(self._path) and (self._when is None or self._when(request))


class Faults:
    """The rules of one server, in the order in which they were added; safe to edit while it serves."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._on_change = on_change

    def add(
        self,
        fault: Fault,
        *,
        path: str | None = None,
        times: int | None = None,
        when: Callable[[RecordedRequest], bool] | None = None,
    ) -> Rule:
        """Turn a fault on and return its switch.

        Args:
            fault: What shall go wrong.
            path: A glob over the request's path; None for every path.
            times: For how many matching requests (for a fault of the TLS layer: connections); None until removed.
            when: A further condition on the recorded request, such as its form fields.
        """
        if times is not None and (times < 1 or fault.kind == "refuse"):
            raise ValueError("times must be at least 1, and refused connections cannot be counted")
        rule = Rule(self, fault, path, times, when)
        with self._lock:
            self._rules.append(rule)
        self._on_change()
        return rule

    def remove(self, rule: Rule) -> None:
        """Turn one switch off, also one that is used up: what it holds is let go."""
        with self._lock:
            self._rules = [other for other in self._rules if other is not rule]
        rule.fault.lifted()
        self._on_change()

    def clear(self) -> None:
        """Turn every switch off."""
        for rule in self._snapshot():
            self.remove(rule)

    def active(self, kind: str) -> bool:
        """Tell whether a rule of that kind is on."""
        return any(rule.fault.kind == kind for rule in self._snapshot())

    def take(self, request: RecordedRequest) -> list[Fault]:
        """Return the faults for this request, at most one of each kind, and count it against their rules."""
        return self._take(lambda rule: rule.fault.kind not in CONNECTION_KINDS and rule.matches(request))

    def take_connection(self) -> Fault | None:
        """Return the fault for a new connection's TLS layer, if any, and count the connection."""
        taken = self._take(lambda rule: rule.fault.kind == "tls")
        return taken[0] if taken else None

    def _take(self, wanted: Callable[[Rule], bool]) -> list[Fault]:
        with self._lock:
            chosen: dict[str, Rule] = {}
            for rule in filter(wanted, self._rules):
                chosen.setdefault(rule.fault.kind, rule)
            self._rules = [rule for rule in self._rules if rule not in chosen.values() or not _used_up(rule)]
        return [rule.fault for rule in chosen.values()]

    def _snapshot(self) -> list[Rule]:
        with self._lock:
            return list(self._rules)


# These act when a connection is made, before there is a request to match.
CONNECTION_KINDS = frozenset({"refuse", "tls"})


def _used_up(rule: Rule) -> bool:
    if rule.times_left is None:
        return False
    rule.times_left -= 1
    return rule.times_left == 0
