"""A sandbox that can be stopped and started again: what it issued before stays good until it expires.

Owns the file in which the CA, the signing keys, and what was handed out lie between two runs. Must not decide what any
of it is worth: the servers do. Specification: RFC 7517 (private keys as JWKs).
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from joserfc.jwk import RSAKey

from credrotator.sandbox.googleaccounts import DEFAULT_ACCOUNT, Grant
from credrotator.sandbox.sigv4 import Session
from credrotator.sandbox.site import Sandbox

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

STATE_FILE_NAME = "sandbox.json"
_FORMAT = 1


class KeptSandbox(Sandbox):
    """A sandbox whose directory, beside ``ca.pem``, holds what the next one there goes on with."""

    def __enter__(self) -> Self:
        """Start the servers with what the last run left behind; what cannot be read is made anew."""
        state = _read(self._directory / STATE_FILE_NAME)
        if state is not None:
            self._restore(state)
        super().__enter__()
        # At the start too, so that the keys outlive a run that is killed.
        self._save()
        return self

    def __exit__(self, *details: object) -> None:
        """Keep what was handed out, and stop the servers."""
        self._save()
        super().__exit__(*details)

    def write_key_file(self) -> Path:
        """Return the key file that is there, known to Google again; the first time, write one."""
        file = self._directory / "service_account.json"
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            key = RSAKey.import_key(content["private_key"])
        except (OSError, ValueError, KeyError, TypeError):
            return super().write_key_file()
        self.google.accounts[DEFAULT_ACCOUNT].keys[content["private_key_id"]] = key
        return file

    def _prepare_ca(self) -> None:
        if not self._place.certificates.has_ca:
            super()._prepare_ca()

    def _restore(self, state: dict[str, Any]) -> None:
        self._place.certificates.load_ca(state["ca"].encode())
        self.issuer.keys.load(state["issuerKeys"])
        self.entra.keys.load(state["entraKeys"])
        for session in state["sessions"]:
            restored = Session(**{**session, "expires": datetime.fromisoformat(session["expires"])})
            self.sts.sessions[restored.access_key_id] = restored
        _restore_grants(self.google.grants, state["grants"])
        for vendor in (self.anthropic, self.openai, self.exchange):
            _restore_grants(vendor.grants, state.get("vendorGrants", {}).get(vendor.name, {}))

    def _save(self) -> None:
        state = {
            "format": _FORMAT,
            "ca": self._place.certificates.ca_pem().decode(),
            "issuerKeys": self.issuer.keys.private(),
            "entraKeys": self.entra.keys.private(),
            "sessions": [
                {**asdict(session), "expires": session.expires.isoformat()}
                for session in list(self.sts.sessions.values())
                if session.expires > self.sts.now()
            ],
            "grants": _kept_grants(self.google.grants, self.google.now()),
            "vendorGrants": {
                vendor.name: _kept_grants(vendor.grants, vendor.now())
                for vendor in (self.anthropic, self.openai, self.exchange)
            },
        }
        _write(self._directory / STATE_FILE_NAME, state)


def _kept_grants(grants: Mapping[str, Grant], now: datetime) -> dict[str, dict[str, Any]]:
    return {
        token: {"principal": grant.principal, "scopes": sorted(grant.scopes), "expires": grant.expires.isoformat()}
        for token, grant in list(grants.items())
        if grant.expires > now
    }


def _restore_grants(grants: dict[str, Grant], kept: Mapping[str, Mapping[str, Any]]) -> None:
    for token, grant in kept.items():
        expires = datetime.fromisoformat(grant["expires"])
        grants[token] = Grant(grant["principal"], frozenset(grant["scopes"]), expires)


def _read(file: Path) -> dict[str, Any] | None:
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) and state.get("format") == _FORMAT else None


def _write(file: Path, state: dict[str, Any]) -> None:
    fresh = file.with_suffix(".new")
    # Private from the first byte on: keys are in it.
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as opened:
        json.dump(state, opened)
    fresh.replace(file)
