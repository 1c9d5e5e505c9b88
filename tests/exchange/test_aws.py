"""AssumeRoleWithWebIdentity on the wire, errors by code, what is taken for a credential (reliability.md 16-21, 44)."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credrotator.core.errors import PolicyError, RotationError, Transient
from credrotator.core.model import ObjectKey, OidcClient, SubjectToken
from credrotator.core.sensitive import Sensitive
from credrotator.exchange.http.transport import Transport
from credrotator.exchange.vendors import VendorContext
from credrotator.providers.aws.source import AwsOidc
from credrotator.providers.aws.sts import STS, Sts
from credrotator.providers.aws.sts_answers import session_name
from credrotator.sandbox import DEFAULT_ROLE, ServiceError
from tests.support.exchanging import Backend, FrozenClock, check_showable, key_ref, refused

if TYPE_CHECKING:
    from pathlib import Path

    import requests


def test_the_request(world: Backend) -> None:
    """One unsigned POST with role, token and session name; no duration where the policy sets none."""
    credential = world.exchange_aws()
    (request,) = world.sandbox.sts.requests
    assert set(request.form) == {"Action", "Version", "RoleArn", "RoleSessionName", "WebIdentityToken"}
    assert request.form["Action"] == "AssumeRoleWithWebIdentity"
    assert request.form["RoleArn"] == DEFAULT_ROLE
    assert request.form["RoleSessionName"] == "ai-gateway-bedrock"
    assert "Authorization" not in request.headers
    assert "X-Amz-Security-Token" not in request.headers
    assert credential.region == "eu-central-1"
    assert credential.request_id


def test_g24_the_duration(world: Backend) -> None:
    """G24: DurationSeconds is sent where the policy sets it, in whole seconds, and the expiry is AWS's own."""
    credential = world.exchange_aws(duration=timedelta(minutes=20))
    assert world.sandbox.sts.requests[0].form["DurationSeconds"] == "1200"
    life = credential.expires_at - credential.issued_at
    # Issue is counted from before the call, so the call's own time comes on top.
    assert timedelta(minutes=19, seconds=50) < life < timedelta(minutes=20, seconds=10)


def test_the_expiry_is_awss_own(world: Backend) -> None:
    """The credential lives as long as STS says, to the second, whatever was asked."""
    world.sandbox.sts.roles[DEFAULT_ROLE].forced_life = timedelta(seconds=77)
    credential = world.exchange_aws(duration=timedelta(minutes=20))
    (session,) = world.sandbox.sts.sessions.values()
    assert credential.expires_at == session.expires.replace(microsecond=0)
    assert credential.secret_access_key.reveal() == session.secret_access_key
    assert credential.session_token.reveal() == session.session_token
    assert session.secret_access_key not in repr(credential)


@given(namespace=st.text(max_size=300), name=st.text(max_size=300))
def test_fault_44_session_names(namespace: str, name: str) -> None:
    """Fault 44, G24: any name becomes 2..64 characters that AWS takes, the same each time."""
    found = session_name(ObjectKey(namespace, name))
    assert re.fullmatch(r"[\w+=,.@-]{2,64}", found, re.ASCII)
    assert found == session_name(ObjectKey(namespace, name))


@given(st.sets(st.text("ab./ü", min_size=40, max_size=70), min_size=2, max_size=5))
def test_fault_44_changed_names_stay_apart(names: set[str]) -> None:
    """Fault 44: policies whose names are cut or changed are told apart by a hash."""
    assert len({session_name(ObjectKey("team-a", name)) for name in names}) == len(names)


@pytest.mark.parametrize(("name", "wanted"), [("bedrock", "ai-gateway-bedrock"), ("x" * 53, "ai-gateway-" + "x" * 53)])
def test_short_names_stay_as_they_are(name: str, wanted: str) -> None:
    """The session name leads back to the policy, and is the gateway's own where that fits."""
    assert session_name(ObjectKey("team-a", name)) == wanted


def test_fault_44_arrives(world: Backend) -> None:
    """Fault 44: AWS takes the session name of a policy with 253 characters."""
    policy = ObjectKey("team-a", "long-" * 50 + "end")
    world.exchanger()(policy, world.aws(), world.secrets)
    assert world.sandbox.sts.requests[0].form["RoleSessionName"].startswith("ai-gateway-long-")


