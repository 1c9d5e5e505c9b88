"""``credrotator rotate`` against the sandbox: what it does, what it prints, and how it ends."""

from __future__ import annotations

import configparser
import json
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from credrotator.sandbox import DEFAULT_ACCOUNT, DEFAULT_CLIENT, DEFAULT_ROLE, Refuse, ServiceError
from tests.support.command_line import Backend, asked, policy, run, run_outside

if TYPE_CHECKING:
    from pathlib import Path

    from credrotator.sandbox import Sandbox


class TestPass:
    """From manifests to credentials."""

    def test_every_provider(self, world: Backend) -> None:
        """AWS and both ways to Azure get the gateway's bytes; static policies are checked and left alone."""
        world.aws()
        world.azure()
        world.azure_secret()
        world.static()
        ran = world.rotate("-o", "json")
        assert (ran.code, ran.err) == (0, "")
        assert list(ran.actions.items()) == [
            ("default/bedrock", "rotated"),
            ("default/openai", "rotated"),
            ("default/openai-secret", "rotated"),
            ("default/static", "skipped"),
        ]
        profile = configparser.RawConfigParser()
        profile.read_string(world.value())
        assert set(profile["default"]) == {"aws_access_key_id", "aws_secret_access_key", "aws_session_token", "region"}
        assert world.value("openai", "azureAccessToken").count(".") == 2

    def test_google_cloud(self, world: Backend, sandbox: Sandbox) -> None:
        """Both ways to Google Cloud get the gateway's keys; a second pass keeps them, and convert leaves them alone."""
        world.gcp()
        world.gcp_key(sandbox)
        ran = world.rotate("-o", "json")
        assert (ran.code, ran.err) == (0, "")
        assert {result["provider"] for result in ran.document["results"]} == {
            "gcp-workload-identity",
            "gcp-service-account",
        }
        for name in ("vertex", "vertex-key"):
            assert sandbox.google.grants[world.value(name, "gcpAccessToken")].principal == DEFAULT_ACCOUNT
        assert (world.value("vertex", "projectName"), world.value("vertex", "region")) == (
            "sandbox-project",
            "us-central1",
        )
        assert not (world.out / "default" / "ai-eg-bsp-vertex-key" / "region").exists()
        requests = asked(sandbox)
        assert set(world.rotate("-o", "json").actions.values()) == {"kept"}
        assert asked(sandbox) == requests
        converted = run("convert", "-f", str(world.manifests))
        assert (converted.code, converted.out) == (0, "")
        assert "note: default/vertex is left out: gcp-workload-identity has no managed form" in converted.err

    def test_a_token_file(self, world: Backend, sandbox: Sandbox) -> None:
        """G27: a token that somebody keeps fresh in a file, named by its name; no client secret, no issuer asked."""
        (world.manifests / "secrets.yaml").unlink()
        path = world.directory / "token"
        path.write_text(sandbox.issuer.issue(DEFAULT_CLIENT, audience="sts.amazonaws.com"))
        block = {"region": "us-east-1", "oidcExchangeToken": {"awsRoleArn": DEFAULT_ROLE, "aud": "sts.amazonaws.com"}}
        carrier = {"region": "us-east-1", "credentialsFile": {"secretRef": {"name": "published"}}}
        manifest = policy("bedrock", "default", "AWSCredentials", awsCredentials=carrier)
        notes = {"credrotator.io/aws-credentials": json.dumps(block), "credrotator.io/token-source": "pod"}
        manifest["metadata"]["annotations"] = notes
        world.write("bedrock", manifest)
        before = sandbox.issuer.requests.total
        ran = world.rotate("-o", "json", "--token-file", f"pod={path}")
        assert (ran.code, ran.actions) == (0, {"default/bedrock": "rotated"})
        assert sandbox.issuer.requests.total == before
        assert (world.out / "default" / "published" / "credentials").is_file()
        refused = world.rotate("-o", "json", "--force", "--token-file", f"team-b/pod={path}")
        assert refused.result("default/bedrock")["error"]["reason"] == "TokenSourceNotAllowed"

    def test_second_pass(self, world: Backend, sandbox: Sandbox) -> None:
        """I4: a second pass over fresh credentials keeps them and asks nobody."""
        world.aws()
        world.azure()
        first = world.rotate("-o", "json")
        before, requests = world.value(), asked(sandbox)
        again = world.rotate("-o", "json")
        assert (again.code, set(again.actions.values())) == (0, {"kept"})
        assert again.result("default/bedrock")["expiresAt"] == first.result("default/bedrock")["expiresAt"]
        assert (world.value(), asked(sandbox)) == (before, requests)

    def test_bad_ones_stop_nobody(self, world: Backend) -> None:
        """Invalid, denied and secretless policies fail by themselves; the others are rotated; the exit code is 1."""
        world.aws("good")
        world.aws("denied", role="arn:aws:iam::123456789012:role/another")
        world.aws("elsewhere", "no-secret-here")
        world.invalid()
        ran = world.rotate("-o", "json")
        assert ran.code == 1
        assert ran.actions == {
            "default/broken": "failed",
            "default/denied": "failed",
            "default/good": "rotated",
            "no-secret-here/elsewhere": "failed",
        }
        kinds = {result["policy"]: (result["error"] or {}).get("kind") for result in ran.document["results"]}
        assert kinds == {
            "default/broken": "policy",
            "default/denied": "denied",
            "default/good": None,
            "no-secret-here/elsewhere": "policy",
        }
        assert ran.document["summary"] == {"rotated": 1, "kept": 0, "skipped": 0, "failed": 3}

    def test_broken_manifest(self, world: Backend) -> None:
        """A document that cannot be read is a warning with file and line; the rest is rotated; the exit code is 1."""
        world.aws()
        (world.manifests / "x.yaml").write_text("a: [\n")
        ran = world.rotate("-o", "json")
        assert (ran.code, ran.actions) == (1, {"default/bedrock": "rotated"})
        assert f"warning: {world.manifests / 'x.yaml'}:" in ran.err

    def test_vendor_down(self, world: Backend, sandbox: Sandbox) -> None:
        """I2: while the vendor is down the old credential stays, and the report says until when it is good."""
        world.aws()
        world.rotate()
        before = world.value()
        with sandbox.sts.faults.add(Refuse()):
            ran = world.rotate("--force", "-o", "json")
        assert ran.code == 1
        result = ran.result("default/bedrock")
        assert (result["action"], result["reason"], result["error"]["kind"]) == ("failed", "Forced", "transient")
        assert result["expiresAt"]
        assert world.value() == before

    def test_edited_policy(self, world: Backend) -> None:
        """G15: a policy that changes its type gets the new key at once, and the old one goes."""
        world.aws("it")
        world.rotate()
        world.azure("it")
        ran = world.rotate("-o", "json")
        assert ran.result("default/it")["action"] == "rotated"
        place = world.out / "default" / "ai-eg-bsp-it"
        assert [path.name for path in place.iterdir() if not path.name.startswith("..")] == ["azureAccessToken"]

    def test_stdin(self, world: Backend) -> None:
        """``-f -`` reads what kubectl prints: a List, from standard input."""
        world.aws()
        items = [item for path in world.manifests.iterdir() for item in yaml.safe_load_all(path.read_text())]
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        ran = run("rotate", "-f", "-", "--out", str(world.out), "-o", "json", stdin=text)
        assert (ran.code, ran.actions) == (0, {"default/bedrock": "rotated"})

    def test_two_at_once(self, world: Backend) -> None:
        """Two processes that force everything at once both succeed; a third keeps all; the template shows the last."""
        source, target = world.directory / "in", world.directory / "rendered"
        source.write_text("{% for name in secrets | sort %}{{ secrets[name].credentials }}{% endfor %}")
        for number in range(6):
            world.aws(f"p{number}")
        command = world.command("--force", "-o", "json", "--template", f"{source}:{target}")
        both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in "ab"]
        for process in both:
            out, err = process.communicate(timeout=60)
            assert (process.returncode, err) == (0, ""), out
        assert target.read_text() == "".join(world.value(f"p{number}") for number in range(6))
        third = world.rotate("-o", "json")
        assert (third.code, set(third.actions.values())) == (0, {"kept"})


