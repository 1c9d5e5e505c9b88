"""A sandbox that is stopped and started again in its directory takes what it issued before."""

from __future__ import annotations

import json
import stat
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from credrotator.sandbox import DEFAULT_CLIENT, DEFAULT_TENANT, KeptSandbox
from credrotator.sandbox.googleaccounts import DEFAULT_ACCOUNT, Grant
from credrotator.sandbox.kept import STATE_FILE_NAME
from credrotator.sandbox.roles import new_session
from credrotator.sandbox.sts import DEFAULT_ROLE
from tests.sandbox.conftest import MovableClock, discover, trusting_session

if TYPE_CHECKING:
    from pathlib import Path


def test_everything_issued_stays_good(tmp_path: Path) -> None:
    """The CA, the keys of issuer and Entra, sessions of STS and tokens of Google are those of the first run."""
    with KeptSandbox(tmp_path) as first:
        token = first.issuer.issue(DEFAULT_CLIENT)
        entra_keys = first.entra.keys.jwks()
        session = new_session(DEFAULT_ROLE, "a-session", first.sts.now() + timedelta(hours=1))
        first.sts.sessions[session.access_key_id] = session
        grant = Grant("principal", frozenset({"a", "b"}), first.google.now() + timedelta(hours=1))
        first.google.grants["ya29.c.x"] = grant
        first.anthropic.grants["sk-ant-oat01-x"] = grant
        key_file = first.write_key_file().read_text()
        ca, port = first.ca_file.read_bytes(), first.issuer.port
    with KeptSandbox(tmp_path, issuer_port=port) as second, trusting_session(second.ca_file) as http:
        assert second.ca_file.read_bytes() == ca
        assert discover(http, second).ok
        assert second.sts.issuers.verified(token).subject == DEFAULT_CLIENT
        assert second.entra.keys.jwks() == entra_keys
        assert second.sts.sessions == {session.access_key_id: session}
        assert second.google.grants == {"ya29.c.x": grant}
        assert second.anthropic.grants == {"sk-ant-oat01-x": grant}
        assert second.write_key_file().read_text() == key_file
        assert json.loads(key_file)["private_key_id"] in second.google.accounts[DEFAULT_ACCOUNT].keys


def test_what_has_expired_is_not_kept(tmp_path: Path, clock: MovableClock) -> None:
    """The file does not grow with each run."""
    with KeptSandbox(tmp_path, clock=clock) as first:
        session = new_session(DEFAULT_ROLE, "a-session", first.sts.now() + timedelta(minutes=1))
        first.sts.sessions[session.access_key_id] = session
        clock.offset = timedelta(minutes=2)
    assert state(tmp_path)["sessions"] == []


def test_keys_are_private(tmp_path: Path) -> None:
    """The file holds private keys, so nobody else may read it."""
    with KeptSandbox(tmp_path):
        assert stat.S_IMODE((tmp_path / STATE_FILE_NAME).stat().st_mode) == 0o600


def test_keys_outlive_a_run_that_is_killed(tmp_path: Path) -> None:
    """They are on disk while the sandbox runs, not only once it has ended."""
    with KeptSandbox(tmp_path) as sandbox:
        assert state(tmp_path)["issuerKeys"] == sandbox.issuer.keys.private()
        assert DEFAULT_TENANT in sandbox.entra.tenants


@pytest.mark.parametrize("content", ["", "no JSON", "[]", '{"format": 0}'])
def test_a_file_that_is_no_state_is_replaced(tmp_path: Path, content: str) -> None:
    """What cannot be read does not stop the sandbox: it begins anew."""
    (tmp_path / STATE_FILE_NAME).write_text(content)
    with KeptSandbox(tmp_path) as sandbox, trusting_session(sandbox.ca_file) as http:
        assert discover(http, sandbox).ok
    assert state(tmp_path)["issuerKeys"]


def state(directory: Path) -> dict[str, Any]:
    """Return what lies in the file."""
    document: dict[str, Any] = json.loads((directory / STATE_FILE_NAME).read_text())
    return document
