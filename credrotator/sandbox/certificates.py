"""The sandbox's certificate authority and the TLS contexts of its servers.

Owns the CA, its PEM file and one server context per certificate, good or deliberately bad. Must not know who serves
with them. Specification: TLS 1.2 or newer; certificates as RFC 5280 and RFC 6125 say, by trustme.
"""

from __future__ import annotations

import ssl
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

import trustme

from credrotator.sandbox.listener import LOOPBACK

if TYPE_CHECKING:
    from pathlib import Path

CA_FILE_NAME = "ca.pem"
Flaw = Literal["none", "expired", "unknown-ca", "wrong-host"]


class Certificates:
    """Issues the certificates of one sandbox, each once and when it is first wanted."""

    def __init__(self, directory: Path, host: str) -> None:
        self.ca_file = directory / CA_FILE_NAME
        self._names = sorted({host, "localhost", LOOPBACK})
        self._lock = threading.Lock()
        self._ca: trustme.CA | None = None
        self._contexts: dict[Flaw, ssl.SSLContext] = {}

    def renew_ca(self) -> None:
        """Make a new CA and write its certificate to ``ca_file``; new connections get certificates by it."""
        self._use(trustme.CA(organization_name="credrotator sandbox"))

    def ca_pem(self) -> bytes:
        """Return the CA's certificate and private key, for ``load_ca`` of another run.

        Raises:
            RuntimeError: There is none yet.
        """
        if self._ca is None:
            raise RuntimeError("the sandbox was not started")
        return self._ca.cert_pem.bytes() + self._ca.private_key_pem.bytes()

    def load_ca(self, pem: bytes) -> None:
        """Go on with the CA of another run, which its clients trust already."""
        self._use(trustme.CA.from_pem(pem, pem))

    @property
    def has_ca(self) -> bool:
        """Tell whether there is a CA yet."""
        return self._ca is not None

    def _use(self, ca: trustme.CA) -> None:
        with self._lock:
            self._ca = ca
            self._contexts.clear()
            self.ca_file.parent.mkdir(parents=True, exist_ok=True)
            fresh = self.ca_file.with_suffix(".new")
            ca.cert_pem.write_to_path(str(fresh))
            fresh.replace(self.ca_file)

    def context(self, flaw: Flaw = "none") -> ssl.SSLContext:
        """Return the server context with the certificate that has that flaw.

        Raises:
            RuntimeError: ``renew_ca`` was not called yet.
        """
        with self._lock:
            if flaw not in self._contexts:
                self._contexts[flaw] = self._new_context(flaw)
            return self._contexts[flaw]

    def _new_context(self, flaw: Flaw) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._issue(flaw).configure_cert(context)
        return context

    def _issue(self, flaw: Flaw) -> trustme.LeafCert:
        if self._ca is None:
            raise RuntimeError("the sandbox was not started")
        if flaw == "unknown-ca":
            return trustme.CA(organization_name="stranger").issue_cert(*self._names)
        if flaw == "wrong-host":
            return self._ca.issue_cert("elsewhere.invalid")
        # The peer judges by the real clock, so this one is real too, whatever clock the servers have.
        expiry = datetime.now(UTC) - timedelta(days=1) if flaw == "expired" else None
        return self._ca.issue_cert(*self._names, not_after=expiry)
