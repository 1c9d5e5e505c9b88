"""Templates see credentials taken apart, and presets make of them what their consumers read."""

from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import yaml

from credrotator.core.errors import UsageError
from credrotator.core.model import ObjectKey, OidcClient, RotatablePolicy, SecretKeyRef
from credrotator.core.profiles import read_profile
from credrotator.core.published_credential import PublishedCredential, published_credential
from credrotator.core.secretdata import render
from credrotator.core.sensitive import Sensitive
from credrotator.files.template_values import Content
from credrotator.files.templates import Templates
from credrotator.providers.aws.source import AwsCredential, AwsOidc
from credrotator.providers.azure.source import AzureOidc, AzureToken, EntraApp
from credrotator.providers.gcp.source import GcpPool, GcpToken, GcpWorkloadIdentity
from credrotator.providers.presets import preset_names

if TYPE_CHECKING:
    from pathlib import Path

OIDC = OidcClient("https://idp.example", "client", SecretKeyRef(ObjectKey("default", "oidc"), "client-secret", "x"))
ISSUED = datetime(2026, 11, 27, 12, tzinfo=UTC)
EXPIRES = ISSUED + timedelta(hours=1)
KEYS = AwsCredential("ASIAEXAMPLE", Sensitive("se/cr+et="), Sensitive("session=="), "eu-west-1", ISSUED, EXPIRES)
AWS = AwsOidc(OIDC, "arn:aws:iam::123456789012:role/bedrock", "eu-west-1")
AZURE = AzureOidc(OIDC, EntraApp("tenant", "client", "https://login.example", "scope"))
GCP = GcpWorkloadIdentity(OIDC, GcpPool("1", "pool", "provider"), "my-project", "us-east1")
SECRET_OF = {
    "aws": (AWS, KEYS),
    "azure": (AZURE, AzureToken(Sensitive("entra's \"token"), ISSUED, EXPIRES)),
    "gcp": (GCP, GcpToken(Sensitive("google-token"), ISSUED, EXPIRES, None, "my-project", "us-east1")),
}


def published(*names: str) -> Content:
    """What is published where these policies are."""
    secrets: dict[str, dict[str, Sensitive]] = {}
    credentials: list[PublishedCredential] = []
    for name in names:
        source, credential = SECRET_OF[name]
        key, secret = ObjectKey("default", name), ObjectKey("default", f"ai-eg-bsp-{name}")
        policy = RotatablePolicy(key, source, name, "v1", "here", secret)
        document = render(secret, credential, policy.fingerprint)
        taken = published_credential(policy, document)
        assert taken is not None
        secrets[str(secret)], credentials = dict(document.data), [*credentials, taken]
    return Content(secrets, credentials)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory of ours."""
    tmp_path.chmod(0o700)
    return tmp_path


def rendered(directory: Path, text: str, content: Content) -> str:
    """Render one template."""
    (directory / "in").write_text(text)
    return written(directory, f"{directory}/in", content)


def written(directory: Path, source: str, content: Content) -> str:
    """Render what is named."""
    made = Templates((f"{source}:{directory}/out",), lambda: content)
    made.render()
    assert made.failures == {}
    return (directory / "out").read_text()


def refused(directory: Path, source: str, content: Content) -> tuple[str, str]:
    """Return message and hint of what cannot be rendered."""
    made = Templates((f"{source}:{directory}/out",), lambda: content)
    made.render()
    (failure,) = made.failures.values()
    assert failure.reason == "TemplateFailed"
    return failure.message, failure.hint


class TestFields:
    """``credentials``, by the names of policies."""

    @pytest.mark.parametrize(("field", "value"), [
        ("access_key_id", "ASIAEXAMPLE"),
        ("secret_access_key", "se/cr+et="),
        ("session_token", "session=="),
        ("region", "eu-west-1"),
        ("expires_at", "2026-11-27T13:00:00Z"),
        ("issued_at", "2026-11-27T12:00:00Z"),
        ("policy", "default/aws"),
        ("secret", "default/ai-eg-bsp-aws"),
        ("provider", "aws-oidc"),
    ])  # fmt: skip
    def test_of_keys(self, directory: Path, field: str, value: str) -> None:
        """An access key has its parts, and whose it is and how long it lives stands beside them."""
        assert rendered(directory, '{{ credentials["default/aws"].' + field + " }}", published("aws")) == value

    def test_of_tokens(self, directory: Path) -> None:
        """Every other credential is a token, with what the vendor's requests need beside it."""
        text = "{% for c in credentials.values() %}{{ c.token }} {{ c.region | default('-') }}\n{% endfor %}"
        assert rendered(directory, text, published("gcp", "azure")) == "entra's \"token -\ngoogle-token us-east1\n"

    def test_missing_field(self, directory: Path) -> None:
        """A field that is not there is an error that names those that are, and shows no value."""
        (directory / "in").write_text('\n{{ credentials["default/aws"].token }}')
        message, hint = refused(directory, f"{directory}/in", published("aws"))
        assert message.startswith(f"{directory}/in:2: the credential of default/aws has no key token; it has access")
        assert "se/cr+et=" not in message + hint

    def test_missing_policy(self, directory: Path) -> None:
        """So is a policy."""
        (directory / "in").write_text('{{ credentials["default/none"].token }}')
        message, hint = refused(directory, f"{directory}/in", published("aws"))
        assert "there is no credential of policy default/none; there are default/aws" in message
        assert "default/ai-eg-bsp-aws" in hint

    def test_filters(self, directory: Path) -> None:
        """What goes into YAML, JSON, a shell or a Secret is quoted as that wants it."""
        text = (
            '{% set c = credentials["default/azure"] %}{{ c.token | b64encode }}\n{{ c.token | tojson }}\n'
            "{{ c.token | quote }}\n{{ c.token | toyaml }}\n{{ c.environment | toyaml }}\n{{ c.expires_at | unixtime }}"
        )
        lines = rendered(directory, text, published("azure")).split("\n")
        token = "entra's \"token"
        assert lines[0] == "ZW50cmEncyAidG9rZW4="
        assert json.loads(lines[1]) == token
        assert shlex.split(lines[2]) == [token]
        assert yaml.safe_load(lines[3]) == token
        assert yaml.safe_load(lines[4]) == {"AZURE_OPENAI_AD_TOKEN": token}
        assert int(lines[5]) == EXPIRES.timestamp()

    def test_unusable_secret(self) -> None:
        """A Secret that holds no credential of its policy is taken apart by nobody."""
        policy = RotatablePolicy(ObjectKey("a", "b"), AWS, "u", "v1", "here", ObjectKey("a", "s"))
        document = render(policy.secret, KEYS, policy.fingerprint)
        assert published_credential(policy, None) is None
        assert published_credential(policy, replace(document, data={"credentials": Sensitive("[default]\n")})) is None
        assert published_credential(policy, replace(document, annotations={})) is None


