"""The command as a process: signals, terminals, exit codes, and the sandbox command around another one."""

from __future__ import annotations

import json
import os
import pty
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from credrotator.sandbox import Hang, Latency
from tests.support.command_line import PROGRAM, run_outside
from tests.support.waiting import LIMIT_S, eventually

if TYPE_CHECKING:
    from credrotator.sandbox import Sandbox
    from tests.support.command_line import Backend

EXAMPLES = Path(__file__).parents[2] / "examples"
FREE_PORTS = tuple(
    text
    for server in ("issuer", "sts", "entra", "google", "anthropic", "openai", "exchange")
    for text in (f"--{server}-port", "0")
)


class TestSignals:
    """Ctrl-C and SIGTERM end a pass soon, whatever hangs, and tear nothing."""

    @pytest.mark.parametrize(("number", "code", "word"), [
        (signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated"),
    ])  # fmt: skip
    def test_hanging_exchange(
        self, world: Backend, sandbox: Sandbox, number: signal.Signals, code: int, word: str
    ) -> None:
        """A pass whose issuer hangs ends long before its time limit; what hung is named; old credentials are whole."""
        world.aws("old")
        world.azure_secret("free")
        world.rotate("old")
        before = world.value("old")
        sandbox.issuer.requests.clear()
        sandbox.issuer.faults.add(Hang())
        command = world.command("--force", "--timeout", "5m")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert sandbox.issuer.requests.wait_for(lambda log: log.in_flight > 0)
        eventually(lambda: world.holds("free", "azureAccessToken"))
        process.send_signal(number)
        out, err = process.communicate(timeout=LIMIT_S)
        assert (process.returncode, out) == (code, "")
        assert "interrupted; still under way: default/old" in err
        assert err.endswith(f"{word}; what was published stays\n")
        assert "Traceback" not in err
        assert world.value("old") == before
        sandbox.issuer.faults.clear()
        assert world.rotate().code == 0

    def test_before_anything(self, world: Backend) -> None:
        """Ctrl-C while manifests are read from a terminal ends at once."""
        command = [*PROGRAM, "rotate", "-f", "-", "--out", str(world.out)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        _wait_until_reading(process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 130
        assert b"Traceback" not in err
        assert not world.out.exists()


class TestProgress:
    """The bar shows itself to a person who waits."""

    def test_on_a_terminal(self, world: Backend, sandbox: Sandbox) -> None:
        """On a terminal, after a second, standard error shows how far the pass is; standard output stays clean."""
        world.aws()
        sandbox.sts.faults.add(Latency(2.0))
        out, err = _on_a_terminal(world.command("-o", "json"))
        assert b"rotating" in err
        assert b"0/1" in err
        assert out.startswith(b"{")
        assert b"\x1b" not in out

    def test_quick(self, world: Backend) -> None:
        """A pass that is over within a second shows none."""
        world.static()
        _, err = _on_a_terminal(world.command())
        assert err == b""

    def test_no_terminal(self, world: Backend, sandbox: Sandbox) -> None:
        """In cron's mail there is no bar, however long it takes."""
        world.aws()
        sandbox.sts.faults.add(Latency(1.5))
        assert run_outside(world.command()).err == ""

    @pytest.mark.slow
    def test_check_that_waits(self, world: Backend, sandbox: Sandbox) -> None:
        """A check whose issuer hangs says what it waits for, on a terminal; the line is gone when it is over."""
        world.aws("slow")
        sandbox.issuer.faults.add(Hang())
        command = [*PROGRAM, "check", "-f", str(world.manifests), "--out", str(world.out), "--timeout", "3s"]
        out, shown = _on_a_terminal(command)
        assert b"IssuerTimeout" in out
        assert b"\rchecking default/slow: 1 s" in shown
        assert shown.endswith(b"\r\x1b[K")


class TestSandboxCommand:
    """``credrotator sandbox``."""

    @pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143)])
    def test_exit_code(self, script: str, code: int) -> None:
        """The command's exit code is the sandbox's, 128 + N for a signal, as in a shell."""
        assert run_outside([*PROGRAM, "sandbox", *FREE_PORTS, "--", "sh", "-c", script]).code == code

    def test_variables(self) -> None:
        """The command finds the sandbox by its variables, and the CA's file is there as long as it runs."""
        google = "$CLOUDSDK_API_ENDPOINT_OVERRIDES_STS $CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS"
        others = f"$AWS_ENDPOINT_URL_STS $AZURE_AUTHORITY_HOST {google} $CLOUDSDK_AUTH_TOKEN_HOST"
        script = f'test -s "$CREDROTATOR_CA_FILE" && echo "{others}"'
        ran = run_outside([*PROGRAM, "sandbox", *FREE_PORTS, "--", "sh", "-c", script])
        assert ran.code == 0
        assert ran.out.count("https://localhost:") == 5

    def test_announces_itself(self) -> None:
        """Whoever starts a shell in it is told what runs where, and until when; standard output stays the command's."""
        ran = run_outside([*PROGRAM, "sandbox", *FREE_PORTS, "--", "true"])
        assert ran.err.startswith("sandbox: issuer https://localhost:")
        assert ran.err.endswith("; ends with true\n")
        assert ran.out == ""

    @pytest.mark.slow
    def test_goes_on_in_its_directory(self, tmp_path: Path) -> None:
        """A credential of a sandbox in ``--dir`` is good in the next one there, also if its terminal was closed."""
        place = str(tmp_path / "sandbox")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        command = [*PROGRAM, "sandbox", *FREE_PORTS, "--issuer-port", port, "--dir", place, "--"]
        manifest = (EXAMPLES / "aws-bedrock.yaml").read_text().replace(":9443", f":{port}")
        (tmp_path / "policy.yaml").write_text(manifest)
        rotate = [*PROGRAM, "rotate", "-f", str(tmp_path / "policy.yaml"), "-f", str(EXAMPLES / "secrets.yaml")]
        script = f"{shlex.join([*rotate, '--out', str(tmp_path / 'credentials')])} >&2 && kill -HUP $PPID; sleep 20"
        first = run_outside([*command, "sh", "-c", script])
        assert "1 rotated" in first.err
        asks = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])"
        (file,) = (tmp_path / "credentials").glob("*/*/credentials")
        variables = f"AWS_SHARED_CREDENTIALS_FILE='{file}' AWS_CA_BUNDLE=$CREDROTATOR_CA_FILE"
        second = run_outside([*command, "sh", "-c", f'{variables} {sys.executable} -c "{asks}"'])
        assert second.out.startswith("arn:aws:sts::123456789012:assumed-role/bedrock/"), second.err

    def test_no_such_command(self) -> None:
        """A command that is not there is wrong use."""
        ran = run_outside([*PROGRAM, "sandbox", *FREE_PORTS, "--", "no-such-command"])
        assert (ran.code, ran.err) == (2, "Error: cannot run no-such-command: No such file or directory\n")

    def test_an_option_that_it_has_not(self) -> None:
        """It is no command, and what was meant is said; behind the command, options are the command's."""
        ran = run_outside([*PROGRAM, "sandbox", "--issuerport", "0"])
        assert ran.code == 2
        assert "No such option '--issuerport'." in ran.err
        assert "'--issuer-port'" in ran.err
        assert run_outside([*PROGRAM, "sandbox", *FREE_PORTS, "sh", "-c", "exit 7"]).code == 7

    @pytest.mark.parametrize("place", ["file", "file/below", "/proc/credrotator"])
    def test_a_directory_that_cannot_be_used(self, tmp_path: Path, place: str) -> None:
        """One line that names the option, the path and why."""
        (tmp_path / "file").touch()
        ran = run_outside([*PROGRAM, "sandbox", *FREE_PORTS, "--dir", str(tmp_path / place), "--", "true"])
        assert (ran.code, ran.err.count("\n"), ran.out) == (2, 1, "")
        assert ran.err.startswith(f"Error: --dir {tmp_path / place}: cannot write ")

    def test_the_command_has_its_own_environment(self) -> None:
        """What is set for this process is not passed on, unless a person has set it."""
        asked = [*PROGRAM, "sandbox", *FREE_PORTS, "--", "sh", "-c", "echo [$PYDANTIC_DISABLE_PLUGINS]"]
        assert run_outside(asked).out == "[]\n"
        assert run_outside(asked, PYDANTIC_DISABLE_PLUGINS="mine").out == "[mine]\n"

    def test_port_taken(self) -> None:
        """A port that somebody else uses is wrong use, and named."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            ran = run_outside([*PROGRAM, "sandbox", *FREE_PORTS[2:], "--issuer-port", port, "--", "true"])
        assert ran.code == 2
        assert port in ran.err
        assert "Traceback" not in ran.err

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_waits(self, tmp_path: Path, number: signal.Signals) -> None:
        """Without a command it prints what a shell needs, waits, and ends well by Ctrl-C or SIGTERM."""
        command = [*PROGRAM, "sandbox", *FREE_PORTS, "--dir", str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout
        lines: list[str] = []
        while not lines or "Ctrl-C" not in lines[-1]:
            lines.append(process.stdout.readline())
            assert lines[-1], process.communicate()
        assert f"export CREDROTATOR_CA_FILE={tmp_path}/ca.pem\n" in lines
        key_file = tmp_path / "service_account.json"
        assert json.loads(key_file.read_text())["type"] == "service_account"
        assert key_file.stat().st_mode & 0o777 == 0o600
        process.send_signal(number)
        _, err = process.communicate(timeout=LIMIT_S)
        assert (process.returncode, err) == (0, "")

    def test_ends_with_its_command(self) -> None:
        """SIGTERM is passed on to the command, whose end is the sandbox's; nothing is left running."""
        script = 'trap "exit 5" TERM; echo $$; while :; do sleep 0.05; done'
        command = [*PROGRAM, "sandbox", *FREE_PORTS, "--", "sh", "-c", script]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            child = int(process.stdout.readline())
            process.terminate()
            assert process.wait(LIMIT_S) == 5
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)

    def test_examples(self, tmp_path: Path) -> None:
        """The command of the help text works as it stands there, with the examples' own ports."""
        for port in (9443, 9444, 9445, 9446):
            with socket.socket() as ignore_retry_after:
                if ignore_retry_after.connect_ex(("127.0.0.1", port)) == 0:
                    pytest.skip(f"port {port} is in use on this machine")
        rotate = [*PROGRAM, "rotate", "-f", "examples/", "--out", str(tmp_path / "credentials")]
        ran = run_outside([*PROGRAM, "sandbox", "--", *rotate])
        if "is in use" in ran.err:
            pytest.skip("somebody else was quicker to take one of the ports")
        assert ran.code == 0, ran.out + ran.err
        assert "0 failed" in ran.out


