"""The command line in processes that start within milliseconds, so that a test can kill a hundred of them.

They are forked from a server (``multiprocessing``'s) that has imported everything; from there on each is as real as one
from a shell: its own pid, signals, files, exit code. Must not know what is run.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import multiprocessing
import os
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator, Mapping
    from multiprocessing.context import ForkServerContext
    from pathlib import Path

PRELOAD = [
    "credrotator.cli.main",
    "credrotator.app.cluster_daemon",
    "credrotator.cli.rotate",
    "credrotator.cli.run",
    "credrotator.providers.aws.signed_calls",
    "credrotator.providers.aws.sts",
    "kubernetes.client",
    "kubernetes.config.kube_config",
]
POLL_S = 0.005


class Child:
    """One run of the command line.

    Args:
        arguments: After ``credrotator``.
        log: Where standard output and error go, appended.
        environment: All of it.
        constants: ``module:NAME`` to the value that it has in this process, for times that are scaled down.
    """

    def __init__(
        self,
        *arguments: str,
        log: Path,
        environment: Mapping[str, str],
        constants: Mapping[str, object] | None = None,
    ) -> None:
        self.log = log
        self._process = _context().Process(
            target=_enter, args=(arguments, str(log), dict(environment), dict(constants or {})), daemon=True
        )

    def start(self) -> None:
        """Start it."""
        self._process.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None
        return self._process.pid

    def said(self) -> str:
        """Return what it has printed so far."""
        return self.log.read_text() if self.log.exists() else ""

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; one that has ended gets none."""
        if self._process.exitcode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as a power cut would, and wait for it."""
        self._process.kill()
        self._process.join()

    def wait(self, within_s: float) -> int | None:
        """Return its exit code, negative for a signal; None if it has not ended by then."""
        self._process.join(within_s)
        return self._process.exitcode

    def wait_until_said(self, text: str, within_s: float = 60.0) -> None:
        """Wait until it has printed something.

        Raises:
            AssertionError: It has not, in time, or has ended.
        """
        give_up_s = time.monotonic() + within_s
        while text not in self.said():
            assert self._process.exitcode is None, f"it ended with {self._process.exitcode}:\n{self.said()}"
            assert time.monotonic() < give_up_s, f"it did not say {text!r}:\n{self.said()}"
            time.sleep(POLL_S)


@contextlib.contextmanager
def running(
    *arguments: str,
    log: Path,
    environment: Mapping[str, str],
    constants: Mapping[str, object] | None = None,
) -> Iterator[Child]:
    """Run the command line, and kill what is left of it at the end of the block."""
    child = Child(*arguments, log=log, environment=environment, constants=constants)
    child.start()
    try:
        yield child
    finally:
        child.kill()


@functools.cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    return context


def _enter(arguments: tuple[str, ...], log: str, environment: dict[str, str], constants: dict[str, object]) -> None:
    """Become the command line."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.clear()
    os.environ.update(environment)
    for name, value in constants.items():
        module, _, constant = name.partition(":")
        setattr(importlib.import_module(module), constant, value)
    sys.argv = ["credrotator", *arguments]
    importlib.import_module("credrotator.cli.main").main()