class TestChoosing:
    """Which policies, and what for."""

    @pytest.fixture(autouse=True)
    def _three(self, world: Backend) -> None:
        world.aws("one")
        world.aws("two")
        world.invalid("three")

    @pytest.mark.parametrize(("arguments", "policies"), [
        (["default/one"], ["default/one"]),
        (["one", "default/two", "one"], ["default/one", "default/two"]),
        (["-n", "default", "two"], ["default/two"]),
        (["-n", "default"], ["default/one", "default/three", "default/two"]),
        ([], ["default/one", "default/three", "default/two"]),
    ])  # fmt: skip
    def test_names(self, world: Backend, arguments: list[str], policies: list[str]) -> None:
        """Names choose; without a namespace they mean that of ``-n``, or ``default``; each once, in order."""
        ran = world.rotate("--dry-run", "-o", "json", *arguments)
        assert [result["policy"] for result in ran.document["results"]] == policies

    def test_typing_error(self, world: Backend) -> None:
        """A name that is not there is wrong use, with the one that was probably meant."""
        ran = world.rotate("default/oen")
        assert (ran.code, ran.out) == (2, "")
        assert ran.err == "Error: there is no policy default/oen; did you mean default/one?\n"

    def test_empty_namespace(self, world: Backend) -> None:
        """A namespace without policies is wrong use, and named."""
        ran = world.rotate("-n", "prod")
        assert ran.code == 2
        assert "no BackendSecurityPolicy in namespace prod" in ran.err

    def test_dry_run(self, world: Backend, sandbox: Sandbox) -> None:
        """A dry run says what would be done, asks nobody and writes nothing at all."""
        requests = asked(sandbox)
        ran = world.rotate("--dry-run", "one")
        assert ran.code == 0
        assert "rotated (dry run)" in ran.out
        assert not world.out.exists()
        assert asked(sandbox) == requests

    def test_force(self, world: Backend) -> None:
        """``--force`` rotates what is fresh."""
        world.rotate("one")
        before = world.value("one")
        result = world.rotate("--force", "one", "-o", "json").result("default/one")
        assert (result["action"], result["reason"]) == ("rotated", "Forced")
        assert world.value("one") != before

    def test_within(self, world: Backend) -> None:
        """``--within`` also rotates what would be due by then."""
        world.rotate("one")
        assert world.rotate("--within", "30m", "one", "-o", "json").actions == {"default/one": "kept"}
        ran = world.rotate("--within", "50m", "one", "-o", "json")
        assert ran.code == 0
        assert ran.result("default/one")["action"] in {"rotated", "kept"}
        assert ran.result("default/one")["reason"] in {"Expiring", "NotBetter"}


