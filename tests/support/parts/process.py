"""A server as a child process: started, waited for, and stopped by its own process id."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import requests

_POLL_S = 0.05


class NotReadyError(Exception):
    """A server ended or stayed silent while it was waited for; the message ends with its log."""


class Process:
    """A running server with its log file. Make one by `running`."""

    def __init__(self, name: str, popen: "subprocess.Popen[bytes]", log: Path) -> None:
        self.name = name
        self.log = log
        self._popen = popen

    def wait_until(self, ready: Callable[[], bool], *, within: timedelta) -> None:
        """Return as soon as `ready()` holds.

        Raises:
            NotReadyError: The process ended before, or the time is over.
        """
        give_up = time.monotonic() + within.total_seconds()
        while not ready():
            if (code := self._popen.poll()) is not None:
                raise NotReadyError(f"{self.name} ended with {code}:\n{self._log_end()}")
            if time.monotonic() > give_up:
                raise NotReadyError(f"{self.name} was not ready within {within}:\n{self._log_end()}")
            time.sleep(_POLL_S)

    @property
    def pid(self) -> int:
        """The process id of the server itself: what stands before it in the command line has become it."""
        return self._popen.pid

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process itself, and wait for its end where the signal cannot be caught."""
        self._popen.send_signal(number)
        if number == signal.SIGKILL:
            self._popen.wait()

    def stop(self, *, grace: timedelta) -> None:
        """Ask the process to end, and end its whole group when the grace is over."""
        if self._popen.poll() is None:
            self._popen.terminate()
        try:
            self._popen.wait(grace.total_seconds())
        except subprocess.TimeoutExpired:
            os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()

    def _log_end(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]


@contextmanager
def running(
    name: str,
    *argv: str,
    directory: Path,
    env: Mapping[str, str] | None = None,
    grace: timedelta = timedelta(seconds=10),
) -> Iterator[Process]:
    """Run a server in `directory`, log to `<name>.log` there, and stop it at the end of the block."""
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / f"{name}.log"
    with log.open("wb") as output:
        popen = subprocess.Popen(
            (*_dying_with_us(), *argv),
            cwd=directory,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    process = Process(name, popen, log)
    try:
        yield process
    finally:
        process.stop(grace=grace)


def _dying_with_us() -> Sequence[str]:
    """Return the prefix that has the kernel end the server when the test run is killed, where there is one.

    It is TERM, not KILL, because Keycloak's script hands the former on to its Java process.

    NOTE: the kernel watches the *thread* that started the server, so servers are started from the main thread.
    """
    return ("setpriv", "--pdeathsig", "TERM") if shutil.which("setpriv") else ()


def answers(url: str, *, ca: Path | None = None) -> bool:
    """Tell whether a GET of `url` is answered with 200 now."""
    try:
        return requests.get(url, timeout=2, verify=str(ca) if ca else True).status_code == requests.codes.ok
    except requests.RequestException:
        return False