class Recorder(Transport):
    """A transport that only writes down where it should have gone."""

    def __init__(self) -> None:
        super().__init__(STS)
        self.urls: list[str] = []

    def request(self, method: str, url: str | bytes, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        self.urls.append(str(url))
        raise Transient("Recorded", "not sent", hint="none")


@pytest.mark.parametrize(
    ("region", "environment", "host"),
    [
        ("eu-central-1", {}, "sts.eu-central-1.amazonaws.com"),
        ("us-east-1", {}, "sts.us-east-1.amazonaws.com"),
        ("ap-southeast-5", {}, "sts.ap-southeast-5.amazonaws.com"),
        ("cn-north-1", {}, "sts.cn-north-1.amazonaws.com.cn"),
        ("us-gov-west-1", {}, "sts.us-gov-west-1.amazonaws.com"),
        ("us-east-1", {"AWS_USE_FIPS_ENDPOINT": "true"}, "sts-fips.us-east-1.amazonaws.com"),
        ("us-gov-west-1", {"AWS_USE_FIPS_ENDPOINT": "true"}, "sts.us-gov-west-1.amazonaws.com"),
        (
            "eu-central-1",
            {"AWS_REGION": "us-west-2", "AWS_DEFAULT_REGION": "us-west-2"},
            "sts.eu-central-1.amazonaws.com",
        ),
        ("eu-central-1", {"AWS_ENDPOINT_URL_STS": "https://sts.corp.example"}, "sts.corp.example"),
        ("eu-central-1", {"AWS_ENDPOINT_URL": "https://aws.corp.example"}, "aws.corp.example"),
    ],
)
def test_endpoints(
    monkeypatch: pytest.MonkeyPatch, frozen: FrozenClock, region: str, environment: dict[str, str], host: str
) -> None:
    """G24: the regional endpoint of the policy's region and partition; FIPS and another STS by AWS's own variables."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    recorder = Recorder()
    with refused(Transient, "Recorded"):
        Sts(VendorContext(lambda _: recorder, frozen, {})).exchange(ObjectKey("a", "b"), source(region), token(frozen))
    assert recorder.urls == [f"https://{host}/"]


def source(region: str = "eu-central-1") -> AwsOidc:
    """Describe an AWS policy without a sandbox."""
    return AwsOidc(OidcClient("https://idp.example", "c", key_ref("oidc")), DEFAULT_ROLE, region)


def token(clock: FrozenClock) -> SubjectToken:
    """Return something that could be a token."""
    return SubjectToken(Sensitive("header.claims.signature"), clock(), {})


AMBIENT = {
    "AWS_ACCESS_KEY_ID": "AKIAAMBIENT",
    "AWS_SECRET_ACCESS_KEY": "ambient",
    "AWS_SESSION_TOKEN": "ambient",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/nonexistent/token",
    "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/ambient",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1/",
    "AWS_RETRY_MODE": "adaptive",
    "AWS_MAX_ATTEMPTS": "9",
    "AWS_DEFAULTS_MODE": "auto",
}


def test_ambient_settings_are_left_alone(world: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own AWS credentials are neither looked up nor sent, and no metadata service is asked."""
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED", raising=False)
    for name, value in AMBIENT.items():
        monkeypatch.setenv(name, value)
    world.exchange_aws()
    (request,) = world.sandbox.sts.requests
    assert "Authorization" not in request.headers
    assert b"ambient" not in request.body.lower()


def test_no_credential_is_looked_up(world: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The SDK's chain of credentials is not walked: what it would run, read or ask is none of ours."""
    config, marker = tmp_path / "aws-config", tmp_path / "marker"
    config.write_text(f"[default]\ncredential_process = touch {marker}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    world.exchange_aws()
    assert not marker.exists()


def test_ambient_retries_are_off(world: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """House rule: retries live in one layer, which is not the SDK, whatever AWS_MAX_ATTEMPTS says."""
    for name, value in AMBIENT.items():
        monkeypatch.setenv(name, value)
    world.sandbox.sts.faults.add(ServiceError("Throttling"))
    for calls in (1, 2):
        # A new one each time, since a gate that was throttled lets nobody through for a second.
        with refused(Transient, "StsThrottled"):
            world.exchange_aws(world.exchanger())
        assert world.sandbox.sts.requests.total == calls


@pytest.mark.parametrize("variable", ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"])
def test_a_profile_that_does_not_exist(world: Backend, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """The call is unsigned: a profile that is misspelt, or somebody else's, has no part in it."""
    monkeypatch.setenv(variable, "nonsense")
    world.exchange_aws()


def test_a_config_file_that_is_none(world: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nor have files in a person's home, however broken, and no home is needed."""
    config = tmp_path / "aws-config"
    config.write_text("[broken\n = =")
    for variable in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(variable, str(config))
    monkeypatch.delenv("HOME", raising=False)
    world.exchange_aws()


def test_no_profile_leads_the_token_elsewhere(
    world: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, frozen: FrozenClock
) -> None:
    """What a profile says of endpoints, regions and FIPS does not count: only the documented variables do."""
    config = tmp_path / "aws-config"
    config.write_text(
        "[profile theirs]\nendpoint_url = https://evil.example\nregion = us-west-2\nuse_fips_endpoint = true\n"
        "services = s\nsts_regional_endpoints = legacy\n[services s]\nsts =\n  endpoint_url = https://evil.example\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "theirs")
    monkeypatch.delenv("AWS_ENDPOINT_URL_STS")
    for variable, value in IGNORED.items():
        monkeypatch.setenv(variable, value)
    recorder = Recorder()
    with refused(Transient, "Recorded"):
        Sts(VendorContext(lambda _: recorder, frozen, {})).exchange(ObjectKey("a", "b"), source(), token(frozen))
    assert recorder.urls == ["https://sts.eu-central-1.amazonaws.com/"]


IGNORED = {
    "AWS_STS_REGIONAL_ENDPOINTS": "legacy",
    "AWS_USE_DUALSTACK_ENDPOINT": "true",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
    "AWS_ACCOUNT_ID_ENDPOINT_MODE": "nonsense",
    "AWS_CSM_ENABLED": "true",
}


@pytest.mark.parametrize(("length", "reason"), [(20_000, "Recorded"), (20_001, "TokenTooLong")])
def test_fault_58_a_token_that_is_too_long(frozen: FrozenClock, length: int, reason: str) -> None:
    """AWS takes 20 000 characters: a longer token is refused here, by its own name, and not sent."""
    recorder = Recorder()
    long = SubjectToken(Sensitive("x" * length), frozen(), {})
    with pytest.raises(RotationError) as caught:
        Sts(VendorContext(lambda _: recorder, frozen, {})).exchange(ObjectKey("a", "b"), source(), long)
    check_showable(caught.value)
    assert caught.value.reason == reason
    assert len(recorder.urls) == (0 if reason == "TokenTooLong" else 1)


def test_calls_are_prepared_once_per_region(world: Backend) -> None:
    """A session costs 93 ms and 7 MiB: one for all, one call per region, however many threads."""
    exchanger = world.exchanger()
    for region in ("eu-central-1", "us-east-1", "eu-central-1"):
        world.exchange_aws(exchanger, region=region)
    sts = exchanger.vendor(world.aws())
    assert isinstance(sts, Sts)
    assert set(sts._calls) == {"eu-central-1", "us-east-1"}


@pytest.mark.parametrize("region", ["us-east-99", "eu-nowhere-1", "us-iso-north-7", "mars-central-1"])
def test_fault_57_an_invented_region(world: Backend, region: str) -> None:
    """A region that fits the pattern and is none is the policy's problem: no client is made, nobody is asked."""
    exchanger = world.exchanger()
    with refused(PolicyError, "UnknownRegion"):
        world.exchange_aws(exchanger, region=region)
    assert world.sandbox.sts.requests.total == 0


@pytest.mark.parametrize("region", ["us-gov-west-1", "cn-north-1", "ap-southeast-7", "us-iso-east-1"])
def test_regions_of_every_partition(world: Backend, region: str) -> None:
    """Whatever the SDK knows may be used."""
    assert world.exchanger().endpoint(world.aws(region=region)).url