class TestPrinting:
    """The four forms."""

    def test_table(self, world: Backend) -> None:
        """A table for people, failures explained below with what to do, and the count."""
        world.aws()
        world.invalid()
        ran = world.rotate()
        header, *rows = ran.out.split("\n\n")[0].splitlines()
        assert header.split() == ["POLICY", "PROVIDER", "ACTION", "REASON", "EXPIRES", "IN", "RENEWS", "IN"]
        assert [row.split()[:3] for row in rows] == [
            ["default/bedrock", "aws-oidc", "rotated"],
            ["default/broken", "aws-default-chain", "failed"],
        ] or rows[1].split()[0] == "default/broken"
        assert "default/broken: InvalidPolicy (policy): " in ran.out
        assert "  what to do: correct the policy in " in ran.out
        assert ran.out.endswith("1 rotated, 0 kept, 0 skipped, 1 failed\n")

    def test_wide(self, world: Backend) -> None:
        """Wide says into which Secret."""
        world.aws()
        assert "default/ai-eg-bsp-bedrock" in world.rotate("-o", "wide").out

    def test_yaml(self, world: Backend) -> None:
        """YAML holds the same document as JSON."""
        world.aws()
        world.rotate()
        assert yaml.safe_load(world.rotate("-o", "yaml").out) == world.rotate("-o", "json").document


class TestTemplates:
    """``--template``."""

    def test_rendered(self, world: Backend) -> None:
        """The file holds rotated and static credentials; a second pass leaves it alone; a missing file comes back."""
        world.aws()
        world.static(key="sk-123")
        source, target = world.directory / "in", world.directory / "rendered"
        source.write_text(
            '{{ secrets["default/ai-eg-bsp-bedrock"].credentials }}{{ secrets["default/static-key"].apiKey }}'
        )
        arguments = ["--template", f"{source}:{target}"]
        assert world.rotate(*arguments).code == 0
        assert target.read_text() == world.value() + "sk-123"
        before = target.stat()
        assert world.rotate(*arguments).code == 0
        assert target.stat().st_mtime_ns == before.st_mtime_ns
        target.unlink()
        assert world.rotate(*arguments).code == 0
        assert target.exists()

    def test_missing_secret(self, world: Backend) -> None:
        """A template that names a Secret which is not there fails the pass, after the credentials were published."""
        world.aws()
        source, target = world.directory / "in", world.directory / "rendered"
        source.write_text('{{ secrets["default/nobody"].x }}')
        target.write_text("old")
        ran = world.rotate("--template", f"{source}:{target}", "-o", "json")
        assert (ran.code, ran.actions) == (1, {"default/bedrock": "rotated"})
        assert f"template: TemplateFailed: {source}:1: there is no Secret default/nobody\n  what to do: " in ran.err
        assert target.read_text() == "old"

    def test_dry_run(self, world: Backend) -> None:
        """A dry run renders nothing."""
        world.aws()
        source, target = world.directory / "in", world.directory / "rendered"
        source.write_text("x")
        assert world.rotate("--dry-run", "--template", f"{source}:{target}").code == 0
        assert not target.exists()