def test_pipe_closed(world: Backend) -> None:
    """Whoever reads the output may stop: no traceback."""
    world.static()
    assert shutil.which("sh")
    quoted = " ".join(f"'{word}'" for word in world.command())
    ran = run_outside(["sh", "-c", f"{quoted} | true"])
    assert "Traceback" not in ran.err


def test_help_is_quick() -> None:
    """``--help`` lists the commands without importing an SDK."""
    script = "import sys; sys.argv[1:] = ['--help']\n"
    script += "try:\n from credrotator.cli.main import main; main()\nexcept SystemExit: pass\n"
    script += "print([name for name in ('boto3', 'msal', 'kubernetes', 'requests') if name in sys.modules])"
    ran = run_outside([sys.executable, "-c", script])
    assert "rotate" in ran.out
    assert ran.out.endswith("[]\n")


def test_status_is_quick(world: Backend) -> None:
    """``status`` over a directory reads policies, and loads nothing with which somebody could be asked."""
    world.static()
    words = ["status", "-f", str(world.manifests), "--out", str(world.out)]
    script = f"import sys; sys.argv[1:] = {words!r}\n"
    script += "try:\n from credrotator.cli.main import main; main()\nexcept SystemExit: pass\n"
    script += (
        "print([name for name in ('requests', 'urllib3', 'jinja2', 'kubernetes', 'authlib') if name in sys.modules])"
    )
    ran = run_outside([sys.executable, "-c", script])
    assert "Static" in ran.out
    assert ran.out.endswith("[]\n")


def _wait_until_reading(process: subprocess.Popen[bytes]) -> None:
    """Wait until a process blocks in a read of its standard input (Linux), or half a minute."""
    for _ in range(300):
        try:
            with open(f"/proc/{process.pid}/syscall") as file:  # noqa: PTH123
                if file.read().startswith("0 0x0 "):
                    return
        except OSError:
            break
        time.sleep(0.1)
    time.sleep(3)


def _on_a_terminal(command: list[str]) -> tuple[bytes, bytes]:
    """Run a command whose standard error is a terminal; return both outputs."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=slave, env={**os.environ, "TERM": "xterm"}
    ) as process:
        os.close(slave)
        assert process.stdout
        shown = b""
        while select.select([master], [], [], LIMIT_S)[0]:
            try:
                shown += os.read(master, 4096)
            except OSError:  # EIO: the last process closed its end
                break
        out = process.stdout.read()
    os.close(master)
    return out, shown
