"""``status`` as a person sees it: colours where they belong, causes without a second command, and watching."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import subprocess
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from credrotator.cli.colours import colourful
from credrotator.cli.live import View, watch
from credrotator.cli.status_reading import Status
from credrotator.cli.status_report import notes, summary, table
from credrotator.cli.tables import plain
from credrotator.core.errors import UsageError
from credrotator.core.model import ObjectKey
from credrotator.diagnosis.overview import Row
from credrotator.policies.inventory import Dependants
from credrotator.sandbox import ServiceError
from tests.support.command_line import PROGRAM, Backend, run, run_outside
from tests.support.twins import KEY, NOW, SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credrotator.sandbox import Sandbox
    from tests.support.command_line import Ran

SCHEMA = Draft202012Validator(json.loads((Path(__file__).parents[2] / "docs" / "status.schema.json").read_text()))
MINUTE = timedelta(minutes=1)
ESCAPE = "\x1b["


def status(world: Backend, *arguments: str) -> Ran:
    """Run ``status`` over all manifests, in this process."""
    return run("status", "-f", str(world.manifests), "--out", str(world.out), *arguments)


def tagged(text: str, tone: str) -> str:
    """Show a tone as a tag."""
    return f"<{tone}>{text}</>" if tone else text


class TestTable:
    """What stands in the cells."""

    def row(self, **changes: Any) -> Row:
        """Return a fresh policy."""
        return Row(**{"policy": KEY, "provider": "aws-oidc", "state": "Fresh", "secret": SECRET, **changes})

    def test_relative_times(self) -> None:
        """Until the expiry, until the renewal, since the last pass."""
        last = {"action": "rotated", "reason": "Missing", "at": "2026-11-24T11:58:00Z", "error": None}
        row = self.row(expires_at=NOW + 50 * MINUTE, renew_at=NOW - MINUTE, last=last)
        assert re.search(r"Fresh +50m +1m ago +rotated \(Missing\) 2m ago", table([row], NOW, wide=False))

    @pytest.mark.parametrize(
        ("state", "tone"),
        [("Fresh", "good"), ("Due", "warn"), ("Parked", "warn"), ("Expired", "bad"), ("Odd", "bad"), ("Static", "dim")],
    )
    def test_tones(self, state: str, tone: str) -> None:
        """Green for what is well, red for what nobody knew to be well."""
        assert f"<{tone}>{state}</>" in table([self.row(state=state)], NOW, wide=False, paint=tagged)

    @pytest.mark.parametrize(("left_s", "tone"), [(-1, "bad"), (0, "bad"), (299, "warn"), (300, "")])
    def test_how_near_the_expiry_is(self, left_s: int, tone: str) -> None:
        """Within the gateway's own five minutes it is told from far ones; what has passed is red."""
        painted = table([self.row(expires_at=NOW + timedelta(seconds=left_s))], NOW, wide=False, paint=tagged)
        assert (f"<{tone}>" in painted.splitlines()[1].replace("<good>", "").replace("<dim>", "")) == bool(tone)

    def test_columns_hold_with_colours(self) -> None:
        """What is painted takes no room."""
        rows = [self.row(), self.row(state="Expired", expires_at=NOW)]
        unpainted = re.sub(r"<\w+>|</>", "", table(rows, NOW, wide=True, paint=tagged))
        assert unpainted == table(rows, NOW, wide=True)

    def test_wide(self) -> None:
        """Identity, Secret, models and the gateway's ear; long lists are counted."""
        found = Dependants(
            tuple(ObjectKey("default", f"b{number}") for number in range(4)),
            (ObjectKey("default", "r"),),
            tuple(f"m{number}" for number in range(100)),
        )
        row = self.row(identity="arn:aws:iam::1:role/x", dependants=found, acknowledged=False, in_use=True)
        header, line = table([row], NOW, wide=True).splitlines()
        for name, cell in (
            ("BACKENDS", "default/b0, default/b1, default/b2 +1"),
            ("ROUTES", "default/r"),
            ("MODELS", "m0, m1, m2 +97"),
            ("IDENTITY", "arn:aws:iam::1:role/x"),
            ("SECRET", str(SECRET)),
            ("ACKNOWLEDGED", "no"),
            ("IN USE", "yes"),
        ):
            assert line[header.index(name) :].startswith(cell)

    def test_no_policies(self) -> None:
        """A header, and that there are none."""
        assert table([], NOW, wide=False).splitlines()[0].startswith("POLICY")
        assert notes([]) == "\n0 policies\n"

    def test_counts(self) -> None:
        """Of several policies, by state; of one, the table says it."""
        rows = [self.row(), self.row(), self.row(state="Due")]
        assert notes(rows) == "\n3 policies: 2 Fresh, 1 Due\n"
        assert notes(rows[:1]) == ""
        assert summary(rows[:1]) == "1 policy: 1 Fresh\n"
        assert summary([], status=Status([], complete=True, contexts=("a",))) == "0 policies in 1 of 1 cluster\n"


