"""What follows a publication: how programs and signals are run, for what, and how often."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from credrotator.app.consumers import Consumers, run_hooks
from credrotator.app.running_hooks import HooksOfAPass, HookThread
from credrotator.core.clock import system_clock
from credrotator.core.errors import RotationError, Transient, UsageError
from credrotator.core.model import ObjectKey
from credrotator.core.outcome import Outcome
from credrotator.files import hooks as running
from credrotator.files.directory import DirectoryStore
from credrotator.files.hooks import Change, Hooks, Program, Signal
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

KEY, SECRET = ObjectKey("default", "aws"), ObjectKey("default", "ai-eg-bsp-aws")
CHANGE = Change(KEY, SECRET, "1")


class Scripted:
    """A hook that fails as often as its script says; ``runs`` has what each run was for."""

    name = "scripted"

    def __init__(self, failures: int = 0, identity: str = "scripted") -> None:
        self.failures = failures
        self.identity = identity
        self.runs: list[list[str]] = []

    def run(self, changes: Sequence[Change]) -> None:
        self.runs.append([f"{change.policy.name} {change.content}" for change in changes])
        if self.failures:
            self.failures -= 1
            raise Transient("HookFailed", "scripted", hint="none")


class Site:
    """What is published, and a directory that remembers."""

    def __init__(self, directory: Path) -> None:
        directory.chmod(0o700)
        self.store = DirectoryStore(directory / "out", system_clock)
        self.published = [CHANGE]
        self.noted: list[tuple[str, bool]] = []

    def hooks(self, *hooks: Any) -> Hooks:
        return Hooks(hooks, lambda: self.published, self.store, lambda name, ok: self.noted.append((name, ok)))

    def publish(self, name: str, content: str) -> None:
        key = ObjectKey("default", name)
        self.published = [change for change in self.published if change.policy != key]
        self.published.append(Change(key, ObjectKey("default", f"ai-eg-bsp-{name}"), content))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Return a site with one credential."""
    return Site(tmp_path)


class TestOnce:
    """Each change is told once."""

    def test_once_per_change(self, site: Site) -> None:
        """What was told is not told again, what changed since is, and several changes are told together."""
        hook = Scripted()
        hooks = site.hooks(hook)
        for _ in range(2):
            assert hooks.run() == []
        site.publish("aws", "2")
        site.publish("gcp", "1")
        hooks.run()
        assert hook.runs == [["aws 1"], ["aws 2", "gcp 1"]]
        assert site.noted == [("scripted", True)] * 2

    def test_remembered(self, site: Site) -> None:
        """Another process does not tell it again; a hook that is new is told everything."""
        first, again, other = Scripted(), Scripted(), Scripted(identity="another")
        site.hooks(first).run()
        site.hooks(again, other).run()
        site.hooks(again, other).run()
        assert (first.runs, again.runs, other.runs) == ([["aws 1"]], [], [["aws 1"]])

    def test_failed(self, site: Site) -> None:
        """What failed is told again, and does not keep other hooks from theirs."""
        hook, other = Scripted(failures=1), Scripted(identity="another")
        hooks = site.hooks(hook, other)
        (failure,) = hooks.run()
        assert (failure.hook, failure.changes, failure.error.reason) == ("scripted", (CHANGE,), "HookFailed")
        assert hooks.run() == []
        assert (hook.runs, other.runs) == ([["aws 1"]] * 2, [["aws 1"]])
        assert site.noted == [("scripted", False), ("scripted", True), ("scripted", True)]

    def test_nothing_published(self, site: Site) -> None:
        """Without a credential there is nothing to tell."""
        site.published = []
        hook = Scripted()
        site.hooks(hook).run()
        assert hook.runs == []


