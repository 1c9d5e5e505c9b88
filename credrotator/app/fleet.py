"""Several clusters of one kubeconfig, read side by side.

Owns which contexts are meant, how many are read at a time, and for how long one is waited for. One cluster's trouble is
its own: it becomes a sentence, and the others are read.
"""

from __future__ import annotations

import difflib
import queue
import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

from credrotator.core.errors import RotationError, UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from credrotator.app.settings import Settings

# Each has threads and connections of its own; a fleet of a hundred takes seconds so, and a laptop stays usable.
AT_A_TIME = 8
LIMIT_S = 60.0
"""For one cluster. A request has limits of its own; a credential plug-in that waits for a person has none."""
LATE_HINT = "; see whether its credential plug-in (exec) waits for somebody"

Given = TypeVar("Given")


@dataclass(frozen=True, slots=True)
class ClusterReading(Generic[Given]):
    """What was read of one cluster, or why nothing was."""

    context: str
    content: Given | None
    error: str | None = None


def meant_contexts(settings: Settings, names: Iterable[str] | None) -> tuple[str, ...]:
    """Return the contexts that are meant, each once; without names, all of the kubeconfig.

    Raises:
        UsageError: There is no kubeconfig, or no such context in it; or manifests are to be read.
    """
    if settings.filenames:
        raise UsageError("-f reads manifests, so --contexts and --all-contexts have no place beside it")
    from credrotator.kube.client.api_errors import ConfigurationError  # noqa: PLC0415 - a directory needs none of it
    from credrotator.kube.client.contexts import context_names  # noqa: PLC0415

    try:
        known = context_names(settings.kubeconfig)
    except ConfigurationError as error:
        raise UsageError(str(error)) from error
    named = list(dict.fromkeys(known if names is None else names))
    for name in named:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            meant = f"; did you mean {printable(close[0])}?" if close else ""
            raise UsageError(f"there is no context {printable(name)} in the kubeconfig{meant}")
    if not named:
        raise UsageError("there is no context in the kubeconfig" if names is None else "--contexts names no context")
    return tuple(named)


def read_clusters(
    settings: Settings,
    contexts: Sequence[str],
    read: Callable[[Settings], Given],
    *,
    at_a_time: int = AT_A_TIME,
    limit_s: float = LIMIT_S,
) -> list[ClusterReading[Given]]:
    """Read each cluster in a thread of its own; return what was read in the order of the contexts.

    Args:
        settings: What all have in common.
        contexts: Each once.
        read: Called with the settings of one cluster; its UsageError and RotationError become that cluster's error.
        at_a_time: How many are read concurrently.
        limit_s: How long one is waited for. NOTE: its thread cannot be ended, and is left behind as a daemon.
    """
    # Not a ThreadPoolExecutor: at the interpreter's end it joins its threads, and one may wait for a person at a
    # credential plug-in.
    ended: queue.SimpleQueue[tuple[str, ClusterReading[Given] | BaseException]] = queue.SimpleQueue()
    waiting, running, readings = deque(contexts), dict[str, float](), dict[str, ClusterReading[Given]]()
    while waiting or running:
        while waiting and len(running) < at_a_time:
            context = waiting.popleft()
            running[context] = time.monotonic() + limit_s
            _start(context, ended, settings, read)
        try:
            context, result = ended.get(timeout=max(0.0, min(running.values()) - time.monotonic()))
        except queue.Empty:
            for late in [each for each, until_s in running.items() if until_s <= time.monotonic()]:
                del running[late]
                readings[late] = ClusterReading(late, None, f"no answer within {limit_s:g} s{LATE_HINT}")
            continue
        # A bug, or Ctrl-C: neither is a cluster's trouble.
        if isinstance(result, BaseException):
            raise result
        # One that was given up may still end; its row says already that it did not.
        if running.pop(context, None) is not None:
            readings[context] = result
    return [readings[context] for context in contexts]


def _start(
    context: str,
    ended: queue.SimpleQueue[tuple[str, ClusterReading[Given] | BaseException]],
    settings: Settings,
    read: Callable[[Settings], Given],
) -> None:
    def work() -> None:
        try:
            ended.put((context, _read(settings, context, read)))
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            ended.put((context, error))

    threading.Thread(target=work, name=f"cluster-{context}", daemon=True).start()


def _read(settings: Settings, context: str, read: Callable[[Settings], Given]) -> ClusterReading[Given]:
    try:
        return ClusterReading(context, read(replace(settings, context=context)))
    except RotationError as error:
        return ClusterReading(context, None, f"{error.message}; {error.hint}")
    except UsageError as error:
        return ClusterReading(context, None, str(error))