class TestCauses:
    """Without a second command."""

    def test_last_failure(self, world: Backend, sandbox: Sandbox) -> None:
        """Its reason and what to do, though the published credential is still good."""
        world.aws()
        world.rotate()
        sandbox.sts.faults.add(ServiceError("AccessDenied"))
        world.rotate("--force")
        told = status(world).out
        assert re.search(r"default/bedrock +aws-oidc +Fresh +\S+ +\S+ +failed \(Forced\)", told)
        assert "default/bedrock: AccessDenied (denied): AWS STS answered AccessDenied" in told
        assert "  what to do: let the role's trust policy" in told

    def test_invalid_and_broken(self, world: Backend) -> None:
        """What is wrong with a policy, and with what it names; in JSON too."""
        world.invalid()
        world.static()
        (world.manifests / "default-static.yaml").write_text(
            next(iter((world.manifests / "default-static.yaml").read_text().split("---")))
        )
        told = status(world).out
        assert "default/broken: Invalid: spec.awsCredentials.region: must not be empty" in told
        assert "what to do: correct the policy in" in told
        assert "default/static: Broken: " in told
        found = {row["policy"]: row for row in json.loads(status(world, "-o", "json").out)["policies"]}
        assert "correct the policy" in found["default/broken"]["hint"]
        assert found["default/static"]["hint"]

    def test_schema(self, world: Backend, sandbox: Sandbox) -> None:
        """Whatever the state, the document is as its schema says."""
        world.aws()
        world.azure()
        world.static()
        world.invalid()
        states = []
        for fault in (None, "AccessDenied"):
            if fault:
                sandbox.sts.faults.add(ServiceError(fault))
            found = json.loads(status(world, "-o", "json").out)
            SCHEMA.validate(found)
            states.append([row["state"] for row in found["policies"]])
            world.rotate("--force")
        found = json.loads(status(world, "-o", "json").out)
        SCHEMA.validate(found)
        assert states[0] == ["Missing", "Invalid", "Missing", "Static"]
        assert found["policies"][0]["lastOutcome"]["error"]["reason"] == "AccessDenied"

    def test_yaml(self, world: Backend) -> None:
        """The same document."""
        world.aws()
        assert yaml.safe_load(status(world, "-o", "yaml").out) == json.loads(status(world, "-o", "json").out)


class Terminal(io.StringIO):
    """A stream that calls itself a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environment", "wanted"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
        (io.StringIO(), {"FORCE_COLOR": "1"}, True),
        (Terminal(), {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_who_gets_colours(stream: io.StringIO, environment: dict[str, str], wanted: bool) -> None:  # noqa: FBT001
    """A terminal that can, unless NO_COLOR is set and not empty."""
    assert colourful(stream, environment) is wanted


class TestElsewhere:
    """Output that no person looks at."""

    def test_no_colours_in_a_pipe(self, world: Backend) -> None:
        """And colours where they are asked for."""
        world.aws()
        command = [*PROGRAM, "status", "-f", str(world.manifests), "--out", str(world.out)]
        assert ESCAPE not in run_outside(command).out
        assert f"{ESCAPE}31mMissing{ESCAPE}0m" in run_outside(command, FORCE_COLOR="1").out

    def test_successive_tables(self, world: Backend) -> None:
        """Watching into a pipe shows one table after the other; Ctrl-C is no failure there."""
        world.aws()
        code, out = watched(world, terminal=False)
        assert code == 0
        assert out.count("POLICY") >= 2
        assert ESCAPE not in out

    @pytest.mark.parametrize("arguments", [("-o", "json"), ("-o", "yaml"), ("-f", "-")])
    def test_refused(self, world: Backend, arguments: tuple[str, ...]) -> None:
        """What cannot be watched, with what to do instead."""
        world.aws()
        ran = status(world, "--watch", *arguments)
        assert ran.code == 2
        assert "--watch" in ran.err


class TestWatching:
    """On a terminal, and its loop."""

    def test_in_place(self, world: Backend) -> None:
        """The cursor goes up over what it wrote and is shown again at the end; Ctrl-C ends well."""
        world.aws()
        code, out = watched(world, terminal=True)
        assert code == 0
        assert f"{ESCAPE}1A" in out
        assert out.rindex(f"{ESCAPE}?25h") > out.rindex("POLICY")
        assert "Traceback" not in out

    def test_a_manifest_that_is_away(self, capsys: pytest.CaptureFixture[str]) -> None:
        """The last view stays, and says since when it may be old."""
        looks: Iterator[View | BaseException] = iter(
            [View("first\n", ""), UsageError("cannot read p"), View("second\n", ""), KeyboardInterrupt()]
        )

        def look() -> View:
            found = next(looks)
            if isinstance(found, BaseException):
                raise found
            return found

        watch(look, lambda: NOW, timedelta(0), plain)
        shown = [part for part in capsys.readouterr().out.split("2026-11-24T12:00:00Z, every 0.2 s\n") if part]
        assert shown == ["first\n\n", "first\n\nas it was: cannot read p\n\n", "second\n\n"]

    def test_the_first_look_fails(self) -> None:
        """Then there is nothing to be watched."""

        def look() -> View:
            raise UsageError("no such file")

        with pytest.raises(UsageError):
            watch(look, lambda: NOW, timedelta(0), plain)


def watched(world: Backend, *, terminal: bool) -> tuple[int, str]:
    """Watch until three tables were shown, then press Ctrl-C; return the exit code and all that was shown."""
    command = [*PROGRAM, "status", "-f", str(world.manifests), "--out", str(world.out), "--watch", "--interval", "0.2s"]
    reading, writing = pty.openpty() if terminal else os.pipe()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    process = subprocess.Popen(command, stdout=writing, stderr=writing, env=environment)
    os.close(writing)
    shown, deadline_s = b"", time.monotonic() + 60
    try:
        while shown.count(b"POLICY") < 3 and time.monotonic() < deadline_s:
            shown += os.read(reading, 65536)
        process.send_signal(signal.SIGINT)
        try:
            while more := os.read(reading, 65536):
                shown += more
        except OSError:
            pass  # How a terminal whose other end is closed says that it is at its end.
        return process.wait(30), shown.decode()
    finally:
        process.kill()
        process.wait()
        os.close(reading)
