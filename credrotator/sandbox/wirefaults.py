"""Faults of the connection: refused, badly certified, slow, hanging, reset.

Owns what goes wrong below the HTTP answer. Must not change what the answer says (see ``answerfaults``).
Specification: faults 1, 2, 5, 6, 17 of the project's reliability table.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from credrotator.sandbox.faults import Fault
from credrotator.sandbox.line import Line, Pace

if TYPE_CHECKING:
    from credrotator.sandbox.certificates import Alert, Flaw


MAX_STEP_S = 0.5


@dataclass(frozen=True)
class Refuse(Fault):
    """Refuse connections: the port answers RST while this is on; existing connections are dropped."""

    kind: ClassVar[str] = "refuse"


@dataclass(frozen=True)
class Certificate(Fault):
    """Present a certificate with a flaw ("expired", "unknown-ca", "wrong-host") on new connections."""

    kind: ClassVar[str] = "tls"
    flaw: Flaw


@dataclass(frozen=True)
class Handshake(Fault):
    """End the TLS handshake of new connections by an alert, or for want of a client certificate or a common cipher."""

    kind: ClassVar[str] = "tls"
    flaw: Alert


@dataclass(frozen=True)
class Mute(Fault):
    """Accept connections and say nothing, not even in the TLS handshake."""

    kind: ClassVar[str] = "tls"


@dataclass(frozen=True)
class Latency(Fault):
    """Wait ``seconds`` before answering."""

    kind: ClassVar[str] = "latency"
    seconds: float

    def before(self, line: Line) -> None:
        """Wait."""
        line.wait(self.seconds)


@dataclass(frozen=True)
class Hang(Fault):
    """Never answer.

    The request hangs until its client gives up or the server stops; or until the rule is removed, and is then
    answered within half a second. ``after_bytes`` None hangs before the status line; a number lets the head and so much
    of the body out first, and then stays silent.
    """

    kind: ClassVar[str] = "stall"
    after_bytes: int | None = None
    _lifted: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)

    def before(self, line: Line) -> None:
        """Hang, or tell the line where to."""
        if self.after_bytes is not None:
            line.body_limit_bytes = self.after_bytes
            return
        # Ever longer steps: hundreds may hang at once, and each step costs them a little.
        step_s = 0.02
        while not self._lifted.is_set():
            line.wait(step_s)
            step_s = min(2 * step_s, MAX_STEP_S)

    def lifted(self) -> None:
        """Let go of the requests that hang."""
        self._lifted.set()


@dataclass(frozen=True)
class Reset(Fault):
    """Reset the connection (TCP RST) before the answer, or after so many bytes of its body."""

    kind: ClassVar[str] = "stall"
    after_bytes: int | None = None

    def before(self, line: Line) -> None:
        """Reset now, or tell the line where to."""
        if self.after_bytes is None:
            line.reset()
        line.body_limit_bytes = self.after_bytes
        line.reset_at_limit = True


@dataclass(frozen=True)
class Banner(Fault):
    """Answer with a line that is no HTTP, as other services greet, and close the connection."""

    kind: ClassVar[str] = "stall"
    line: str = "220 mail.internal.example ESMTP Postfix"

    def before(self, line: Line) -> None:
        """Say it, and leave."""
        line.greet(self.line)


@dataclass(frozen=True)
class Drip(Fault):
    """Send one byte each ``interval_s`` seconds, in the head, the body, or both."""

    kind: ClassVar[str] = "pace"
    interval_s: float = 1.0
    head: bool = True
    body: bool = True

    def before(self, line: Line) -> None:
        """Set the line's pace."""
        line.pace = Pace(self.interval_s, head=self.head, body=self.body)
