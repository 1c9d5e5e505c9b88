"""What time it is, asked of those that a policy's exchange goes to: for a machine whose own clock cannot be believed.

Owns the question: any answer has a Date (RFC 9110 §6.6.1). The vendor is asked first; an issuer, which the policy's
author chooses, only where no vendor answers, and for that policy alone. Source: reliability.md, 68.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from credrotator.core.clock import suspend_aware
from credrotator.core.errors import RotationError, Transient
from credrotator.core.model import OidcClient
from credrotator.exchange.http.deadline import deadline

if TYPE_CHECKING:
    from collections.abc import Callable

    from credrotator.core.model import Rotatable
    from credrotator.core.ports import Clock
    from credrotator.exchange.exchanger import Exchanger
    from credrotator.exchange.http.transport import Transport

# Beside the exchange's own deadline, not within it: the time is needed to decide whether there is to be one.
TIMEOUT = timedelta(seconds=5)
ASKED_AGAIN_S = 60.0
"""For so long an answer, or that there was none, stands for all policies of an endpoint."""


class AskedTime:
    """See ``ports.AskTime``; safe to share between threads.

    Args:
        exchanger: Knows who is asked, and how.
        clock: The present moment as it is known here; a vendor's answer puts it right by the way.
        seconds: Seconds that only grow.
    """

    def __init__(self, exchanger: Exchanger, clock: Clock, seconds: Callable[[], float] = suspend_aware) -> None:
        self._exchanger = exchanger
        self._clock = clock
        self._seconds = seconds
        self._lock = threading.Lock()
        self._answers: dict[str, tuple[float, timedelta | None]] = {}

    def __call__(self, source: Rotatable) -> datetime:
        """See ``ports.AskTime``.

        Raises:
            Transient: Neither vendor nor issuer tells.
        """
        # A vendor's word first: an issuer is whoever a policy's author names, and could have everything renewed at
        # once.
        now = self._vendors(source) or self._issuers(source)
        if now is None:
            message = "this machine's clock is behind, and neither vendor nor issuer tells what time it is"
            hint = "set this machine's clock, and have it kept right by chrony or systemd-timesyncd"
            raise Transient("ClockBehind", message, hint=hint)
        return now

    def _vendors(self, source: Rotatable) -> datetime | None:
        try:
            endpoint = self._exchanger.endpoint(source)
            return self._ask(endpoint.url, endpoint.transport)
        except RotationError:
            return None

    def _issuers(self, source: Rotatable) -> datetime | None:
        client = source.token_source
        if not isinstance(client, OidcClient):
            return None
        try:
            return self._ask(client.issuer, self._exchanger.issuers.transport_for(client.issuer))
        except RotationError:
            return None

    def _ask(self, url: str, transport: Transport) -> datetime | None:
        # One at a time: thousands of policies may have the same question, and the first answer is that of all.
        with self._lock:
            asked_s, ahead = self._answers.get(url, (float("-inf"), None))
            if self._seconds() - asked_s > ASKED_AGAIN_S:
                ahead = self._ahead(url, transport)
                self._answers[url] = self._seconds(), ahead
        return None if ahead is None else self._clock() + ahead

    def _ahead(self, url: str, transport: Transport) -> timedelta | None:
        """Return by how much the other clock is ahead of ours, None where it does not tell."""
        try:
            with deadline(TIMEOUT):
                # Whatever it answers: a 404 and a 405 have a Date as well.
                response = transport.request("GET", url)
            date = parsedate_to_datetime(response.headers.get("Date", ""))
            return (date if date.tzinfo else date.replace(tzinfo=UTC)) - self._clock()
        except (RotationError, TypeError, ValueError, OverflowError):
            return None
