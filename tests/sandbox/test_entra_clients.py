"""azure-identity and msal, unmodified, are served by the sandbox's Entra."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msal
import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ClientAssertionCredential, ClientSecretCredential

from credrotator.sandbox import (
    DEFAULT_APP,
    DEFAULT_APP_SECRET,
    DEFAULT_TENANT,
    Sandbox,
    ServiceError,
)

if TYPE_CHECKING:
    import requests
from tests.sandbox.entracalls import RESOURCE, SCOPE, assertion, whoami


def azure_options(sandbox: Sandbox) -> dict[str, Any]:
    """Return what azure-identity needs to know to use the sandbox."""
    return {
        "authority": sandbox.entra.url,
        "disable_instance_discovery": True,
        "connection_verify": str(sandbox.ca_file),
        "retry_total": 0,
    }


def test_azure_identity_with_a_secret(sandbox: Sandbox, http: requests.Session) -> None:
    """ClientSecretCredential, unmodified, gets a token for the resource, and the token proves itself."""
    sandbox.entra.token_life = timedelta(minutes=10)
    with ClientSecretCredential(DEFAULT_TENANT, DEFAULT_APP, DEFAULT_APP_SECRET, **azure_options(sandbox)) as azure:
        token = azure.get_token(SCOPE)
    claims = whoami(http, sandbox, token.token).json()
    assert (claims["aud"], claims["appid"], claims["tid"]) == (RESOURCE, DEFAULT_APP, DEFAULT_TENANT)
    assert claims["exp"] - claims["iat"] == 600
    assert abs(token.expires_on - claims["exp"]) <= 1


def test_azure_identity_with_an_assertion(sandbox: Sandbox, http: requests.Session) -> None:
    """ClientAssertionCredential, unmodified, exchanges the issuer's token."""
    with ClientAssertionCredential(
        DEFAULT_TENANT, DEFAULT_APP, lambda: assertion(sandbox), **azure_options(sandbox)
    ) as azure:
        token = azure.get_token(SCOPE)
    assert whoami(http, sandbox, token.token).status_code == 200


def test_azure_identity_shows_the_code(sandbox: Sandbox) -> None:
    """A wrong secret reaches the caller as AADSTS7000215."""
    with (
        ClientSecretCredential(DEFAULT_TENANT, DEFAULT_APP, "wrong", **azure_options(sandbox)) as azure,
        pytest.raises(ClientAuthenticationError, match="AADSTS7000215"),
    ):
        azure.get_token(SCOPE)


@pytest.mark.parametrize("kind", ["secret", "assertion"])
def test_msal(sandbox: Sandbox, http: requests.Session, kind: str) -> None:
    """msal, unmodified, gets a token with either, and shows error codes as numbers."""
    credential: Any = DEFAULT_APP_SECRET if kind == "secret" else {"client_assertion": lambda: assertion(sandbox)}
    app = msal.ConfidentialClientApplication(
        DEFAULT_APP,
        client_credential=credential,
        authority=f"{sandbox.entra.url}/{DEFAULT_TENANT}",
        instance_discovery=False,
        http_client=http,
    )
    answer = app.acquire_token_for_client([SCOPE])
    assert answer["token_type"] == "Bearer"
    assert answer["expires_in"] in (3598, 3599)
    sandbox.entra.faults.add(ServiceError("AADSTS7000222"))
    failed = app.acquire_token_for_client(["https://other.example/.default"])
    assert failed["error_codes"] == [7000222]
