"""What is run after a publication, for consumers that have to be told: a program, or a signal to a process.

Owns how each is run: as a list of arguments and never by a shell, in a process group of its own, within a time limit,
with names in its environment and nothing secret. Which changes a hook has been run for is noted in the directory, so
that each is told once, also by a process that is started later.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from credrotator.core.errors import RotationError, Transient, UsageError, printable
from credrotator.files.bounded import read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from credrotator.core.model import ObjectKey

# A reload takes a second or two. Hooks run one after the other, so one that hangs keeps the others waiting.
TIME_LIMIT_S = 30.0
GRACE_S = 2.0
"""Between the request to stop and the end by force."""
NAMES_LIMIT = 32 * 1024
"""Characters of names in one variable; Linux takes 128 KiB, and thousands of policies may change at once."""
PASSED_ON = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_\w+|TZ|TMPDIR|XDG_RUNTIME_DIR|DBUS_(SESSION|SYSTEM)_BUS_ADDRESS"
)
"""Variables of ours that a program gets; others may hold secrets."""
# A pid file holds one number; what is longer is another file.
PIDFILE_BYTES = 4096


class Change(NamedTuple):
    """A credential that was published; ``content`` is a hash of it."""

    policy: ObjectKey
    secret: ObjectKey
    content: str


class Hook(Protocol):
    """Something to be run after a publication."""

    @property
    def name(self) -> str:
        """What it is, for people and metrics: a few words, with nothing secret."""

    @property
    def identity(self) -> str:
        """All of what it is: another one has been run for nothing yet."""

    def run(self, changes: Sequence[Change]) -> None:
        """Run it.

        Raises:
            RotationError: Reason HookFailed: it did not succeed.
        """


class Journal(Protocol):
    """Notes, by name, that outlive the process."""

    def note(self, name: str, document: Mapping[str, object]) -> None:
        """Keep a document; not to be able to is no failure."""

    def noted(self, name: str) -> dict[str, object]:
        """Return what was kept; empty if nothing was, or it is damaged."""


class Program:
    """A program (``--exec``).

    Args:
        text: Its arguments, quoted as for a shell, which none reads.
        out: The directory of credentials.

    Raises:
        UsageError: There is no such program.
    """

    def __init__(self, text: str, out: Path) -> None:
        try:
            self._arguments = shlex.split(text)
        except ValueError as error:
            raise UsageError(f"--exec {printable(text)}: {error}") from error
        # At the start, when somebody watches, and not at the first renewal in the night.
        if not self._arguments or shutil.which(self._arguments[0]) is None:
            raise UsageError(f"--exec {printable(text)}: there is no such program; write its full path")
        self._out = out.absolute()
        self.name = printable(Path(self._arguments[0]).name, 80)
        self.identity = f"exec {self._arguments}"

    def run(self, changes: Sequence[Change]) -> None:
        """See ``Hook``."""
        try:
            # What it prints is not ours to keep, and must not get into the JSON on our standard output.
            process = subprocess.Popen(  # noqa: S603 - the operator's own words
                self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=2,
                env=self._environment(changes),
                # A process group of its own, so that what a script has started can be ended with it; and Ctrl-C is not
                # its concern.
                start_new_session=True,
            )
        except OSError as error:
            raise failed(f"{self.name}: {error.strerror}") from error
        try:
            code = process.wait(TIME_LIMIT_S)
        except subprocess.TimeoutExpired as error:
            _end(process)
            raise failed(f"{self.name} did not end within {TIME_LIMIT_S:.0f} s, and was ended") from error
        except BaseException:
            _end(process)
            raise
        if code:
            raise failed(f"{self.name} ended with " + (f"exit code {code}" if code > 0 else f"signal {-code}"))

    def _environment(self, changes: Sequence[Change]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
        return {
            **kept,
            "CREDROTATOR_OUT": str(self._out),
            "CREDROTATOR_CHANGED": str(len(changes)),
            "CREDROTATOR_POLICIES": _names(change.policy for change in changes),
            "CREDROTATOR_SECRETS": _names(change.secret for change in changes),
        }


class Signal:
    """A signal to a process that has written its number into a file (``--signal NAME:PIDFILE``).

    Raises:
        UsageError: There is no such signal, or it is none to tell somebody something.
    """

    def __init__(self, text: str) -> None:
        name, colon, file = text.partition(":")
        number = signal.Signals.__members__.get("SIG" + name.upper().removeprefix("SIG"))
        # No handler can see these two: nothing can be told by them.
        if not (colon and file) or number is None or number in {signal.SIGKILL, signal.SIGSTOP}:
            raise UsageError(f"--signal {printable(text)}: expected NAME:PIDFILE such as HUP:/run/nginx.pid")
        self._number = number
        self._file = Path(file)
        self.name = number.name
        self.identity = f"signal {number.name} {self._file.absolute()}"

    def run(self, changes: Sequence[Change]) -> None:  # noqa: ARG002 - a signal has no room for names
        """See ``Hook``."""
        try:
            text = read_text(self._file, PIDFILE_BYTES, "pid file")
        except UsageError as error:
            raise _unsent(f"{self.name}: {error}") from error
        # kill(2) takes 0 and negative numbers for groups, and 1 is init: an empty or damaged file must not hit those.
        if not re.fullmatch(r"[0-9]{1,10}\s*", text) or int(text) <= 1:
            raise _unsent(f"{self.name}: {self._file} does not hold the number of a process")
        try:
            os.kill(int(text), self._number)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or "there is no such process"
            message = f"{self.name} to process {int(text)} of {self._file}: {why}"
            if isinstance(error, PermissionError):
                raise failed(message, hint="run credrotator as the user who runs that process") from error
            raise _unsent(message) from error


@dataclass(frozen=True, slots=True)
class HookFailure:
    """A hook that was run in vain, for whom, and why."""

    hook: str
    changes: tuple[Change, ...]
    error: RotationError


class Hooks:
    """All hooks of a process, and what each has to be run for.

    Args:
        hooks: What to run.
        published: Returns what is published now.
        journal: Notes what each was run for.
        note: Told of each run: the hook's name, and whether it succeeded.
    """

    def __init__(
        self,
        hooks: Sequence[Hook],
        published: Callable[[], Iterable[Change]],
        journal: Journal,
        note: Callable[[str, bool], None],
    ) -> None:
        self._hooks = hooks
        self._published = published
        self._journal = journal
        self._note = note
        self._running = threading.Lock()

    def run(self) -> list[HookFailure]:
        """Run each hook for which something has changed, once for all of it; return those that failed.

        Raises:
            RotationError: What is published cannot be read.
        """
        if not self._hooks:
            return []
        # One run at a time: two that compare with the same journal would both find the change, and run the hook twice.
        with self._running:
            published = sorted(self._published())
            return [failure for hook in self._hooks if (failure := self._run(hook, published))]

    def _run(self, hook: Hook, published: Sequence[Change]) -> HookFailure | None:
        noted = self._journal.noted(JOURNAL)
        done = noted.get(hook.identity)
        seen = done if isinstance(done, dict) else {}
        changes = tuple(change for change in published if seen.get(str(change.secret)) != change.content)
        if not changes:
            return None
        try:
            hook.run(changes)
        except RotationError as error:
            # The journal stays as it is, so the next pass tries again, also after a restart.
            self._note(hook.name, False)  # noqa: FBT003 - the callback's second part
            return HookFailure(hook.name, changes, error)
        self._note(hook.name, True)  # noqa: FBT003 - as above
        # Of hooks that are no more nothing is kept.
        kept = {other.identity: noted[other.identity] for other in self._hooks if other.identity in noted}
        current = {str(change.secret): change.content for change in published}
        self._journal.note(JOURNAL, {**kept, hook.identity: current})
        return None


JOURNAL = "hooks"


BY_HAND = "run it by hand as the user who runs credrotator, and see what it says"


def failed(message: str, hint: str = BY_HAND) -> Transient:
    """Return the error of a hook that did not succeed."""
    return Transient("HookFailed", message, hint=hint)


def _unsent(message: str) -> Transient:
    """Return the error of a signal for which there is no process."""
    hint = "see whether the process runs, and whether this is the file that it writes its number into"
    return failed(message, hint)


def _names(keys: Iterable[ObjectKey]) -> str:
    """Join names; those that do not fit are left out, and the count tells."""
    text = " ".join(map(str, keys))
    return text if len(text) <= NAMES_LIMIT else text[:NAMES_LIMIT].rpartition(" ")[0]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
