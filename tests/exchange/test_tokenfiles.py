"""Subject tokens from files: whose they are, that they are read anew, and what is wrong with one that will not do."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from credrotator.core.errors import Denied, RotationError, Transient
from credrotator.core.model import ObjectKey, TokenFile
from credrotator.exchange.exchanger import Exchanger, ExchangeSettings
from credrotator.exchange.http.clock_offset import SkewedClock
from credrotator.exchange.token_files import LONGEST_BYTES, TokenFiles
from credrotator.providers import PROVIDERS
from credrotator.sandbox import DEFAULT_CLIENT, FederatedCredential, ServiceError
from credrotator.sandbox.apps import DEFAULT_APP, DEFAULT_TENANT
from tests.support.exchanging import GOOGLE_STS, POLICY, POOL_AUDIENCE, Backend, refused

if TYPE_CHECKING:
    from pathlib import Path

    from credrotator.core.model import Rotatable
    from credrotator.core.ports import Clock

TEAM = POLICY.namespace
AUDIENCES = {"aws": "sts.amazonaws.com", "azure": "api://AzureADTokenExchange", "gcp": POOL_AUDIENCE}
ways = pytest.mark.parametrize("way", AUDIENCES)


class Kubelet:
    """Whoever keeps a token file fresh: another service account's issuer, which the vendors trust."""

    def __init__(self, world: Backend, directory: Path) -> None:
        self.world = world
        self.path = directory / "token"

    def write(self, audience: str = "sts.amazonaws.com") -> str:
        """Put a new token into the file, as the kubelet does: with a newline nowhere."""
        token = self.world.issuer.issue(DEFAULT_CLIENT, audience=audience)
        self.path.write_text(token)
        return token

    def exchanger(self, *, clock: Clock | None = None, namespace: str = "") -> Exchanger:
        """Return an exchanger whose operator allows the file under the name ``pod``."""
        files = {ObjectKey(namespace, "pod"): self.path}
        settings = ExchangeSettings(ca_file=str(self.world.sandbox.ca_file), token_files=files)
        return Exchanger(settings, clock or self.world.clock, PROVIDERS, self.world.exchanger()._environment)

    def source(self, way: str, **changes: str | None) -> Rotatable:
        """Describe a policy that wants the file's token."""
        wanted = TokenFile(**{"name": "pod", "audience": AUDIENCES[way], **changes})  # type: ignore[arg-type]
        match way:
            case "aws":
                return self.world.aws(oidc=wanted)
            case "azure":
                return replace(self.world.azure(), oidc=wanted)
            case _:
                pass
        return self.world.gcp(oidc=wanted)

    def exchange(self, way: str, exchanger: Exchanger | None = None, **changes: str | None) -> object:
        """Get a credential."""
        return self.world.exchange(self.source(way, **changes), exchanger or self.exchanger())


@pytest.fixture
def kubelet(world: Backend, tmp_path: Path) -> Kubelet:
    """Return a token file that holds nothing yet."""
    record = FederatedCredential(world.issuer.url, DEFAULT_CLIENT)
    world.sandbox.entra.tenants[DEFAULT_TENANT][DEFAULT_APP].federated = [record]
    return Kubelet(world, tmp_path)


@ways
def test_without_a_client_secret(world: Backend, kubelet: Kubelet, way: str) -> None:
    """G27: no issuer is asked and no Secret read; the vendor takes the file's token."""
    token = kubelet.write(AUDIENCES[way])
    world.values.clear()
    kubelet.exchange(way)
    assert world.issuer.requests.total == 0
    shown = [str(request.form.to_dict()) for service in world.sandbox.vendors for request in service.requests]
    assert any(token in form for form in shown)


def test_read_anew_each_time(world: Backend, kubelet: Kubelet) -> None:
    """What the kubelet writes is used at once; nothing of the file is kept."""
    exchanger = kubelet.exchanger()
    tokens = []
    for _ in range(2):
        tokens.append(kubelet.write())
        kubelet.exchange("aws", exchanger)
    assert [request.form["WebIdentityToken"] for request in world.sandbox.sts.requests] == tokens
    kubelet.path.unlink()
    with refused(Transient, "TokenFileUnreadable"):
        kubelet.exchange("aws", exchanger)


