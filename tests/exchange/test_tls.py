"""Certificates, bundles of trust, alerts, and what speaks no TLS (fault 6, security 12)."""

from __future__ import annotations

import shutil
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import trustme

from credrotator.core.errors import Denied, RotationError, Transient
from credrotator.exchange.http.endpoint import ISSUER
from credrotator.exchange.http.failures import CERTIFICATE_SETTLES
from credrotator.exchange.http.single_flight import FAILURE_LIFE
from credrotator.exchange.http.transport import Transport
from credrotator.sandbox import Banner, Certificate, Handshake
from tests.exchange.every_endpoint import ASKS, everywhere, listening
from tests.support.exchanging import Backend, check_showable, refused

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from credrotator.sandbox.certificates import Alert, Flaw


@everywhere
@pytest.mark.parametrize(
    ("flaw", "word"), [("expired", "expired"), ("unknown-ca", "self-signed|issuer"), ("wrong-host", "localhost")]
)
def test_fault_06_certificates(world: Backend, name: str, flaw: Flaw, word: str) -> None:
    """Fault 6: an expired, unknown or foreign certificate is refused, reason TLS; the message says which it is."""
    service_of, ask = ASKS[name]
    with service_of(world).faults.add(Certificate(flaw)), refused(Denied, f"{name}TLS") as caught:
        ask(world, world.exchanger())
    assert any(part in caught.value.message for part in word.split("|")), caught.value.message
    assert caught.value.settling == CERTIFICATE_SETTLES


@pytest.mark.parametrize("name", ["Issuer", "Entra", "Google"])
def test_fault_06_without_the_ca(world: Backend, name: str) -> None:
    """Security 3: what a public CA did not sign is refused, unless --ca-file names its CA (STS: see its bundle)."""
    _, ask = ASKS[name]
    with refused(Denied, f"{name}TLS"):
        ask(world, world.exchanger(ca_file=None))


@everywhere
def test_fault_06_a_new_ca_needs_no_restart(world: Backend, name: str) -> None:
    """Fault 6: the CA file is read again at the next attempt, connections by the old one are left alone."""
    _, ask = ASKS[name]
    own = world.sandbox.ca_file.with_name("own.pem")
    shutil.copy(world.sandbox.ca_file, own)
    exchanger = world.exchanger(ca_file=str(own))
    ask(world, exchanger)
    world.sandbox.renew_ca()
    # Other keys, so that nothing is answered from memory.
    world.values["oidc"] = world.sandbox.issuer.clients["credrotator"].secret = "another"
    with pytest.raises(Denied) as caught:
        ask(world, exchanger)
    assert caught.value.reason.endswith("TLS")
    shutil.copy(world.sandbox.ca_file, own)
    world.values["oidc"] = world.sandbox.issuer.clients["credrotator"].secret = "a third"
    world.clock.offset += FAILURE_LIFE
    ask(world, exchanger)


def test_the_context_is_made_anew_only_on_a_change(world: Backend) -> None:
    """Fault 6: looking at the CA files again costs two stats, not a context (10 ms) and new connections."""
    own = world.sandbox.ca_file.with_name("own.pem")
    shutil.copy(world.sandbox.ca_file, own)
    transport = Transport(ISSUER, bundles=(str(own),))
    first = transport.adapter.trust.context()
    assert transport.adapter.trust.context() is first
    shutil.copy(own, own.with_suffix(".new"))
    own.with_suffix(".new").replace(own)
    assert transport.adapter.trust.context() is not first


@pytest.mark.parametrize("content", [None, "", "no certificate", "-----BEGIN CERTIFICATE-----\nx\n"])
def test_an_unusable_ca_file(world: Backend, tmp_path: Path, content: str | None) -> None:
    """Fault 6: a CA file that is gone or no PEM is named as such, not taken for an untrusted issuer."""
    own = tmp_path / "broken.pem"
    if content is not None:
        own.write_text(content)
    with refused(Denied, "CaFileUnreadable") as caught:
        world.token(world.exchanger(ca_file=str(own)))
    assert "broken.pem" in caught.value.message


def test_the_unusable_one_of_several_ca_files(world: Backend, tmp_path: Path) -> None:
    """Only the file that is bad is named, whether it is away or no PEM."""
    good, bad = world.sandbox.ca_file, tmp_path / "broken.pem"
    for make in (lambda: None, lambda: bad.write_text("no certificate")):
        make()
        with refused(Denied, "CaFileUnreadable") as caught:
            world.token(world.exchanger(ca_file=str(bad), environment={"REQUESTS_CA_BUNDLE": str(good)}))
        assert f"a CA file cannot be used: {bad}: " in caught.value.message
        assert str(good) not in caught.value.message


@pytest.mark.parametrize(
    ("variable", "name"),
    [("REQUESTS_CA_BUNDLE", "Issuer"), ("REQUESTS_CA_BUNDLE", "Entra"), ("REQUESTS_CA_BUNDLE", "Google")],
)
def test_bundles_of_the_environment(world: Backend, variable: str, name: str) -> None:
    """The usual variable names the CAs of issuer, Entra and Google, a file or a hashed directory."""
    _, ask = ASKS[name]
    ask(world, world.exchanger(ca_file=None, environment={variable: str(world.sandbox.ca_file)}))


def test_the_bundle_of_aws(world: Backend, tmp_path: Path) -> None:
    """AWS_CA_BUNDLE wins for STS; without it REQUESTS_CA_BUNDLE holds, as botocore has it; --ca-file adds to either."""
    stranger = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(str(stranger))
    ours = str(world.sandbox.ca_file)
    world.exchange_aws(world.exchanger(ca_file=None, environment={"REQUESTS_CA_BUNDLE": ours}))
    world.exchange_aws(world.exchanger(environment={"AWS_CA_BUNDLE": str(stranger)}))
    with refused(Denied, "StsTLS"):
        both = {"REQUESTS_CA_BUNDLE": ours, "AWS_CA_BUNDLE": str(stranger)}
        world.exchange_aws(world.exchanger(ca_file=None, environment=both))


