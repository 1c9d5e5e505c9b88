"""Anthropic and OpenAI: the requests beside those of their own SDKs, what is refused, and what is never published."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from anthropic import Anthropic as AnthropicSdk
from anthropic import AuthenticationError as AnthropicRefuses
from anthropic.lib.credentials import exchange_federation_assertion
from openai import AuthenticationError as OpenAiRefuses
from openai import OpenAI as OpenAiSdk
from openai.auth._workload import WorkloadIdentityAuth

from credrotator.core.errors import Denied, Transient
from credrotator.sandbox import (
    DEFAULT_ACCOUNT_ID,
    DEFAULT_CLIENT,
    DEFAULT_IDENTITY_PROVIDER,
    DEFAULT_ORGANIZATION,
    DEFAULT_RULE,
    DEFAULT_SERVICE_ACCOUNT,
    DEFAULT_WORKSPACE,
    Answer,
)
from tests.exchange.vendor_side import AUDIENCES, VendorSide
from tests.support.exchanging import TOKEN, Backend, check_showable, refused

if TYPE_CHECKING:
    from pathlib import Path

    import httpx2


CARRIED_BY_ALL = {"host", "user-agent", "accept", "accept-encoding", "connection", "content-length"}
"""Headers that say nothing about the request: each client has its own."""


def http_client(world: Backend) -> httpx2.Client:
    """Make the SDKs' kind of client, which trusts the sandbox."""
    import ssl  # noqa: PLC0415

    import httpx2  # noqa: PLC0415

    return httpx2.Client(verify=ssl.create_default_context(cafile=str(world.sandbox.ca_file)), trust_env=False)


def by_the_sdk(vendor: VendorSide, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the vendor's own SDK exchange a token."""
    world = vendor.world
    compact = world.issuer.issue(DEFAULT_CLIENT, AUDIENCES[vendor.name])
    if vendor.name == "anthropic":
        with http_client(world) as client:
            exchange_federation_assertion(
                assertion=compact,
                federation_rule_id=DEFAULT_RULE,
                organization_id=DEFAULT_ORGANIZATION,
                service_account_id=DEFAULT_SERVICE_ACCOUNT,
                workspace_id=DEFAULT_WORKSPACE,
                base_url=world.sandbox.anthropic.url,
                http_client=client,
            )
        return
    monkeypatch.setenv("SSL_CERT_FILE", str(world.sandbox.ca_file))
    monkeypatch.setenv("NO_PROXY", "localhost")
    WorkloadIdentityAuth(
        workload_identity={
            "identity_provider_id": DEFAULT_IDENTITY_PROVIDER,
            "service_account_id": DEFAULT_ACCOUNT_ID,
            "provider": {"token_type": "jwt", "get_token": lambda: compact},
        },
        token_exchange_url=f"{world.sandbox.openai.url}/oauth/token",
    ).get_token()


def test_the_request_is_that_of_the_vendors_sdk(vendor: VendorSide, monkeypatch: pytest.MonkeyPatch) -> None:
    """Field by field and header by header; only the subject token and the client's own name differ."""
    vendor.exchange()
    by_the_sdk(vendor, monkeypatch)
    ours, theirs = vendor.token_requests()
    assert ours.method == theirs.method
    bodies = [json.loads(request.body) for request in (ours, theirs)]
    for body in bodies:
        assert body.pop("assertion" if vendor.name == "anthropic" else "subject_token").count(".") == 2
    assert bodies[0] == bodies[1]
    said = [
        {name.lower(): value for name, value in request.headers.items() if name.lower() not in CARRIED_BY_ALL}
        for request in (ours, theirs)
    ]
    assert said[0] == said[1]


def test_a_request_with_the_token(vendor: VendorSide) -> None:
    """The vendor's own SDK makes a request with the published token; once that is revoked, it is refused."""
    token, sandbox = vendor.exchange().secret_data("apiKey")["apiKey"].reveal(), vendor.world.sandbox
    with http_client(vendor.world) as client:
        if vendor.name == "anthropic":
            api = AnthropicSdk(
                auth_token=token,
                base_url=sandbox.anthropic.url,
                http_client=client,
                max_retries=0,
                default_headers={"anthropic-beta": "oauth-2025-04-20"},
            )
            message = api.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "hello"}])
            assert DEFAULT_SERVICE_ACCOUNT in str(message.content)
            vendor.server.revoke(token)
            with pytest.raises(AnthropicRefuses):
                api.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "hello"}])
            return
        chat = OpenAiSdk(api_key=token, base_url=f"{sandbox.openai.url}/v1", http_client=client, max_retries=0)
        answer = chat.chat.completions.create(model="m", messages=[{"role": "user", "content": "hello"}])
        assert DEFAULT_ACCOUNT_ID in str(answer.choices)
        vendor.server.revoke(token)
        with pytest.raises(OpenAiRefuses):
            chat.chat.completions.create(model="m", messages=[{"role": "user", "content": "hello"}])