def test_whose_it_is(kubelet: Kubelet) -> None:
    """A file may be for the policies of one namespace; others are not even told its name."""
    kubelet.write()
    kubelet.exchange("aws", kubelet.exchanger(namespace=TEAM))
    with refused(Denied, "TokenSourceNotAllowed") as caught:
        kubelet.exchange("aws", kubelet.exchanger(namespace="team-b"))
    assert f"namespace {TEAM}" in caught.value.message
    assert "name one of" not in caught.value.hint
    assert "--token-file pod=PATH" in caught.value.hint


def test_the_own_namespaces_file_comes_first(kubelet: Kubelet, tmp_path: Path) -> None:
    """Of two by one name, the one that is for this namespace alone."""
    own = tmp_path / "own"
    own.write_text(kubelet.write("own"))
    kubelet.write("everybody's")
    files = TokenFiles({ObjectKey("", "pod"): kubelet.path, ObjectKey(TEAM, "pod"): own})
    assert files.token(TEAM, TokenFile("pod")).claims["aud"] == "own"
    assert files.token("team-b", TokenFile("pod")).claims["aud"] == "everybody's"


@pytest.mark.parametrize("name", ["pot", "../etc/passwd", "/etc/passwd", ""])
def test_a_name_is_no_path(kubelet: Kubelet, name: str) -> None:
    """A policy can name what the operator allows and nothing else; what there is, it is told."""
    kubelet.write()
    with refused(Denied, "TokenSourceNotAllowed") as caught:
        kubelet.exchange("aws", name=name)
    assert "name one of pod" in caught.value.hint


@ways
def test_the_audience(world: Backend, kubelet: Kubelet, way: str) -> None:
    """A token for somebody else is refused here, with both audiences, and shown to nobody."""
    kubelet.write("something-else")
    with refused(Denied, "TokenFileAudience") as caught:
        kubelet.exchange(way)
    assert AUDIENCES[way] in caught.value.message
    assert "something-else" in caught.value.message
    assert not sum(service.requests.total for service in world.sandbox.vendors)


def test_several_audiences_and_none(world: Backend, kubelet: Kubelet) -> None:
    """One of several is enough; a policy that wants none leaves it to the vendor."""
    kubelet.path.write_text(world.issuer.issue(DEFAULT_CLIENT, audience=["x", "sts.amazonaws.com"]))
    kubelet.exchange("aws")
    kubelet.write("x")
    with refused(Denied, "InvalidIdentityToken") as caught:
        kubelet.exchange("aws", audience=None)
    assert "audience" in caught.value.message


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "TokenFileInvalid"),
        (b"opaque-canary", "TokenFileInvalid"),
        (b"\xff\xfe.\x00.canary", "TokenFileInvalid"),
        (b"e30.e30.canary", "TokenFileInvalid"),
        (b"eyJhbGciOiJub25lIn0.e30.canary", "TokenFileInvalid"),  # no exp, as in the token of a Secret
        (b"a." * LONGEST_BYTES, "TokenFileInvalid"),
    ],
)
def test_what_is_no_token(kubelet: Kubelet, content: bytes, reason: str) -> None:
    """Whatever lies in the file, the error names it and shows nothing of it."""
    kubelet.path.write_bytes(content)
    with refused(Denied, reason) as caught:
        kubelet.exchange("aws")
    assert "token file pod" in caught.value.message
    assert "canary" not in caught.value.message


def test_what_cannot_be_read(kubelet: Kubelet) -> None:
    """Not there yet, or a directory: transient, by the name that the policy knows, and not by the operator's path."""
    for _ in range(2):
        with refused(Transient, "TokenFileUnreadable") as caught:
            kubelet.exchange("aws")
        assert str(kubelet.path) not in caught.value.message
        kubelet.path.mkdir(exist_ok=True)


def test_security_12_a_pipe_is_not_waited_for(kubelet: Kubelet) -> None:
    """Security 12: what is no regular file is not read, or the exchange would hang, or never come to an end."""
    os.mkfifo(kubelet.path)
    with refused(Transient, "TokenFileUnreadable"):
        kubelet.exchange("aws")
    kubelet.path.unlink()
    kubelet.path.symlink_to("/dev/zero")
    with refused(Transient, "TokenFileUnreadable") as caught:
        kubelet.exchange("aws")
    assert "regular file" in caught.value.message