def test_a_directory_of_cas(world: Backend, tmp_path: Path) -> None:
    """REQUESTS_CA_BUNDLE may be a directory, as it may for requests."""
    (tmp_path / "certs").mkdir()
    bundle = {"REQUESTS_CA_BUNDLE": str(tmp_path / "certs")}
    world.token(world.exchanger(environment=bundle))


def test_old_tls_is_refused(world: Backend) -> None:
    """Security 3: TLS 1.2 is the least that is spoken, whatever the machine's OpenSSL would allow."""
    context = Transport(ISSUER, bundles=(str(world.sandbox.ca_file),)).adapter.trust.context()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


def test_old_tls_on_the_wire() -> None:
    """Security 3: a server that speaks TLS 1.1 only gets no request, and is refused for its protocol."""
    ca = trustme.CA()
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(old)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        ca.cert_pem.tempfile() as bundle,
        listening(lambda peer: old.wrap_socket(peer, server_side=True)) as port,
        Transport(ISSUER, bundles=(bundle,)) as transport,
        refused(Denied, "IssuerTLSProtocol"),
    ):
        transport.get(f"https://localhost:{port}/")


@dataclass(frozen=True)
class Ending:
    """How a handshake ends, and what is to be told of it."""

    flaw: Alert
    reason: str
    message: str
    hint: str
    kind: type[RotationError] = Denied


ENDINGS = [
    Ending("client-certificate", "TLSClientCertificate", "wants a client certificate", "without a certificate"),
    Ending("client-certificate-1.2", "TLSClientCertificate", "wants a client certificate", "by their secret"),
    Ending("protocol", "TLSProtocol", "TLS 1.2 or newer", "TLS 1.2 or 1.3 switched on"),
    Ending("cipher", "TLSCipher", "no cipher", "ECDHE"),
    Ending("name", "TLSName", "no host of this name", "correct the host"),
    Ending("internal-error", "TLSAlert", "internal error", "log of that server", Transient),
]


@everywhere
@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.flaw)
def test_fault_06_tls_alerts(world: Backend, name: str, ending: Ending) -> None:
    """Fault 6: a handshake that ends by an alert says nothing of a certificate; each has its reason and its advice."""
    service_of, ask = ASKS[name]
    with service_of(world).faults.add(Handshake(ending.flaw)), refused(ending.kind, name + ending.reason) as caught:
        ask(world, world.exchanger())
    assert ending.message in caught.value.message
    assert ending.hint in caught.value.hint
    assert "--ca-file" not in caught.value.hint
    ask(world, world.exchanger())


@pytest.mark.parametrize("alert", [each for each in ssl.AlertDescription if "CLOSE_NOTIFY" not in each.name])
def test_every_tls_alert(alert: ssl.AlertDescription) -> None:
    """RFC 8446 §6: whatever alert ends a handshake, it is not taken for a certificate that cannot be trusted."""
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    context.sni_callback = lambda *_: alert
    with (
        ca.cert_pem.tempfile() as bundle,
        listening(lambda peer: context.wrap_socket(peer, server_side=True)) as port,
        Transport(ISSUER, bundles=(bundle,)) as transport,
        pytest.raises(RotationError) as caught,
    ):
        transport.get(f"https://localhost:{port}/")
    check_showable(caught.value)
    assert caught.value.reason.startswith("IssuerTLS")
    assert caught.value.reason != "IssuerTLS"


@everywhere
@pytest.mark.parametrize(
    "line", ["SSH-2.0-canary_9.6", "220 canary ESMTP", "* OK canary IMAP4", "-ERR canary", "\x15\x03"]
)
def test_security_12_what_speaks_no_http_is_not_shown(world: Backend, name: str, line: str) -> None:
    """Security 12: the banner of a service that is no HTTP server reaches no message, whoever was asked."""
    service_of, ask = ASKS[name]
    with service_of(world).faults.add(Banner(line)), refused(Transient, "InvalidResponse") as caught:
        ask(world, world.exchanger())
    assert "does not speak HTTP" in caught.value.message
    assert "canary" not in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-canary\r\n",
        b"HTTP/1.1 canary\r\n\r\n",
        b"HTTP/9.9 200 canary\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3, canary, 4\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: canary\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\ncanary\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-Canary: canary\r\n" * 500 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"canary" * 30_000 + b"\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: https://[canary\r\nContent-Length: 0\r\n\r\n",
        b"canary",
    ],
    ids=range(10),
)
def test_security_12_nor_is_what_is_hardly_http(answer: bytes) -> None:
    """Security 12: libraries quote what they could not read; no such quotation leaves the transport."""

    def serve(peer: socket.socket) -> None:
        peer.recv(4096)
        peer.sendall(answer)

    with (
        listening(serve) as port,
        Transport(ISSUER) as transport,
    ):
        try:
            shown = str(transport.get(f"http://localhost:{port}/").status_code)
        except RotationError as error:
            check_showable(error)
            shown = f"{error.message} {error.hint}"
    assert "canary" not in shown.lower()


def test_a_hang_up_in_the_handshake_is_transient(world: Backend) -> None:
    """Fault 1: a peer that closes during the handshake has shown no certificate to distrust."""
    with (
        listening(lambda _: None) as port,
        Transport(ISSUER, bundles=(str(world.sandbox.ca_file),)) as transport,
        refused(Transient, "IssuerUnreachable"),
    ):
        transport.get(f"https://localhost:{port}/")
