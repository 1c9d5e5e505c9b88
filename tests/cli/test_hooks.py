"""``--exec`` and ``--signal`` of ``rotate`` and ``run``: told once per change, and a failure is one."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tests.support.command_line import PROGRAM, Backend, run
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def program(world: Backend) -> Path:
    """Return a program that notes each run in a file beside it, and fails as long as there is a file ``broken``."""
    path = world.directory / "program"
    path.write_text(
        f"#!/bin/sh\necho \"$@ $CREDROTATOR_POLICIES\" >> '{path}.log'\n[ ! -e '{world.directory}/broken' ] || exit 3\n"
    )
    path.chmod(0o755)
    return path


def told(program: Path) -> list[str]:
    """Return what the program was told in each of its runs."""
    log = program.with_name("program.log")
    return log.read_text().splitlines() if log.exists() else []


class TestRotate:
    """One pass."""

    def test_once_per_change(self, world: Backend, program: Path) -> None:
        """One run for all that a pass has published, none where nothing changed, and templates are written before."""
        world.aws()
        world.azure()
        (world.directory / "t").write_text("x")
        options = ["--exec", f"{program} 'two words'", "--template", f"{world.directory}/t:{world.directory}/rendered"]
        assert world.rotate("--dry-run", *options).code == 0
        assert told(program) == []
        assert [world.rotate(*options).code for _ in range(2)] == [0, 0]
        assert world.rotate("default/openai", "--force", *options).code == 0
        assert told(program) == ["two words default/bedrock default/openai", "two words default/openai"]

    @pytest.mark.slow
    def test_failed(self, world: Backend, program: Path) -> None:
        """After three tries the policies have failed, though their credentials are published; the next pass tells."""
        world.aws()
        world.static()
        (world.directory / "broken").touch()
        ran = world.rotate("--exec", str(program), "-o", "json")
        assert ran.code == 1
        assert ran.actions == {"default/bedrock": "failed", "default/static": "skipped"}
        result = ran.result("default/bedrock")
        assert (result["reason"], result["error"]["reason"]) == ("Missing", "HookFailed")
        assert result["error"]["message"] == "program ended with exit code 3"
        assert world.holds("bedrock", "credentials")
        assert len(told(program)) == 3
        # What another policy's consumers did not hear is a failure of the pass all the same.
        ran = world.rotate("default/static", "--exec", str(program))
        assert (ran.code, "hook: HookFailed: program ended with exit code 3" in ran.err) == (1, True)
        (world.directory / "broken").unlink()
        ran = world.rotate("--exec", str(program), "-o", "json")
        assert (ran.code, ran.actions["default/bedrock"]) == (0, "kept")
        assert len(told(program)) == 7

    @pytest.mark.parametrize("wrong", [["--exec", "no-such-program-here"], ["--signal", "HUP"]])
    def test_wrong_use(self, world: Backend, wrong: list[str]) -> None:
        """What cannot be run is refused before anything is rotated."""
        world.aws()
        assert world.rotate(*wrong).code == 2
        assert not world.out.exists()

    def test_cluster(self) -> None:
        """Without -f there is no directory whose consumers could be told."""
        ran = run("rotate", "--exec", "true", "--kubeconfig", "/nowhere")
        assert (ran.code, "--exec and --signal go with -f and --out" in ran.err) == (2, True)

    def test_by_variable_and_file(self, world: Backend, program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A command with arguments can be set like every other option: one a line, or a list."""
        world.aws()
        monkeypatch.setenv("CREDROTATOR_EXEC", f"{program} one\n{program} two")
        assert world.rotate().code == 0
        monkeypatch.delenv("CREDROTATOR_EXEC")
        config = world.directory / "config.yaml"
        config.write_text(f'exec: ["{program} three"]\n')
        assert world.rotate("--config", str(config)).code == 0
        assert told(program) == [f"{word} default/bedrock" for word in ("one", "two", "three")]


@pytest.mark.slow
def test_daemon(world: Backend, program: Path) -> None:
    """The daemon runs it beside its work, tries again what failed, and counts both; a signal reaches its process."""
    world.aws()
    script = "import signal; signal.signal(signal.SIGUSR1, lambda *_: print('heard', flush=True)); print(flush=True)\n"
    listener = subprocess.Popen(
        [sys.executable, "-c", script + "while True: signal.pause()"], stdout=subprocess.PIPE, text=True
    )
    assert listener.stdout
    listener.stdout.readline()
    (world.directory / "pid").write_text(str(listener.pid))
    (world.directory / "broken").touch()
    options = ["--exec", str(program), "--signal", f"USR1:{world.directory}/pid", "--listen", "127.0.0.1:0"]
    command = [*PROGRAM, "run", "-f", str(world.manifests), "--out", str(world.out), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as daemon:
        assert daemon.stderr
        port = next(found[1] for line in daemon.stderr if (found := re.search(r"listening on 127.0.0.1:(\d+)", line)))
        assert listener.stdout.readline() == "heard\n"
        eventually(lambda: len(told(program)) >= 2)
        (world.directory / "broken").unlink()

        def counted(result: str) -> bool:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
                text = response.read().decode()
            return f'credrotator_hook_runs_total{{hook="program",result="{result}"}}' in text

        eventually(lambda: counted("succeeded"))
        assert counted("failed")
        assert set(told(program)) == {" default/bedrock"}
        daemon.terminate()
        assert "hook: HookFailed: program ended with exit code 3" in daemon.stderr.read()
        assert daemon.wait() == 0
    listener.kill()
    listener.communicate()