class TestPresets:
    """``preset:NAME``."""

    def test_all_render(self, directory: Path) -> None:
        """Each preset renders for a credential of the kind that it is for."""
        kinds = {"credential-process": "aws", "envoy-aws": "aws"}
        for name in preset_names():
            assert written(directory, f"preset:{name}", published(kinds.get(name, "azure")))

    def test_envoy_sds(self, directory: Path) -> None:
        """Generic secrets for each token; those that are none are left out, and none at all is a list, too."""
        text = yaml.safe_load(written(directory, "preset:envoy-sds", published("aws", "azure", "gcp")))
        assert [(each["name"], each["generic_secret"]["secret"]["inline_string"]) for each in text["resources"]] == [
            ("default/azure", "entra's \"token"),
            ("default/gcp", "google-token"),
        ]
        assert yaml.safe_load(written(directory, "preset:envoy-sds", published("aws"))) == {"resources": []}

    def test_envoy_aws(self, directory: Path) -> None:
        """A profile by the policy's name, and the only one as default."""
        text = written(directory, "preset:envoy-aws", published("aws", "azure"))
        assert read_profile(text, "default") == read_profile(text, "default/aws")
        assert (read_profile(text, "default") or {})["aws_session_token"] == "session=="

    def test_credential_process(self, directory: Path) -> None:
        """The document of AWS's credential_process."""
        assert json.loads(written(directory, "preset:credential-process", published("aws", "gcp"))) == {
            "Version": 1,
            "AccessKeyId": "ASIAEXAMPLE",
            "SecretAccessKey": "se/cr+et=",
            "SessionToken": "session==",
            "Expiration": "2026-11-27T13:00:00Z",
        }

    @pytest.mark.parametrize("name", ["aws", "azure", "gcp"])
    def test_env(self, directory: Path, name: str) -> None:
        """A shell that reads the file has each variable, whatever is in it."""
        content = published(name)
        written(directory, "preset:env", content)
        (credential,) = content.credentials
        shown = subprocess.run(
            ["sh", "-c", f'set -a; . "{directory}/out"; env -0'], env={}, capture_output=True, check=True
        )
        variables = dict(line.split("=", 1) for line in shown.stdout.decode().split("\0") if line)
        assert {name: value.reveal() for name, value in credential.environment.items()}.items() <= variables.items()

    def test_kubernetes_secret(self, directory: Path) -> None:
        """Manifests of the Secrets, with all their keys."""
        text = written(directory, "preset:kubernetes-secret", published("aws", "gcp"))
        aws, gcp = yaml.safe_load_all(text)
        assert aws["metadata"]["name"] == "ai-eg-bsp-aws"
        assert gcp["data"]["gcpAccessToken"] == "Z29vZ2xlLXRva2Vu"

    def test_anthropic_profile(self, directory: Path) -> None:
        """The SDK's file, with the expiry in seconds."""
        found = json.loads(written(directory, "preset:anthropic-profile", published("azure")))
        assert found == {"type": "oauth_token", "access_token": "entra's \"token", "expires_at": EXPIRES.timestamp()}

    def test_litellm(self, directory: Path) -> None:
        """Credentials by the names of policies, with the parameters of each provider."""
        found = yaml.safe_load(written(directory, "preset:litellm", published("aws", "azure")))["credential_list"]
        by_name = {each["credential_name"]: each["credential_values"] for each in found}
        assert by_name["default/aws"]["aws_region_name"] == "eu-west-1"
        assert by_name["default/azure"] == {"azure_ad_token": "entra's \"token"}

    def test_one_of_several(self, directory: Path) -> None:
        """What is for one credential says so where there are several, and takes the one that is chosen."""
        message, hint = refused(directory, "preset:env", published("aws", "gcp"))
        assert "preset:env:" in message
        assert "it is for one credential, and there are: default/aws, default/gcp" in message
        assert hint == "choose one policy, for a preset as in preset:NAME@default/aws:DST"
        text = written(directory, "preset:env@default/gcp", published("aws", "gcp"))
        assert "CLOUDSDK_AUTH_ACCESS_TOKEN=google-token" in text
        assert text == written(directory, "preset:env@gcp", published("aws", "gcp"))

    def test_not_published_yet(self, directory: Path) -> None:
        """One that is still to be published counts: what is published first is not taken for the only one."""
        awaited = {ObjectKey("default", "gcp"): {"token"}}
        content = published("aws")._replace(awaited=awaited)
        assert "there are: default/aws, default/gcp" in refused(directory, "preset:env", content)[0]
        assert written(directory, "preset:credential-process", content)
        assert "default/gcp has no credential yet" in refused(directory, "preset:env@gcp", content)[0]

    def test_unknown(self, directory: Path) -> None:
        """A preset that is not there is refused with those that are, before anything is rotated."""
        with pytest.raises(UsageError, match="no preset envoi; there are anthropic-profile, credential-process, env"):
            Templates((f"preset:envoi:{directory}/out",), lambda: Content({}))


