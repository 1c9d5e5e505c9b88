"""When programs are run and signals sent that follow a publication: once after a pass, and beside a daemon.

Loaded only where somebody wants any: to run programs takes modules that a pass without them does not need.
"""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import TYPE_CHECKING

from credrotator.core.errors import RotationError
from credrotator.core.model import RotatablePolicy
from credrotator.core.secretdata import content_hash
from credrotator.core.threads import dead
from credrotator.files.hooks import Change, Hooks, Program, Signal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from credrotator.app.consumers import Consumers
    from credrotator.app.rendering import HasInventory
    from credrotator.files.directory import DirectoryStore
    from credrotator.files.hooks import Hook, HookFailure

log = logging.getLogger("credrotator.run")

TRIES = 3
"""Of one pass; the next pass, or the next start of a daemon, goes on."""
# A consumer that is just being restarted is back after a second or two. One that is broken is tried every five minutes,
# so that a repair is noticed by itself.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 300.0
# Kubernetes gives 30 s for everything. A program's own time limit is longer, so it is not waited for.
STOP_S = 3.0


def make_hooks(
    consumers: Consumers, source: HasInventory, store: DirectoryStore, note: Callable[[str, bool], None]
) -> Hooks:
    """Make the hooks of a directory.

    Raises:
        UsageError: A program or a signal is none.
    """
    hooks: list[Hook] = [*(Program(text, store.root) for text in consumers.commands), *map(Signal, consumers.signals)]
    return Hooks(hooks, partial(_published, source, store), store, note)


def _published(source: HasInventory, store: DirectoryStore) -> Iterable[Change]:
    for policy in source.inventory.policies.values():
        # An empty Secret is parked, and has nothing that a consumer could take.
        if isinstance(policy, RotatablePolicy) and (stored := store.read(policy.secret)) and stored.document.data:
            yield Change(policy.key, policy.secret, content_hash(stored.document.data))


class HooksOfAPass:
    """Hooks of a directory, a PassHooks.

    Args:
        hooks: What to run.
        wait: Waits for so many seconds between two tries.
    """

    def __init__(self, hooks: Hooks, wait: Callable[[float], object]) -> None:
        self._hooks = hooks
        self._wait = wait

    def run(self) -> Sequence[HookFailure]:
        """See ``PassHooks``."""
        pause_s = FIRST_PAUSE_S
        failures = self._hooks.run()
        for _ in range(TRIES - 1):
            if not failures:
                break
            self._wait(pause_s)
            pause_s *= 2
            failures = self._hooks.run()
        return failures


class HookThread:
    """Runs hooks beside a daemon: whenever something was published, and again, later and later, where one failed."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self._published = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hooks", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def published(self) -> None:
        """Have the hooks looked at: something may have been published."""
        self._published.set()

    def dead(self) -> list[str]:
        """Name its thread if that has ended though it was not stopped."""
        return [] if self._stopping.is_set() else dead((self._thread,))

    def stop(self) -> None:
        """End; a program that is running is left to end by itself."""
        self._stopping.set()
        self._published.set()
        if self._thread.ident:
            self._thread.join(STOP_S)

    def _run(self) -> None:
        pause_s: float | None = None
        while not self._stopping.is_set():
            # None waits for ever, for the next publication; a number, for the next try.
            self._published.wait(pause_s)
            # Before the hooks look: what is published while they run sets it again, and is not lost.
            self._published.clear()
            if self._stopping.is_set():
                return
            pause_s = self._next_pause(pause_s) if self._try() else None

    def _try(self) -> bool:
        """Run the hooks; tell whether they have to be tried again."""
        try:
            failures = self._hooks.run()
        except RotationError as error:
            log.warning("hooks: %s: %s", error.reason, error.message)
            return True
        except Exception:
            # Without this thread no consumer would be told of anything any more.
            log.exception("running hooks failed; they will be tried again")
            return True
        for failure in failures:
            log.error("hook: %s: %s", failure.error.reason, failure.error.message)
        return bool(failures)

    @staticmethod
    def _next_pause(pause_s: float | None) -> float:
        return FIRST_PAUSE_S if pause_s is None else min(2 * pause_s, LONGEST_PAUSE_S)