def test_the_life_is_the_vendors(vendor: VendorSide) -> None:
    """Anthropic: twice what is left of the subject token at most; OpenAI: never longer than it."""
    vendor.world.clock.offset = timedelta(days=3)
    token = vendor.exchange()
    longest = timedelta(minutes=10 if vendor.name == "anthropic" else 5)
    assert longest - timedelta(minutes=1) < token.expires_at - vendor.world.clock() <= longest
    assert token.request_id == "req_sandbox"
    assert token.token.reveal() not in repr(token)


def test_a_subject_token_serves_one_exchange(anthropic: VendorSide) -> None:
    """No sharing there: of many policies of one client at once, each gets a token of its own, and none is refused."""
    exchanger = anthropic.exchanger()
    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(lambda _: anthropic.exchange(exchanger).token.reveal(), range(16)))
    assert len(set(tokens)) == 16
    shown = [json.loads(request.body)["assertion"] for request in anthropic.token_requests()]
    assert len(set(shown)) == len(shown) == 16


def test_sharing_where_the_vendor_allows_it(world: Backend) -> None:
    """The other vendor is shown the issuer's cached token."""
    openai = VendorSide(world, "openai")
    exchanger = openai.exchanger()
    for _ in range(3):
        openai.exchange(exchanger)
    assert world.issuer.requests.count(TOKEN) == 1


def test_a_file_that_still_holds_the_token(anthropic: VendorSide, tmp_path: Path) -> None:
    """Used twice is told before it is sent, with what to do; another token in the file is good again."""
    file = tmp_path / "token"
    file.write_text(anthropic.world.issuer.issue(DEFAULT_CLIENT, AUDIENCES["anthropic"]))
    exchanger, source = anthropic.with_file(file)
    anthropic.exchange(exchanger, oidc=source)
    with refused(Denied, "SubjectTokenUsed") as caught:
        anthropic.exchange(exchanger, oidc=source)
    assert "token file" in caught.value.hint
    assert len(anthropic.token_requests()) == 1
    file.write_text(anthropic.world.issuer.issue(DEFAULT_CLIENT, AUDIENCES["anthropic"]))
    anthropic.exchange(exchanger, oidc=source)


def test_a_token_that_was_not_taken_may_be_shown_again(anthropic: VendorSide, tmp_path: Path) -> None:
    """After an outage the same file's token is good still: it was never taken."""
    file = tmp_path / "token"
    file.write_text(anthropic.world.issuer.issue(DEFAULT_CLIENT, AUDIENCES["anthropic"]))
    exchanger, source = anthropic.with_file(file)
    anthropic.server.faults.add(Answer(503), times=1)
    with refused(Transient, "AnthropicFailed"):
        anthropic.exchange(exchanger, oidc=source)
    anthropic.exchange(exchanger, oidc=source)


def test_a_jti_that_another_process_used(anthropic: VendorSide, tmp_path: Path) -> None:
    """After a restart nobody remembers: the vendor's refusal is of the token, and says so."""
    file = tmp_path / "token"
    file.write_text(anthropic.world.issuer.issue(DEFAULT_CLIENT, AUDIENCES["anthropic"]))
    exchanger, source = anthropic.with_file(file)
    anthropic.exchange(exchanger, oidc=source)
    exchanger, source = anthropic.with_file(file)
    with refused(Denied, "AnthropicStaleToken") as caught:
        anthropic.exchange(exchanger, oidc=source)
    assert "already used" in caught.value.message


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rule": "fdrl_other"}, "AnthropicInvalidGrant"),
        ({"organization": "00000000-0000-0000-0000-000000000000"}, "AnthropicInvalidGrant"),
        ({"service_account": "svac_other"}, "AnthropicInvalidGrant"),
        ({"workspace": "wrkspc_other"}, "AnthropicInvalidGrant"),
    ],
)
def test_what_anthropic_finds_wrong(anthropic: VendorSide, changes: dict[str, Any], reason: str) -> None:
    """A rule, organization, account or workspace that does not fit is denied by the vendor's own code."""
    with refused(Denied, reason) as caught:
        anthropic.exchange(**changes)
    assert "credrotator check" in caught.value.hint
    assert len(anthropic.token_requests()) == 1


