"""``credrotator renew`` and ``credrotator wait`` over a directory."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from credrotator.policies.annotations import RENEW
from credrotator.sandbox import DEFAULT_ROLE, ServiceError
from tests.support.command_line import PROGRAM, Backend, Ran, run

if TYPE_CHECKING:
    from credrotator.sandbox import Sandbox


def call(world: Backend, command: str, *arguments: str) -> Ran:
    """Run a command over all manifests."""
    return run(command, "-f", str(world.manifests), "--out", str(world.out), *arguments)


def annotate(world: Backend, request: str) -> None:
    """Write a request into the policy's manifest, as GitOps does."""
    path = world.manifests / "default-bedrock.yaml"
    manifest = yaml.safe_load(path.read_text())
    manifest["metadata"]["annotations"] = {RENEW: request}
    path.write_text(yaml.safe_dump(manifest))


class TestRenew:
    """``renew``."""

    def test_over_a_directory(self, world: Backend) -> None:
        """What is fresh is renewed all the same, and only what is named."""
        world.aws()
        world.azure()
        assert world.rotate().code == 0
        before, other = world.value(), world.value("openai", "azureAccessToken")
        ran = call(world, "renew", "default/bedrock")
        assert (ran.code, "Forced" in ran.out) == (0, True)
        assert world.value() != before
        assert world.value("openai", "azureAccessToken") == other

    def test_failed(self, world: Backend, sandbox: Sandbox) -> None:
        """A refusal is shown, and the exit code tells; what was published stays."""
        world.aws()
        assert world.rotate().code == 0
        before = world.value()
        sandbox.sts.faults.add(ServiceError("AccessDenied"))
        assert call(world, "renew", "default/bedrock").code == 1
        assert world.value() == before

    @pytest.mark.parametrize("names", [[], ["default/nobody"], ["default/static"]])
    def test_wrong_use(self, world: Backend, names: list[str]) -> None:
        """Nothing named, nobody's name, nothing to renew."""
        world.aws()
        world.static()
        assert call(world, "renew", *names).code == 2

    def test_by_annotation(self, world: Backend) -> None:
        """The annotation in a manifest is heard by ``rotate``, once for each value."""
        world.aws()
        assert world.rotate().code == 0
        annotate(world, "monday")
        reasons = [world.rotate("-o", "json").result("default/bedrock")["reason"] for _ in range(2)]
        annotate(world, "tuesday")
        reasons += [world.rotate("-o", "json").result("default/bedrock")["reason"]]
        assert reasons == ["Requested", "Fresh", "Requested"]


class TestWait:
    """``wait``."""

    def test_ready(self, world: Backend) -> None:
        """What is published is ready at once; a static policy is, where its Secret is there."""
        world.aws()
        world.static()
        assert world.rotate().code == 0
        ran = call(world, "wait")
        assert (ran.code, ran.out) == (0, "default/bedrock: condition met\ndefault/static: condition met\n")

    @pytest.mark.parametrize(("condition", "code", "why"), [
        ("ready", 0, ""),
        ("expires-after=30m", 0, ""),
        ("expires-after=2h", 1, "its credential expires at"),
    ])  # fmt: skip
    def test_conditions(self, world: Backend, condition: str, code: int, why: str) -> None:
        """The credential has to live as long as is asked, from now on."""
        world.aws()
        assert world.rotate().code == 0
        ran = call(world, "wait", "default/bedrock", "--for", condition, "--timeout", "0s")
        assert ran.code == code
        assert why in ran.err

    def test_missing(self, world: Backend) -> None:
        """Nothing was published: the time is up, and the reason is said."""
        world.aws()
        ran = call(world, "wait", "--timeout", "0s")
        assert (ran.code, ran.out) == (1, "")
        assert ran.err == "default/bedrock: it has no credential yet\n"

    def test_edited(self, world: Backend) -> None:
        """A credential of before an edit is not ready."""
        world.aws()
        assert world.rotate().code == 0
        world.aws(role=f"{DEFAULT_ROLE}-other")
        ran = call(world, "wait", "--timeout", "0s")
        assert (ran.code, "before an edit" in ran.err) == (1, True)

    def test_requested(self, world: Backend) -> None:
        """A renewal that was requested is waited for."""
        world.aws()
        assert world.rotate().code == 0
        annotate(world, "now")
        ran = call(world, "wait", "--timeout", "0s")
        assert (ran.code, "still to be done" in ran.err) == (1, True)
        assert world.rotate().code == 0
        assert call(world, "wait", "--timeout", "0s").code == 0

    def test_invalid(self, world: Backend) -> None:
        """A policy that cannot work is never ready."""
        world.invalid()
        assert call(world, "wait", "--timeout", "0s").code == 1

    def test_waits(self, world: Backend) -> None:
        """What is published meanwhile ends the wait."""
        world.aws()
        command = [*PROGRAM, "wait", "-f", str(world.manifests), "--out", str(world.out)]
        waiting = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert world.rotate().code == 0
        out, _ = waiting.communicate()
        assert (waiting.returncode, out) == (0, "default/bedrock: condition met\n")

    @pytest.mark.parametrize("wrong", [["--for", "never"], ["--for", "expires-after=soon"], ["default/nobody"]])
    def test_wrong_use(self, world: Backend, wrong: list[str]) -> None:
        """A condition that is none, a policy that is none."""
        world.aws()
        assert call(world, "wait", *wrong).code == 2
