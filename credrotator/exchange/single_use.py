"""Which subject tokens were exchanged already, where a vendor takes each of them once.

A token of an issuer is never shared there; one in a file may still lie there when the next exchange is due. What was
used is told before it is sent. A process that starts anew knows of nothing, and the vendor's refusal says the same.
Source: RFC 7523 §3 (``jti``); reliability.md.
"""

from __future__ import annotations

import hashlib
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

from credrotator.core.errors import Denied, Settling

if TYPE_CHECKING:
    from datetime import datetime

    from credrotator.core.model import SubjectToken
    from credrotator.core.ports import Clock

MOST_TOKENS = 20_000
"""Digests that are kept; each is dropped when its token expires."""
SETTLES = timedelta(hours=1)
"""How long a token file may stay the same before somebody has to look: the life of a projected token by default."""


class UsedTokens:
    """The tokens that were exchanged, or are being exchanged; safe to share between threads.

    Args:
        clock: The present moment.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._used: dict[bytes, datetime] = {}

    def claim(self, token: SubjectToken) -> bool:
        """Take a token for one exchange; False where another has it. One without ``jti`` has nothing to be known by."""
        # RFC 7523 has a server remember tokens by ``jti``; where there is none, it cannot tell a second use.
        if "jti" not in token.claims:
            return True
        # Digests, not tokens: a list of twenty thousand live secrets would be worth stealing.
        digest = _digest(token)
        with self._lock:
            if digest in self._used:
                return False
            self._used[digest] = token.expires_at
            if len(self._used) > MOST_TOKENS:
                self._drop()
            return True

    def release(self, token: SubjectToken) -> None:
        """Give a token back that was not exchanged after all."""
        with self._lock:
            self._used.pop(_digest(token), None)

    def _drop(self) -> None:
        now = self._clock()
        self._used = {digest: until for digest, until in self._used.items() if until > now}
        while len(self._used) > MOST_TOKENS:
            # All are alive still: the oldest claim is the likeliest to be over, and the vendor refuses a second use in
            # any case.
            self._used.pop(next(iter(self._used)))


def used_before() -> Denied:
    """Make the refusal of a token that was exchanged already; it passes when somebody writes a new one."""
    return Denied(
        "SubjectTokenUsed",
        "the subject token was exchanged before, and the vendor takes each token (jti) once only",
        hint="have whoever writes the token file replace it more often than the credential is renewed",
        settling=Settling(span=SETTLES),
    )


def _digest(token: SubjectToken) -> bytes:
    return hashlib.sha256(token.token.reveal().encode()).digest()