class TestMode:
    """``SRC:DST:MODE:GROUP``."""

    def test_mode_and_group(self, directory: Path) -> None:
        """The file has the mode and the group that are named, and is put right where it has others."""
        (directory / "in").write_text("x")
        made = Templates((f"{directory}/in:{directory}/out:0640:{os.getgid()}",), lambda: Content({}))
        for _ in range(2):
            made.render()
            status = (directory / "out").stat()
            assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o640, os.getgid())
            (directory / "out").chmod(0o600)
        assert made.failures == {}

    @pytest.mark.parametrize(("tail", "why"), [
        ("0644", "not for a credential"),
        ("0666", "not for a credential"),
        ("0750", "not for a credential"),
        ("0060", "not for a credential"),
        ("9", "not one such as 0640"),
        ("0640:no-such-group-here", "there is no such group"),
    ])  # fmt: skip
    def test_refused(self, directory: Path, tail: str, why: str) -> None:
        """Nobody but owner and group is let in, and what is no mode or group is named."""
        (directory / "in").write_text("x")
        with pytest.raises(UsageError, match=why):
            Templates((f"{directory}/in:{directory}/out:{tail}",), lambda: Content({}))

    def test_colon_in_the_name(self, directory: Path) -> None:
        """A file's name may have a colon, as long as no number follows it."""
        (directory / "in").write_text("x")
        made = Templates((f"{directory}/in:{directory}/a:b",), lambda: Content({}))
        made.render()
        assert (directory / "a:b").read_text() == "x"


def test_no_part_is_shown() -> None:
    """I9: a credential that is taken apart shows none of its parts."""
    (taken,) = published("aws").credentials
    assert isinstance(taken, PublishedCredential)
    assert "se/cr+et=" not in repr(taken)
