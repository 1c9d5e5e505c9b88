"""A sandbox that is put back after each test, and a check of policies that fit it."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from credrotator.sandbox import DEFAULT_CLIENT, DEFAULT_CLIENT_SECRET, Client, Sandbox
from tests.check.checking import Checking

if TYPE_CHECKING:
    from collections.abc import Iterator

FOREIGN = ("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY", "AWS_WEB_IDENTITY_TOKEN_FILE", "HTTPS_PROXY", "https_proxy")


@pytest.fixture(scope="session")
def running_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Start a sandbox once."""
    with Sandbox(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.fixture
def sandbox(running_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Return the sandbox as it is by default, where the vendors' SDKs find it."""
    issuer, sts, entra = running_sandbox.issuer, running_sandbox.sts, running_sandbox.entra
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
    for name, value in running_sandbox.environment().items():
        monkeypatch.setenv(name, value)
    google = running_sandbox.google
    roles, tenants = copy.deepcopy(sts.roles), copy.deepcopy(entra.tenants)
    # NOTE: keys cannot be copied; they are each test's to add.
    providers = {name: replace(found) for name, found in google.providers.items()}
    accounts = {name: replace(found, impersonators=set(found.impersonators)) for name, found in google.accounts.items()}
    yield running_sandbox
    for service in (issuer, *running_sandbox.vendors):
        service.faults.clear()
    issuer.clients = {DEFAULT_CLIENT: Client(DEFAULT_CLIENT_SECRET, subject=DEFAULT_CLIENT)}
    issuer.extra_claims, issuer.access_token_format = {}, "jwt"
    issuer.auth_methods = ["client_secret_basic", "client_secret_post"]
    sts.roles, entra.tenants = roles, tenants
    google.providers, google.accounts = providers, accounts
    for authority in (sts, entra, google):
        authority.issuers.trust(issuer.url, issuer.public_keys)


@pytest.fixture
def checking(sandbox: Sandbox) -> Checking:
    """Return a check."""
    return Checking(sandbox)
