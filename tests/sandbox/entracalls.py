"""Requests to the sandbox's Entra, and what its errors say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.sandbox import (
    DEFAULT_APP,
    DEFAULT_CLIENT,
    DEFAULT_TENANT,
    Sandbox,
)
from credrotator.sandbox.apps import JWT_BEARER, TOKEN_EXCHANGE_AUDIENCE
from tests.sandbox.conftest import TIMEOUT_S

if TYPE_CHECKING:
    import requests

RESOURCE = "https://cognitiveservices.azure.com"
SCOPE = f"{RESOURCE}/.default"


def assertion(sandbox: Sandbox) -> str:
    """Return a token of the sandbox's issuer that the default app takes."""
    return sandbox.issuer.issue(DEFAULT_CLIENT, audience=TOKEN_EXCHANGE_AUDIENCE)


def ask(session: requests.Session, sandbox: Sandbox, tenant: str = DEFAULT_TENANT, **form: str) -> requests.Response:
    """Ask for a token as the default app; ``form`` replaces or adds parameters, an empty one leaves it out."""
    form = {"grant_type": "client_credentials", "client_id": DEFAULT_APP, "scope": SCOPE, **form}
    url = f"{sandbox.entra.url}/{tenant}/oauth2/v2.0/token"
    return session.post(url, data={k: v for k, v in form.items() if v}, timeout=TIMEOUT_S)


def ask_with_assertion(session: requests.Session, sandbox: Sandbox, compact: str, **form: str) -> requests.Response:
    """Ask for a token with a client assertion."""
    return ask(session, sandbox, client_assertion=compact, client_assertion_type=JWT_BEARER, **form)


def refusal(answer: requests.Response) -> tuple[int, str, int]:
    """Return AADSTS code, OAuth error and HTTP status of an error answer, after checking its shape."""
    body = answer.json()
    (code,) = body["error_codes"]
    assert body["error_description"].startswith(f"AADSTS{code}: ")
    for label, member in (("Trace ID", "trace_id"), ("Correlation ID", "correlation_id"), ("Timestamp", "timestamp")):
        assert f"{label}: {body[member]}" in body["error_description"]
    return code, body["error"], answer.status_code


def whoami(session: requests.Session, sandbox: Sandbox, token: str, **query: str) -> requests.Response:
    """Prove a token."""
    headers = {"Authorization": f"Bearer {token}"}
    return session.get(f"{sandbox.entra.url}/sandbox/whoami", headers=headers, params=query, timeout=TIMEOUT_S)