def test_a_rule_for_several_workspaces(anthropic: VendorSide) -> None:
    """Without workspaceID such a rule is refused, and the hint names the field."""
    anthropic.world.sandbox.anthropic.rules[DEFAULT_RULE].workspaces = (DEFAULT_WORKSPACE, "default")
    with refused(Denied, "AnthropicInvalidRequestError") as caught:
        anthropic.exchange(workspace=None)
    assert "workspaceID" in caught.value.hint
    anthropic.exchange(workspace="default")


@pytest.mark.parametrize(
    ("changes", "reason", "hint"),
    [
        ({"identity_provider": "idp_other"}, "OpenAiInvalidClient", "identityProviderID"),
        ({"service_account": "sa_other"}, "OpenAiAccessDenied", "mapping"),
    ],
)
def test_what_openai_finds_wrong(world: Backend, changes: dict[str, Any], reason: str, hint: str) -> None:
    """An identity provider or account that does not fit is denied by the vendor's own code."""
    with refused(Denied, reason) as caught:
        VendorSide(world, "openai").exchange(**changes)
    assert hint in caught.value.hint


@pytest.mark.parametrize("flaw", ["issuer", "audience", "subject", "signature", "disabled", "life"])
def test_the_sandbox_verifies_the_token(vendor: VendorSide, flaw: str) -> None:
    """Signature, iss, aud, sub and life are judged there: a token with one flaw is denied, and the message names it."""
    match flaw:
        case "issuer":
            vendor.trusted.issuer = "https://idp.example"
        case "audience":
            vendor.trusted.audience = "other"
        case "subject":
            vendor.trusted.subject = "other"
        case "disabled":
            vendor.trusted.disabled = True
        case "life":
            vendor.trusted.longest_life = timedelta(minutes=1)
        case _:
            vendor.server.issuers.trust(vendor.world.issuer.url, vendor.world.sandbox.entra.keys.public)
    with pytest.raises(Denied) as caught:
        vendor.exchange()
    assert caught.value.reason in {vendor.reason("InvalidGrant"), vendor.reason("InvalidClient")}
    check_showable(caught.value)


@pytest.mark.parametrize("claim", ["iat", "sub"])
def test_a_token_that_lacks_a_claim(vendor: VendorSide, claim: str) -> None:
    """What the vendor needs is told before it is sent, where it can be known."""
    vendor.world.issuer.extra_claims = {claim: None}
    with pytest.raises(Denied) as caught:
        vendor.exchange()
    known = vendor.name == "openai" or claim == "iat"
    assert (caught.value.reason in {"TokenWithoutIat", "TokenLacksClaims"}) is known
    assert len(vendor.token_requests()) == (0 if known else 1)
    check_showable(caught.value)


def test_a_token_that_is_too_long(anthropic: VendorSide) -> None:
    """Over 16 KiB is told before it is sent."""
    anthropic.world.issuer.extra_claims = {"groups": "x" * 13_000}
    with refused(Denied, "TokenTooLong") as caught:
        anthropic.exchange()
    assert "16384" in caught.value.message
    assert anthropic.token_requests() == []


@pytest.mark.parametrize("address", ["http://localhost", "https://user:pw@localhost", "https://x y", "localhost"])
def test_the_operators_address(vendor: VendorSide, address: str) -> None:
    """The address is the operator's alone, and https; anything else is told by the variable's name."""
    variable = "ANTHROPIC_BASE_URL" if vendor.name == "anthropic" else "OPENAI_TOKEN_EXCHANGE_URL"
    exchanger = vendor.world.exchanger(environment={**vendor.world.sandbox.environment(), variable: address})
    with refused(Denied, vendor.reason("Config")) as caught:
        vendor.exchange(exchanger)
    assert variable in caught.value.hint
