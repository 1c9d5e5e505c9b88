"""``check`` on the command line: a table for people, JSON by its schema, Terraform; and what a directory is asked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pygohcl
import pytest
import yaml

from credrotator.sandbox import ServiceError
from tests.check.conftest import FOREIGN
from tests.check.documents import document
from tests.support.command_line import Backend, run

if TYPE_CHECKING:
    from pathlib import Path

    from credrotator.sandbox import Sandbox
    from tests.support.command_line import Ran


@pytest.fixture
def world(tmp_path: Path, sandbox: Sandbox) -> Backend:
    """Return a directory with one policy of AWS and one of Azure."""
    world = Backend(tmp_path, sandbox.issuer.url)
    world.aws()
    world.azure()
    return world


def check(world: Backend, *arguments: str) -> Ran:
    """Run ``check`` over the manifests, with the directory for credentials."""
    return run("check", "-f", str(world.manifests), "--out", str(world.out), *arguments)


def step(found: dict[str, Any], name: str, policy: int = 0) -> dict[str, Any]:
    """Return one step of one policy."""
    (step,) = [step for step in found["policies"][policy]["steps"] if step["name"] == name]
    return dict(step)


class TestWell:
    """Nothing is wrong."""

    def test_table(self, world: Backend) -> None:
        """A line for each step with its time; trust settings only on request."""
        ran = check(world)
        assert ran.code == 0
        assert re.search(r"^default/bedrock \(aws-oidc\)$", ran.out, re.MULTILINE)
        assert re.search(r"^  ok +exchange +AWS STS +\d+ ms +access key ASIA…", ran.out, re.MULTILINE)
        assert ran.out.endswith("\n2 ok, 0 failed\n")
        assert "Statement" not in ran.out
        assert "Statement" in check(world, "-o", "wide").out

    def test_json_and_yaml(self, world: Backend) -> None:
        """By the schema, both the same, advice for the vendor in question."""
        found = document(check(world, "-o", "json"))
        assert [policy["result"] for policy in found["policies"]] == ["ok", "ok"]
        assert (found["rights"], found["summary"]) == (None, {"ok": 2, "failed": 0})
        aws, azure = (policy["advice"] for policy in found["policies"])
        assert aws["awsTrustPolicy"]["Statement"]
        assert azure["entraFederatedCredential"]["audiences"] == ["api://AzureADTokenExchange"]
        assert aws["entraFederatedCredential"] is None
        assert "aws_iam_role" in pygohcl.loads(aws["terraform"])["resource"]
        assert yaml.safe_load(check(world, "-o", "yaml").out).keys() == found.keys()

    def test_terraform(self, world: Backend) -> None:
        """One file for all, and nothing else on standard output."""
        ran = check(world, "-o", "terraform")
        assert pygohcl.loads(ran.out)["resource"].keys() == {
            "aws_iam_openid_connect_provider",
            "aws_iam_role",
            "azuread_application_federated_identity_credential",
        }
        assert (ran.code, ran.err) == (0, "")

    def test_nothing_is_written(self, world: Backend) -> None:
        """Not even the directory."""
        check(world)
        assert not world.out.exists()
        world.rotate()
        there = sorted(str(path) for path in world.out.rglob("*"))
        check(world)
        assert sorted(str(path) for path in world.out.rglob("*")) == there


class TestFailing:
    """Something is."""

    def test_table(self, world: Backend, sandbox: Sandbox) -> None:
        """Cause and what to do stand below the step, with the trust policy that would do."""
        sandbox.sts.faults.add(ServiceError("AccessDenied"))
        ran = check(world)
        assert ran.code == 1
        assert re.search(r"^    AccessDenied \(denied\): AWS STS answered AccessDenied", ran.out, re.MULTILINE)
        assert re.search(r"^    what to do: let the role's trust policy accept", ran.out, re.MULTILINE)
        assert '"Action": "sts:AssumeRoleWithWebIdentity"' in ran.out
        assert ran.out.endswith("1 ok, 1 failed\n")

    def test_json(self, world: Backend, sandbox: Sandbox) -> None:
        """By the schema, with the invalid one and the static one."""
        world.invalid()
        world.static()
        sandbox.issuer.faults.add(ServiceError("invalid_client"), path="/token")
        ran = check(world, "-o", "json")
        found = document(ran)
        assert (ran.code, found["summary"]) == (1, {"ok": 1, "failed": 3})
        assert found["policies"][0]["advice"] == {
            "awsTrustPolicy": None,
            "awsRoleChain": None,
            "entraFederatedCredential": None,
            "gcpWorkloadIdentity": None,
            "anthropicFederation": None,
            "openaiWorkloadIdentity": None,
            "tokenExchange": None,
            "terraform": None,
        }
        assert step(found, "token")["error"]["reason"] == "InvalidClient"

    def test_terraform(self, world: Backend, sandbox: Sandbox) -> None:
        """What is known, and beside it what is not."""
        sandbox.entra.faults.add(ServiceError("7000229"))
        world.invalid()
        ran = check(world, "-o", "terraform")
        assert ran.code == 1
        assert "default/openai: exchange failed" in ran.err
        assert "default/broken: policy failed" in ran.err
        assert "azuread_application_federated_identity_credential" in pygohcl.loads(ran.out)["resource"]


class TestDirectory:
    """Where the credentials go."""

    def test_without_one(self, world: Backend) -> None:
        """Said, and no failure."""
        ran = run("check", "-f", str(world.manifests), "-o", "json")
        assert ran.code == 0
        assert step(document(ran), "delivery")["result"] == "skipped"

    def test_others_may_write(self, world: Backend) -> None:
        """The same that a publication would say."""
        world.out.mkdir(mode=0o777)
        world.out.chmod(0o777)
        ran = check(world, "-o", "json")
        failed = step(document(ran), "rights")
        assert (ran.code, failed["result"], failed["error"]["reason"]) == (1, "failed", "UnsafePath")
        assert step(document(ran), "exchange")["result"] == "ok"

    def test_a_symlink(self, world: Backend) -> None:
        """In the place of a Secret's directory."""
        (world.out / "default").mkdir(mode=0o700, parents=True)
        world.out.chmod(0o700)
        (world.out / "default" / "ai-eg-bsp-bedrock").symlink_to("/tmp")
        assert step(document(check(world, "-o", "json")), "rights")["error"]["reason"] == "UnsafePath"

    def test_what_lies_there(self, world: Backend) -> None:
        """A credential, until when; one that somebody broke."""
        world.rotate()
        assert "holds a credential until" in step(document(check(world, "-o", "json")), "delivery")["detail"]
        (annotations,) = (world.out / "default" / "ai-eg-bsp-bedrock").glob("..data/..annotations.json")
        annotations.write_text("{}")
        found = document(check(world, "-o", "json"))
        assert "will be replaced" in step(found, "delivery")["detail"]
        assert any("rotators/expiration-time" in warning for warning in found["policies"][0]["warnings"])

    @pytest.mark.parametrize("name", FOREIGN[:3])
    def test_g31_stronger_variables(self, world: Backend, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        """A filter with this environment would not use what is published; only AWS is affected."""
        monkeypatch.setenv(name, "x")
        aws, azure = document(check(world, "-o", "json"))["policies"]
        assert name in aws["warnings"][0]
        assert not azure["warnings"]


def test_through_the_help() -> None:
    """The formats are offered, the one that only check has too."""
    assert "terraform" in run("check", "--help").out
    assert run("status", "-o", "terraform").code == 2
