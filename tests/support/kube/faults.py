"""What a test can do to the requests of the simulated API server."""

from __future__ import annotations

from dataclasses import dataclass, field
from email.message import Message
from typing import Any, Literal


@dataclass(slots=True)
class Request:
    """One request as it arrived; ``status`` is set when it was answered (0: it never was)."""

    method: str
    path: str
    query: dict[str, str]
    user: str
    verb: str = ""
    resource: str = ""
    namespace: str | None = None
    name: str = ""
    subresource: str = ""
    version: str = ""
    content_type: str = ""
    body: Any = None
    status: int = 0
    headers: Message = field(default_factory=Message)


@dataclass(slots=True)
class Match:
    """Which requests something applies to; ``*`` and None match all."""

    verb: str = "*"
    resource: str = "*"
    namespace: str | None = None
    name: str | None = None
    user: str | None = None

    def covers(self, request: Request) -> bool:
        resource = f"{request.resource}/{request.subresource}" if request.subresource else request.resource
        return (
            self.verb in {"*", request.verb}
            and self.resource in {"*", resource}
            and self.namespace in {None, request.namespace}
            and self.name in {None, request.name}
            and self.user in {None, request.user}
        )


@dataclass(slots=True)
class Fault:
    """Something that goes wrong with matching requests, ``times`` times (None: until healed).

    Attributes:
        status: Answered instead of doing it.
        delay_s: Waited before doing it; ends when the fault is healed.
        drop: The connection is closed without an answer, before or after it was done.
    """

    match: Match
    times: int | None = None
    status: int = 0
    reason: str = ""
    message: str = ""
    retry_after_s: int | None = None
    delay_s: float = 0.0
    drop: Literal["", "before", "after"] = ""
    taken: int = field(default=0, init=False)
