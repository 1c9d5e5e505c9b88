"""Until when this process may believe that it holds a Lease.

Made before those who ask, and before the election that keeps it. Source: client-go ``tools/leaderelection``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.core.clock import suspend_aware

if TYPE_CHECKING:
    from collections.abc import Callable


class LeaseTerm:
    """A term of leading; written by one thread, read by all.

    Args:
        seconds: Seconds that only grow; all is decided by them.
    """

    def __init__(self, seconds: Callable[[], float] = suspend_aware) -> None:
        self.seconds = seconds
        # One number, read and written in a single step, so it needs no lock: whoever asks before a write must not wait
        # for an election's thread that hangs.
        self._ends_at_s: float | None = None

    def holds(self) -> bool:
        """Tell whether this process may write at this moment; ask right before each write.

        It turns False by itself when the renewals fail to come, even if the election's thread hangs.
        """
        ends_at_s = self._ends_at_s
        return ends_at_s is not None and self.seconds() < ends_at_s

    def renew(self, until_s: float) -> bool:
        """Let it last until then; tell whether it had lapsed before, or never begun."""
        # Asked before it is moved: what was refused meanwhile has to be begun anew.
        lapsed = not self.holds()
        self._ends_at_s = until_s
        return lapsed

    def end(self) -> None:
        """End it now."""
        self._ends_at_s = None
