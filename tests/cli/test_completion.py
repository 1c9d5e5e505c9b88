"""What a shell is offered at a press of Tab."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from credrotator.cli.completion import SHELLS
from tests.support.command_line import Backend, offered, run

BIN = Path(sys.executable).parent


@pytest.fixture
def policies(world: Backend) -> Backend:
    """Return manifests with three policies, one of which cannot work."""
    world.aws()
    world.azure(namespace="team-a")
    world.invalid()
    return world


class TestWords:
    """By the protocol between the script and the program."""

    def test_commands(self) -> None:
        """By their beginning; nothing is imported for it."""
        assert offered("credrotator st") == ["plain,status"]
        assert "plain,sandbox" in offered("credrotator ")

    def test_options_and_formats(self) -> None:
        """Names of options, and the values of those that have a list."""
        assert offered("credrotator status --wat") == ["plain,--watch"]
        assert offered("credrotator status -o w") == ["plain,wide"]
        assert "plain,terraform" in offered("credrotator check -o ")

    def test_files(self) -> None:
        """Left to the shell, as files or as directories."""
        assert offered("credrotator rotate -f x") == ["file,x"]
        assert offered("credrotator rotate --ca-file x") == ["file,x"]
        assert offered("credrotator rotate --out x") == ["dir,x"]

    def test_policies(self, policies: Backend) -> None:
        """Those of the manifests on the line, invalid ones too, each once."""
        line = f"credrotator status -f {policies.manifests} "
        assert offered(line) == ["plain,default/bedrock", "plain,default/broken", "plain,team-a/openai"]
        assert offered(f"{line}team") == ["plain,team-a/openai"]
        assert offered(f"{line}default/bedrock default/b") == ["plain,default/broken"]
        assert offered(f"{line}-n ") == ["plain,default", "plain,team-a"]

    @pytest.mark.parametrize("options", ["", "-f /nonexistent ", "-f - "])
    def test_nothing_to_be_read(self, options: str) -> None:
        """No manifests, none there, or none to be read twice: nothing, and no complaint."""
        assert offered(f"credrotator status {options}") == []


class TestScripts:
    """What is printed for each shell."""

    @pytest.fixture(autouse=True)
    def _found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the shells find the program of this environment."""
        monkeypatch.setenv("PATH", str(BIN), prepend=":")

    @pytest.mark.parametrize("shell", SHELLS)
    def test_syntax(self, shell: str, tmp_path: Path) -> None:
        """The shell itself reads the script, where it is installed."""
        ran = run("completion", shell)
        assert ran.code == 0
        assert f"_CREDROTATOR_COMPLETE={shell}_complete" in ran.out
        if shutil.which(shell) is None:
            pytest.skip(f"{shell} is not here")
        script = tmp_path / "script"
        script.write_text(ran.out)
        subprocess.run([shell, "-n", str(script)], check=True)

    def test_in_bash(self, policies: Backend) -> None:
        """Sourced, it fills in what bash asks for."""
        line = f"(credrotator status -f {policies.manifests} default/be)"
        script = (
            "source <(credrotator completion bash); complete -p credrotator; "
            f'COMP_WORDS={line}; COMP_CWORD=4; _credrotator_completion credrotator; echo "${{COMPREPLY[@]}}"'
        )
        ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
        assert ended.stdout.splitlines()[-1] == "default/bedrock"
        assert "-F _credrotator_completion credrotator" in ended.stdout

    def test_another_shell(self) -> None:
        """Is refused with those that there are."""
        ran = run("completion", "tcsh")
        assert ran.code == 2
        assert "bash" in ran.err
