"""What every test starts from: an environment in which nothing of the machine is left.

Owns the list of variables that change what credrotator or a vendor's SDK does.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

# Before they are imported: an assertion that fails there says what it saw, as one in a test does.
pytest.register_assert_rewrite("tests.support")

from tests.support.logging_state import kept_logging  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PREFIXES = ("AWS_", "AZURE_", "MSAL_", "AI_GATEWAY_", "CREDROTATOR_")
NAMES = {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "NETRC"}
SUFFIX = "_PROXY"

# How long an example takes is the machine's business, not a rule. Here, as decorators read it when they are imported.
settings.register_profile("credrotator", deadline=None)
settings.load_profile("credrotator")


def pytest_configure() -> None:
    """Let Ctrl-C mean what it means on a terminal: a shell's background jobs, and their children, would ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Put back what a command that runs in this process makes of logging: the next test may look at the log."""
    with kept_logging():
        yield


@pytest.fixture(autouse=True)
def clean_environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Remove what the machine's owner set: CAs, proxies, vendors' and our own variables.

    The end-to-end suite is left alone: it builds and downloads with the machine's own settings.
    """
    if request.node.get_closest_marker("e2e"):
        return
    for name in list(os.environ):
        if name.upper().startswith(PREFIXES) or name.upper() in NAMES or name.upper().endswith(SUFFIX):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-aws-credentials"))