@pytest.mark.parametrize("how", ["the file", "symlink", "link of a link", "hard link", "copy", "with a newline"])
def test_security_12_the_api_servers_token_by_what_it_is(world: Backend, tmp_path: Path, how: str) -> None:
    """Security 12: the pod's own token is refused under whatever name, since a name says nothing of a file."""
    secret, other = tmp_path / "serviceaccount-token", tmp_path / "token"
    secret.write_text(world.issuer.issue(DEFAULT_CLIENT))
    match how:
        case "the file":
            other = tmp_path / "x" / ".." / "serviceaccount-token"
            (tmp_path / "x").mkdir()
        case "symlink":
            other.symlink_to(secret)
        case "link of a link":
            (tmp_path / "..data").symlink_to(secret)
            other.symlink_to(tmp_path / "..data")
        case "hard link":
            other.hardlink_to(secret)
        case _:
            other.write_text(secret.read_text() + "\n" * (how == "with a newline"))
    files = TokenFiles({ObjectKey("", "pod"): other}, secret)
    with refused(Denied, "TokenFileForbidden"):
        files.token(TEAM, TokenFile("pod"))
    another = tmp_path / "another"
    another.write_text(world.issuer.issue(DEFAULT_CLIENT))
    assert TokenFiles({ObjectKey("", "pod"): another}, secret).token(TEAM, TokenFile("pod")).claims


@pytest.mark.parametrize("inside", ["\n", "\x1b[31m", "\x00", " "])
def test_fault_71_a_file_with_control_characters(kubelet: Kubelet, inside: str) -> None:
    """Fault 71: what has a line end or an escape code in its middle is no token."""
    token = kubelet.write()
    kubelet.path.write_text(token[:40] + inside + token[40:])
    with refused(Denied, "TokenFileInvalid"):
        kubelet.exchange("aws")


def test_a_newline_at_the_end(kubelet: Kubelet) -> None:
    """As an editor leaves it."""
    kubelet.path.write_text(kubelet.write() + "\n")
    kubelet.exchange("aws")


@ways
def test_fault_19_one_that_has_expired(world: Backend, kubelet: Kubelet, way: str) -> None:
    """A file that nobody renews is what is wrong, and said; the vendor is asked once and not twice with the same."""
    kubelet.write(AUDIENCES[way])
    world.clock.offset = timedelta(minutes=10)
    with refused(Transient, "TokenFileExpired") as caught:
        kubelet.exchange(way)
    assert "kubelet" in caught.value.hint
    assert sum(service.requests.total for service in world.sandbox.vendors) == 1


def test_fault_19_one_that_was_just_renewed(world: Backend, kubelet: Kubelet) -> None:
    """Read before the kubelet wrote, refused after: the new one is shown, in the same attempt."""
    stale = kubelet.write()
    fresh: list[str] = []

    def renew(_: object) -> bool:
        fresh[:] = fresh or [kubelet.write()]
        return True

    world.sandbox.sts.faults.add(ServiceError("ExpiredTokenException"), times=1, when=renew)
    kubelet.exchange("aws")
    assert [request.form["WebIdentityToken"] for request in world.sandbox.sts.requests] == [stale, *fresh]


def test_a_refusal_that_is_not_the_files_fault(world: Backend, kubelet: Kubelet) -> None:
    """A vendor that calls a sound token stale is believed, by its own code; the same is not sent again."""
    kubelet.write()
    world.sandbox.sts.faults.add(ServiceError("InvalidIdentityToken"))
    with refused(Denied, "InvalidIdentityToken"):
        kubelet.exchange("aws")
    assert world.sandbox.sts.requests.total == 1


def test_fault_23_a_clock_that_is_ahead(world: Backend, kubelet: Kubelet) -> None:
    """A sound token that looks expired is shown all the same: the vendor takes it, its date puts the clock right."""
    clock = SkewedClock(lambda: datetime.now(UTC) + timedelta(hours=2))
    kubelet.write(POOL_AUDIENCE)
    exchanger = kubelet.exchanger(clock=clock)
    kubelet.exchange("gcp", exchanger)
    assert abs(clock() - datetime.now(UTC)) < timedelta(minutes=1)
    assert world.sandbox.google.requests.count(GOOGLE_STS) == 1


@ways
def test_i9_no_token_in_any_failure(world: Backend, kubelet: Kubelet, way: str) -> None:
    """I9: what the vendor says of a refusal is shown without the token."""
    token = kubelet.write(AUDIENCES[way])
    code = {"aws": "AccessDenied", "azure": "700211", "gcp": "invalid_grant"}[way]
    for service in world.sandbox.vendors:
        service.faults.add(ServiceError(code, f"not with {token}"))
    with pytest.raises(RotationError) as caught:
        kubelet.exchange(way)
    assert token not in f"{caught.value.message} {caught.value.hint}"
    assert token not in repr(kubelet.exchanger().subject(POLICY, TokenFile("pod"), world.secrets).token())
