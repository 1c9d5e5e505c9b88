"""A running sandbox, a clock that a test can move, and HTTP clients that ignore the machine's own settings.

Owns what every test here starts from. Must not use anything of credrotator but the sandbox.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import requests

from credrotator.sandbox import DEFAULT_CLIENT, DEFAULT_CLIENT_SECRET, Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from credrotator.sandbox.issuer import Issuer

TIMEOUT_S = 30.0
DISCOVERY = "/.well-known/openid-configuration"
FOREIGN_SETTINGS = (
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "SSL_CERT_FILE",
    "AWS_CA_BUNDLE",
    "AWS_PROFILE",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_STS",
    "AWS_USE_FIPS_ENDPOINT",
    "AZURE_AUTHORITY_HOST",
    "CLOUDSDK_API_ENDPOINT_OVERRIDES_STS",
    "CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS",
    "CLOUDSDK_AUTH_TOKEN_HOST",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
)


class MovableClock:
    """A clock that runs with the machine's and can be moved: ``offset`` is added to the real time."""

    def __init__(self) -> None:
        self.offset = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.offset


@pytest.fixture(autouse=True)
def _immune(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in FOREIGN_SETTINGS:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-aws-credentials"))


@pytest.fixture
def clock() -> MovableClock:
    """Return the servers' clock."""
    return MovableClock()


@pytest.fixture
def sandbox(tmp_path: Path, clock: MovableClock) -> Iterator[Sandbox]:
    """Run a sandbox for the length of a test."""
    with Sandbox(tmp_path / "sandbox", clock=clock) as running:
        yield running


@pytest.fixture
def http(sandbox: Sandbox) -> Iterator[requests.Session]:
    """Return a client that trusts the sandbox."""
    with trusting_session(sandbox.ca_file) as session:
        yield session


def trusting_session(ca_file: Path) -> requests.Session:
    """Return a client that trusts this CA only and uses no proxy."""
    session = requests.Session()
    session.trust_env = False
    session.verify = str(ca_file)
    return session


def ask_for_token(session: requests.Session, issuer: Issuer, **form: str | list[str]) -> requests.Response:
    """Ask for a token as the default client, by client_secret_basic; ``form`` adds parameters."""
    return session.post(
        f"{issuer.url}/token",
        data={"grant_type": "client_credentials", **form},
        auth=(DEFAULT_CLIENT, DEFAULT_CLIENT_SECRET),
        timeout=TIMEOUT_S,
        allow_redirects=False,
    )


def discover(session: requests.Session, sandbox: Sandbox, **options: Any) -> requests.Response:
    """Fetch the issuer's discovery document."""
    return session.get(f"{sandbox.issuer.url}{DISCOVERY}", **{"timeout": TIMEOUT_S, **options})