class TestPass:
    """A pass tells at its end."""

    def test_tries(self, site: Site) -> None:
        """A hook has three tries with growing pauses; a success ends them."""
        pauses: list[float] = []
        assert HooksOfAPass(site.hooks(Scripted(failures=2)), pauses.append).run() == []
        assert pauses == [1.0, 2.0]

    def test_outcomes(self, site: Site) -> None:
        """Policies whose consumers were not told have failed; the others have not, and a failure of their own stays."""
        site.publish("gcp", "1")
        passed = HooksOfAPass(site.hooks(Scripted(failures=9)), lambda _: None)
        outcomes = [
            Outcome(KEY, "aws-oidc", "rotated", "Missing", SECRET),
            Outcome(ObjectKey("default", "static"), "api-key", "skipped", "Static"),
        ]
        after, strangers = run_hooks(passed, outcomes)
        assert [outcome.action for outcome in after] == ["failed", "skipped"]
        assert after[0].error is not None
        assert (after[0].error.reason, after[0].reason) == ("HookFailed", "Missing")
        assert strangers == []
        _, strangers = run_hooks(passed, outcomes[1:])
        assert [failure.reason for failure in strangers] == ["HookFailed"]


class TestThread:
    """A daemon tells beside its work."""

    def test_tries_again(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """A publication wakes the thread, a failure is tried again, and then nothing is done until the next one."""
        monkeypatch.setattr("credrotator.app.running_hooks.FIRST_PAUSE_S", 0.01)
        hook = Scripted(failures=2)
        thread = HookThread(site.hooks(hook))
        thread.start()
        thread.published()
        eventually(lambda: site.noted == [("scripted", False), ("scripted", False), ("scripted", True)])
        site.publish("aws", "2")
        thread.published()
        eventually(lambda: hook.runs[-1] == ["aws 2"])
        assert thread.dead() == []
        thread.stop()

    def test_pauses(self) -> None:
        """Pauses double, up to five minutes."""
        pauses = [HookThread._next_pause(None)]
        while pauses[-1] < 300:
            pauses.append(HookThread._next_pause(pauses[-1]))
        assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]


def python(script: str) -> str:
    """Return the command line of a Python script."""
    return f"{sys.executable} -c '{script}'"


