"""Has the policies that an open circuit refused try again: one for a trial, the others when it succeeded.

Owns the thread that waits for it; who should try, and how many at a time, is decided behind ``awake``.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from credrotator.core.threads import dead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from credrotator.core.model import ObjectKey

log = logging.getLogger(__name__)

WAIT_S = 1.0
"""How long a stop waits for the thread at most."""


class Recovery:
    """Hands policies from the circuit breakers to the daemon.

    Args:
        awake: Waits for policies that should try now, for so many seconds at most, and returns them.
        wake: Has them try.
    """

    def __init__(self, awake: Callable[[float], Iterable[ObjectKey]], wake: Callable[[ObjectKey], None]) -> None:
        self._awake = awake
        self._wake = wake
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self.run, name="recovery", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def dead(self) -> list[str]:
        """Name its thread if that has ended though it was not stopped."""
        return [] if self._stopping.is_set() else dead((self._thread,))

    def begin_to_stop(self) -> None:
        """Wake nobody any more."""
        self._stopping.set()

    def stop(self) -> None:
        """End; nobody is woken any more."""
        self.begin_to_stop()
        # A daemon that never got to lead has not started it, and ``join`` would raise.
        if self._thread.ident:
            self._thread.join(2 * WAIT_S)

    def run(self) -> None:
        """Hand policies over until told to stop."""
        while not self._stopping.is_set():
            try:
                for policy in self._awake(WAIT_S):
                    self._wake(policy)
            except Exception:
                # Without this thread refused policies are left to their own back-off, minutes instead of a second.
                log.exception("waking policies after an outage failed; going on")
                # What failed once may well fail at once again; without a pause this would be a loop at full speed.
                self._stopping.wait(WAIT_S)