class TestWrongUse:
    """Exit code 2: one clear line on standard error, nothing on standard output, nobody asked, nothing written."""

    @pytest.mark.parametrize(("arguments", "message"), [
        (["--nonsense"], "No such option"),
        (["--within", "5"], "expected a duration such as 30m"),
        (["--workers", "0"], "--workers"),
        (["-o", "xml"], "'xml'"),
        (["-f", "not-there.yaml"], "cannot read not-there.yaml: No such file"),
        (["--ca-file", "not-there.pem"], "no such file"),
        (["--config", "not-there.yaml"], "cannot read not-there.yaml"),
        (["--allowed-issuer", "idp.example"], "expected a URL"),
        (["--template", "x"], "expected SRC:DST"),
        (["--template", "not-there:out"], "cannot read template not-there"),
        (["a/b/c"], "there is no policy a/b/c"),
    ])  # fmt: skip
    def test_refused(
        self, world: Backend, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
    ) -> None:
        """Whatever is wrong with the command line."""
        monkeypatch.chdir(world.directory)
        world.aws()
        requests = asked(sandbox)
        ran = world.rotate(*arguments)
        assert (ran.code, ran.out) == (2, "")
        assert message in ran.err
        assert "Traceback" not in ran.err
        assert asked(sandbox) == requests
        assert not world.out.exists()

    def test_no_directory(self, world: Backend) -> None:
        """Manifests need a directory to publish to."""
        world.aws()
        ran = run("rotate", "-f", str(world.manifests))
        assert (ran.code, ran.out) == (2, "")
        assert "--out" in ran.err

    def test_bad_authority(self, world: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
        """A variable of a vendor that cannot be meant is wrong use, too."""
        world.aws()
        monkeypatch.setenv("AZURE_AUTHORITY_HOST", "http://[")
        ran = world.rotate()
        assert ran.code == 2
        assert "AZURE_AUTHORITY_HOST" in ran.err


class TestPrecedence:
    """Flags, variables and the config file, through the real command."""

    def test_sources(self, world: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
        """What a variable says about the directory wins over the file; what a flag says wins over both."""
        world.aws()
        places = {name: world.directory / name for name in ("file", "variable", "flag")}
        config = world.directory / "config.yaml"
        config.write_text(f"filename: {world.manifests}\nout: {places['file']}\n")
        assert run("rotate", "--config", str(config)).code == 0
        assert places["file"].exists()
        monkeypatch.setenv("CREDROTATOR_OUT", str(places["variable"]))
        assert run("rotate", "--config", str(config)).code == 0
        assert places["variable"].exists()
        assert run("rotate", "--config", str(config), "--out", str(places["flag"])).code == 0
        assert places["flag"].exists()


class TestSecrecy:
    """I9: no secret in any output."""

    def test_canaries(self, world: Backend, sandbox: Sandbox) -> None:
        """Neither client secrets nor tokens nor keys are in what the commands print, at -vv, well or failing."""
        world.aws()
        world.azure()
        world.azure_secret()
        world.gcp()
        world.gcp_key(sandbox)
        source, target = world.directory / "in", world.directory / "rendered"
        source.write_text('{{ secrets["default/ai-eg-bsp-bedrock"].credentials.nothing }}')
        outputs = [world.loudly("rotate", "--template", f"{source}:{target}", "-o", form) for form in ("wide", "json")]
        with sandbox.sts.faults.add(ServiceError("AccessDenied")), sandbox.entra.faults.add(Refuse()):
            outputs.append(world.loudly("rotate", "--force"))
        outputs += [world.loudly(command) for command in ("status", "check")]
        canaries = world.secrets(sandbox)
        assert len(canaries) > 16
        text = "".join(ran.out + ran.err for ran in outputs)
        text += "".join(path.read_text() for path in (world.out / ".credrotator").rglob("*.json"))
        assert "published default/ai-eg-bsp-bedrock" in text
        for name, canary in canaries.items():
            assert canary not in text, name


def test_machine_settings(world: Backend, tmp_path: Path) -> None:
    """A machine with a CA bundle, proxies and AWS settings of its own rotates against the sandbox all the same."""
    import certifi  # noqa: PLC0415 - what such a machine's bundle looks like

    world.aws()
    world.azure()
    ran = run_outside(
        world.command("-o", "json"),
        REQUESTS_CA_BUNDLE=certifi.where(),
        AWS_CA_BUNDLE=certifi.where(),
        HTTPS_PROXY="http://127.0.0.1:1",
        HTTP_PROXY="http://127.0.0.1:1",
        AWS_REGION="xx-nowhere-1",
        AWS_ACCESS_KEY_ID="AKIAFOREIGN",
        AWS_SECRET_ACCESS_KEY="foreign",
    )
    assert (ran.code, ran.err) == (0, ""), ran.out
    assert set(ran.actions.values()) == {"rotated"}
    assert "AKIAFOREIGN" not in world.value()