class TestProgram:
    """``--exec``."""

    def test_environment(self, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """I9: a program gets names, and what programs need; nothing else of our environment, which may hold secrets."""
        monkeypatch.setenv("OIDC_CLIENT_SECRET", "canary")
        monkeypatch.setenv("LC_ALL", "C")
        script = f'import os, json; json.dump(dict(os.environ), open("{tmp_path}/environment", "w"))'
        Program(python(script), site.store.root).run([CHANGE, Change(ObjectKey("team-a", "gcp"), SECRET, "2")])
        text = (tmp_path / "environment").read_text()
        assert "canary" not in text
        assert '"CREDROTATOR_POLICIES": "default/aws team-a/gcp"' in text
        assert '"CREDROTATOR_SECRETS": "default/ai-eg-bsp-aws default/ai-eg-bsp-aws"' in text
        assert f'"CREDROTATOR_OUT": "{site.store.root}"' in text
        assert '"LC_ALL": "C"' in text

    def test_no_shell(self, tmp_path: Path) -> None:
        """What a shell would read is text."""
        Program(f"touch '{tmp_path}/$(id);x'", tmp_path).run([CHANGE])
        assert (tmp_path / "$(id);x").exists()

    def test_own_group(self, tmp_path: Path) -> None:
        """Ctrl-C for us is not for it: it has a process group of its own."""
        Program(python(f'import os; open("{tmp_path}/group", "w").write(str(os.getpgrp()))'), tmp_path).run([CHANGE])
        assert int((tmp_path / "group").read_text()) != os.getpgrp()

    @pytest.mark.parametrize(("text", "why"), [
        (python("import sys; sys.exit(3)"), "ended with exit code 3"),
        (python("import os; os.kill(os.getpid(), 9)"), "ended with signal 9"),
    ])  # fmt: skip
    def test_failed(self, tmp_path: Path, text: str, why: str) -> None:
        """A failure says how it ended, and what to do."""
        with pytest.raises(RotationError, match=why) as raised:
            Program(text, tmp_path).run([CHANGE])
        assert (raised.value.kind, raised.value.reason) == ("transient", "HookFailed")

    def test_time_limit(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A program that does not end is ended, with all that it started."""
        monkeypatch.setattr(running, "GRACE_S", 0.1)
        script = (
            "import signal, subprocess, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
            f'child = subprocess.Popen(["sleep", "600"]); open("{tmp_path}/child", "w").write(str(child.pid)); '
            "time.sleep(600)"
        )
        monkeypatch.setattr(running, "TIME_LIMIT_S", 2.0)
        with pytest.raises(RotationError, match="did not end within 2 s, and was ended"):
            Program(python(script), tmp_path).run([CHANGE])
        child = int((tmp_path / "child").read_text())
        eventually(lambda: not _runs(child))

    @pytest.mark.parametrize("text", ["", "no-such-program-here --x", "'unclosed"])
    def test_no_program(self, tmp_path: Path, text: str) -> None:
        """What is no program is refused before anything is rotated."""
        with pytest.raises(UsageError, match="--exec"):
            Program(text, tmp_path)

    def test_many_names(self, tmp_path: Path) -> None:
        """Thousands of changes fit: names that do not are left out, and the count is right."""
        many = [Change(ObjectKey("namespace", f"policy-{number:05}"), SECRET, "1") for number in range(10_000)]
        script = f'import os; open("{tmp_path}/count", "w").write(os.environ["CREDROTATOR_CHANGED"])'
        Program(python(script), tmp_path).run(many)
        assert (tmp_path / "count").read_text() == "10000"


def _runs(pid: int) -> bool:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 - a file of the kernel's
        return stat.read().rpartition(")")[2].split()[0] != "Z"
    return False


class TestSignal:
    """``--signal NAME:PIDFILE``."""

    @pytest.mark.parametrize("name", ["HUP", "SIGHUP", "hup"])
    def test_sent(self, tmp_path: Path, name: str) -> None:
        """The process in the file gets it."""
        script = "import signal, sys; signal.signal(signal.SIGHUP, lambda *_: sys.exit(7)); print(flush=True); input()"
        with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout
            process.stdout.readline()
            (tmp_path / "pid").write_text(f"{process.pid}\n")
            Signal(f"{name}:{tmp_path}/pid").run([CHANGE])
            assert process.wait() == 7

    @pytest.mark.parametrize(("content", "why"), [
        (None, "No such file"),
        ("", "does not hold the number of a process"),
        ("nginx", "does not hold the number of a process"),
        ("-1", "does not hold the number of a process"),
        ("1", "does not hold the number of a process"),
        ("4194305", "process"),
    ])  # fmt: skip
    def test_failed(self, tmp_path: Path, content: str | None, why: str) -> None:
        """A file without a process's number is a failure, and no process is hit by chance."""
        if content is not None:
            (tmp_path / "pid").write_text(content)
        with pytest.raises(RotationError, match=why) as raised:
            Signal(f"HUP:{tmp_path}/pid").run([CHANGE])
        assert raised.value.hint.startswith("see whether the process runs, and whether this is the file")

    def test_not_permitted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The process is there, and is somebody else's."""

        def deny(*_: int) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        (tmp_path / "pid").write_text("4194305")
        monkeypatch.setattr(os, "kill", deny)
        with pytest.raises(RotationError, match="Operation not permitted") as raised:
            Signal(f"HUP:{tmp_path}/pid").run([CHANGE])
        assert raised.value.hint == "run credrotator as the user who runs that process"

    @pytest.mark.parametrize("text", ["HUP", "HUP:", ":x", "NONE:x", "KILL:x", "SIGSTOP:x"])
    def test_wrong_use(self, text: str) -> None:
        """What is no signal, or cannot be heard, is refused."""
        with pytest.raises(UsageError, match="expected NAME:PIDFILE"):
            Signal(text)

    def test_name(self, tmp_path: Path) -> None:
        """In metrics it is called by the signal."""
        assert Signal(f"usr1:{tmp_path}/pid").name == signal.SIGUSR1.name


@pytest.mark.parametrize(
    "consumers", [Consumers(("a:b",)), Consumers(commands=("true",)), Consumers(signals=("HUP:x",))]
)
def test_not_in_a_cluster(consumers: Consumers) -> None:
    """A cluster has other ways to tell."""
    with pytest.raises(UsageError, match=r"go(es)? with -f and --out"):
        consumers.refuse()
