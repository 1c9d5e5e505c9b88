"""Standard streams that are closed or full: the work is done, and the exit code says how it went."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.command_line import PROGRAM, Ran, run_outside
from tests.support.waiting import LIMIT_S

if TYPE_CHECKING:
    from tests.support.command_line import Backend

pytestmark = pytest.mark.timeout(120)

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")


def redirected(redirections: str, *command: str) -> Ran:
    """Run a command with a shell's redirections."""
    return run_outside(["sh", "-c", f'"$@" {redirections}', "sh", *command])


class TestClosed:
    """As some launchers of jobs leave them."""

    @pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&-", "<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
    def test_a_credential_is_published(self, world: Backend, closed: str) -> None:
        """Whatever is closed; nothing that was meant for a person gets into a file."""
        world.aws()
        ran = redirected(closed, *world.command())
        assert ran.code == 0, ran.err
        assert "Traceback" not in ran.err
        assert "aws_access_key_id" in world.value()
        assert ">&-" in closed.replace("2>&-", "") or "1 rotated" in ran.out
        written = [path for path in world.out.rglob("*") if path.is_file() and not path.is_symlink()]
        assert not [path for path in written if b"RENEWS IN" in path.read_bytes()]

    @pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-"])
    def test_a_failure_is_told_by_the_exit_code(self, world: Backend, closed: str) -> None:
        """Where there is nobody to be told in words."""
        world.invalid()
        assert redirected(closed, *world.command()).code == 1
        assert redirected(closed, *PROGRAM, "rotate", "-f", "/nowhere", "--out", str(world.out)).code == 2

    def test_no_standard_input_to_read(self, world: Backend) -> None:
        """``-f -`` of nothing is one clear line."""
        ran = redirected("<&-", *PROGRAM, "rotate", "-f", "-", "--out", str(world.out))
        assert (ran.code, ran.out) == (2, "")
        assert ran.err == "Error: there is no BackendSecurityPolicy in what -f names\n"

    @pytest.mark.parametrize("command", ["status", "check", "convert"])
    def test_the_other_commands(self, world: Backend, command: str) -> None:
        """None of them ends in a traceback."""
        world.aws()
        arguments = ["-f", str(world.manifests), *(["--out", str(world.out)] if command != "convert" else [])]
        ran = redirected("<&- 2>&-", *PROGRAM, command, *arguments)
        assert ran.code == 0
        assert "bedrock" in ran.out


@needs_full
class TestFull:
    """A disk that is full behind them."""

    def test_what_was_published_is_told(self, world: Backend) -> None:
        """By the exit code, and one line that says why there is no table."""
        world.aws()
        for output in ("table", "json", "yaml"):
            ran = redirected(f"> {FULL}", *world.command("--force", "-o", output))
            assert ran.code == 0
            assert ran.err == (
                "Error: cannot write to standard output: No space left on device; "
                "the exit code tells what was published\n"
            )
        world.invalid()
        assert redirected(f"> {FULL}", *world.command()).code == 1
        assert "aws_access_key_id" in world.value()

    @pytest.mark.parametrize("full", [f"2> {FULL}", f"> {FULL} 2>&1"])
    def test_nobody_can_be_told(self, world: Backend, full: str) -> None:
        """A credential is published, notes and warnings or not."""
        world.aws()
        (world.manifests / "notes.txt").touch()
        assert redirected(full, *world.command()).code == 0
        assert "aws_access_key_id" in world.value()

    @pytest.mark.parametrize("command", ["status", "convert", "completion"])
    def test_a_command_that_only_prints(self, world: Backend, command: str) -> None:
        """What was not printed is not done."""
        world.aws()
        arguments = ["bash"] if command == "completion" else ["-f", str(world.manifests)]
        arguments += ["--out", str(world.out)] if command == "status" else []
        ran = redirected(f"> {FULL}", *PROGRAM, command, *arguments)
        assert ran.code == 1
        assert ran.err == "Error: cannot write to standard output: No space left on device\n"

    def test_a_failed_check(self, world: Backend) -> None:
        """A code that says more is kept."""
        world.invalid()
        assert redirected(f"> {FULL}", *PROGRAM, "check", "-f", str(world.manifests)).code == 1
        assert redirected(f"> {FULL}", *PROGRAM, "check", "-f", "/nowhere").code == 2


class TestNobodyReads:
    """As ``| head`` leaves it."""

    @pytest.mark.parametrize("words", ["--help", "explain", "status", "check", "convert", "completion bash", "rotate"])
    def test_the_exit_code_is_a_signals(self, world: Backend, words: str) -> None:
        """Never 1, which says that policies failed; and in silence."""
        world.aws()
        manifests = ["-f", str(world.manifests)] if words in {"status", "check", "convert", "rotate"} else []
        out = ["--out", str(world.out)] if words in {"status", "check", "rotate"} else []
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "wb") as unread:
            ran = subprocess.run(
                [*PROGRAM, *words.split(), *manifests, *out],
                stdout=unread,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
                timeout=LIMIT_S,
            )
        assert (ran.returncode, ran.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter every directory")
def test_directories_that_may_not_be_entered(world: Backend, tmp_path: Path) -> None:
    """Whatever option leads there: one line, exit code 2, no traceback."""
    world.aws()
    shut = tmp_path / "shut"
    shut.mkdir()
    shut.chmod(0)
    inside = str(shut / "x")
    try:
        for arguments in (
            ["--ca-file", inside],
            ["--issuer-ca", f"https://*={inside}"],
            ["--template", f"{inside}:{tmp_path}/y"],
            ["--template", f"{tmp_path}/y:{inside}/z"],
            ["--config", inside],
            ["-f", inside],
        ):
            ran = run_outside(world.command(*arguments))
            assert ran.code == 2, ran.err
            assert "Permission denied" in ran.err
            assert "Traceback" not in ran.err
        ran = run_outside([*PROGRAM, "rotate", "-f", str(world.manifests), "--out", inside])
        assert (ran.code, "Permission denied" in ran.err) == (2, True)
    finally:
        shut.chmod(0o700)
