"""``credrotator credential-process``: the vendors' own clients take what it prints, and follow it over time."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
import google.auth.pluggable
import pytest
from azure.identity import AzureCliCredential

from credrotator.sandbox import DEFAULT_POOL, ServiceError
from tests.cli.asking import arguments, let_it_be_due
from tests.support.command_line import PROGRAM, Backend, Ran, run, run_outside, secret

if TYPE_CHECKING:
    from credrotator.sandbox import Sandbox


def ask(world: Backend, policy: str = "default/bedrock", *more: str) -> Ran:
    """Run the command in this process."""
    return run(*arguments(world, policy, *more))


def exchanges(sandbox: Sandbox) -> int:
    """Count the credentials that STS was asked for."""
    return sum(request.form.get("Action") == "AssumeRoleWithWebIdentity" for request in sandbox.sts.requests)


class TestAws:
    """AWS's document."""

    def test_published_and_kept(self, world: Backend, sandbox: Sandbox) -> None:
        """The first call gets a credential, the next ones print it again; standard output has nothing else."""
        world.aws()
        before = exchanges(sandbox)
        first, second = ask(world), ask(world)
        assert (first.code, second.code, first.err) == (0, 0, "")
        document = json.loads(first.out)
        assert document == json.loads(second.out)
        assert document["Version"] == 1
        assert document["AccessKeyId"] in world.value()
        assert datetime.fromisoformat(document["Expiration"]) > datetime.now(UTC) + timedelta(minutes=58)
        assert exchanges(sandbox) == before + 1

    @pytest.mark.slow
    def test_boto3_follows(
        self, world: Backend, sandbox: Sandbox, short_lives: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One process with boto3 signs with the first credential, then with what a rotation published, then renews."""
        world.aws()
        config = world.directory / "config"
        config.write_text(f"[default]\ncredential_process = {shlex.join([*PROGRAM, *arguments(world)])}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(world.directory / "none"))
        session = boto3.Session()
        caller = session.client("sts", region_name="us-east-1", verify=str(sandbox.ca_file))

        def key() -> str:
            assert caller.get_caller_identity()["Account"] == "123456789012"
            credentials = session.get_credentials()
            assert credentials is not None
            return str(credentials.get_frozen_credentials().access_key)

        first = key()
        assert world.rotate("--force").code == 0
        second = key()
        let_it_be_due(world)
        before = exchanges(sandbox)
        third = key()
        assert len({first, second, third}) == 3
        assert third in world.value()
        assert exchanges(sandbox) == before + 1

    def test_many_at_once(self, world: Backend, sandbox: Sandbox) -> None:
        """Processes that start together agree on one credential, which was asked for once."""
        world.aws()
        before = exchanges(sandbox)
        started = [subprocess.Popen([*PROGRAM, *arguments(world)], stdout=subprocess.PIPE, text=True) for _ in range(3)]
        printed = [json.loads(process.communicate()[0])["AccessKeyId"] for process in started]
        assert len(set(printed)) == 1
        assert exchanges(sandbox) == before + 1


class TestFailures:
    """What is printed when something is wrong."""

    def test_still_good(self, world: Backend, sandbox: Sandbox) -> None:
        """A credential that cannot be renewed and is valid is printed, and standard error says why it is not newer."""
        world.aws()
        first = ask(world)
        let_it_be_due(world)
        sandbox.sts.faults.add(ServiceError("AccessDenied"))
        ran = ask(world)
        assert (ran.code, json.loads(ran.out)) == (0, json.loads(first.out))
        assert "warning: default/bedrock could not be renewed, and is valid until" in ran.err
        assert "what to do:" in ran.err

    def test_of_another_role(self, world: Backend, sandbox: Sandbox) -> None:
        """After an edit the credential of before is not given out, whatever becomes of the new one."""
        world.aws()
        assert ask(world).code == 0
        world.aws(role="arn:aws:iam::123456789012:role/nobodys")
        ran = ask(world)
        assert (ran.code, ran.out) == (1, "")

    def test_none(self, world: Backend, sandbox: Sandbox) -> None:
        """Without any credential nothing is printed, and the exit code tells."""
        world.aws()
        sandbox.sts.faults.add(ServiceError("AccessDenied"))
        ran = ask(world)
        assert (ran.code, ran.out) == (1, "")
        assert ran.err.startswith("default/bedrock: ")
        assert "what to do:" in ran.err

    def test_static(self, world: Backend) -> None:
        """A policy without rotation has nothing that could be printed."""
        world.static()
        ran = ask(world, "default/static")
        assert (ran.code, ran.out) == (1, "")
        assert "NothingToRotate" in ran.err

    def test_invalid(self, world: Backend) -> None:
        """A policy that cannot work says why."""
        world.invalid()
        ran = ask(world, "default/broken")
        assert (ran.code, ran.out) == (1, "")
        assert "InvalidPolicy" in ran.err

    def test_wrong_format(self, world: Backend) -> None:
        """A format that needs what the credential has not says what it has."""
        world.azure()
        ran = ask(world, "default/openai")
        assert (ran.code, ran.out) == (1, "")
        assert "the credential has no access_key_id, which the format aws needs; it has token" in ran.err

    @pytest.mark.parametrize("wrong", [["default/nobody"], ["default/bedrock", "--format", "none"], []])
    def test_wrong_use(self, world: Backend, wrong: list[str]) -> None:
        """No such policy, no such format, no policy named."""
        world.aws()
        ran = run("credential-process", "-f", str(world.manifests), "--out", str(world.out), *wrong)
        assert (ran.code, ran.out) == (2, "")

    def test_output_is_lost(self, world: Backend) -> None:
        """Who could not read the document must not take the call for a success."""
        world.aws()
        with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
            ended = subprocess.run([*PROGRAM, *arguments(world)], stdout=full, stderr=subprocess.PIPE, check=False)
        assert ended.returncode == 1


class TestOtherFormats:
    """What other vendors' clients, and shells, take."""

    def test_azure_cli(self, world: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
        """Azure's SDK takes the document where it would ask the CLI."""
        world.azure()
        shim = world.directory / "bin" / "az"
        shim.parent.mkdir()
        shim.write_text(
            f"#!/bin/sh\nexec {shlex.join([*PROGRAM, *arguments(world, 'default/openai')])} --format azure\n"
        )
        shim.chmod(0o755)
        monkeypatch.setenv("PATH", f"{shim.parent}{os.pathsep}{os.environ['PATH']}")
        token = AzureCliCredential(process_timeout=60).get_token("https://cognitiveservices.azure.com/.default")
        assert token.token == world.value("openai", "azureAccessToken")
        assert token.expires_on > datetime.now(UTC).timestamp() + 60

    def test_google_executable(self, world: Backend, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
        """Google's SDK takes the issuer's token, which its own exchange accepts."""
        world.gcp()
        world.write("note", {**secret("unused", "x"), "kind": "Secrett"})
        monkeypatch.setenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")
        command = shlex.join([*PROGRAM, *arguments(world, "default/vertex", "--format", "gcp-executable")])
        info: dict[str, Any] = {
            "type": "external_account",
            "audience": DEFAULT_POOL,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": "https://sts.googleapis.com/v1/token",
            "credential_source": {"executable": {"command": command, "timeout_millis": 60_000}},
        }
        credentials: Any = google.auth.pluggable.Credentials.from_info(info)
        token = credentials.retrieve_subject_token(None)
        assert token.count(".") == 2
        assert not world.holds("vertex", "gcpAccessToken")

    def test_shell(self, world: Backend) -> None:
        """A shell that evaluates the lines has the variables."""
        world.aws()
        script = f'eval "$({shlex.join([*PROGRAM, *arguments(world, "default/bedrock", "--format", "env")])})"; env'
        ran = run_outside(["sh", "-c", script])
        assert f"AWS_ACCESS_KEY_ID={json.loads(ask(world).out)['AccessKeyId']}\n" in ran.out
        assert "AWS_REGION=us-east-1\n" in ran.out

    @pytest.mark.parametrize(("policy", "key"), [("openai", "azureAccessToken"), ("vertex", "gcpAccessToken")])
    def test_bearer(self, world: Backend, policy: str, key: str) -> None:
        """The token, and nothing else."""
        world.azure()
        world.gcp()
        assert ask(world, f"default/{policy}", "--format", "bearer").out == world.value(policy, key) + "\n"
