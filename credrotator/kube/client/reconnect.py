"""How long to wait before the next request after a failure. Pure.

Jitter is a hash of the process and the attempt: replicas that fail together do not come back together.
"""

from __future__ import annotations

import hashlib
import os
import socket
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryWait:
    """Waits that double from ``first_s`` to ``longest_s``, each shortened by up to a half."""

    first_s: float = 1.0
    longest_s: float = 30.0

    def wait_s(self, attempt: int, seed: str) -> float:
        """Return the wait after the ``attempt``-th failure in a row, counted from 1."""
        whole = min(self.first_s * float(1 << min(attempt - 1, 20)), self.longest_s)
        # Up to a half is taken off, not added: the longest wait is what the operator was promised.
        return max(whole * (1 - jitter(seed, attempt) / 2), self.first_s)


def jitter(seed: str, attempt: int) -> float:
    """Return a number in [0, 1) that differs between processes, seeds and attempts."""
    text = f"{socket.gethostname()}#{os.getpid()}#{seed}#{attempt}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
