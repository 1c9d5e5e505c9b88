"""The sandbox starts quickly, names itself, is logged, and leaves nothing behind."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from pathlib import Path

import pytest
import requests
from requests.exceptions import ConnectionError as NoConnection
from requests.exceptions import ProxyError

from credrotator.sandbox import Drip, Hang, PortTaken, RequestLog, Sandbox
from tests.sandbox.conftest import TIMEOUT_S, ask_for_token, trusting_session

DISCOVERY = "/.well-known/openid-configuration"


def sandbox_threads() -> list[str]:
    """Return the names of the threads that a sandbox started and that still run."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("sandbox-")]


def test_start_and_stop_are_quick_and_complete(tmp_path: Path) -> None:
    """Started in under a second's work; stopped while connections hang and drip, and say nothing; no thread is left."""
    before = sandbox_threads()
    began = time.process_time()
    with Sandbox(tmp_path) as sandbox, trusting_session(sandbox.ca_file) as http:
        assert time.process_time() - began < 1
        sandbox.issuer.faults.add(Hang(), path="/token")
        sandbox.issuer.faults.add(Drip(interval_s=60), path=DISCOVERY)
        clients = [
            threading.Thread(target=_ignore_failure, args=(http, f"{sandbox.issuer.url}{path}"))
            for path in ("/token", "/token", DISCOVERY)
        ]
        for client in clients:
            client.start()
        assert sandbox.issuer.requests.wait_for(lambda log: log.in_flight == 3)
        # Two that say nothing at all: one before TLS, one before HTTP.
        silent = socket.create_connection(("127.0.0.1", sandbox.sts.port))
    # It waited for none of them, who would wait for ever; they are told that it is over.
    silent.close()
    for client in clients:
        client.join(TIMEOUT_S)
    assert not any(client.is_alive() for client in clients)
    assert sandbox_threads() == before


def _ignore_failure(session: requests.Session, url: str) -> None:
    with pytest.raises(requests.RequestException):
        session.get(url, timeout=None)


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    """The error says which port of which server, and what to do; nothing stays running."""
    before = sandbox_threads()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"port {port} for the sandbox's sts is in use") as caught:
            Sandbox(tmp_path, sts_port=port).__enter__()
    assert caught.value.port == port
    assert sandbox_threads() == before


def test_a_constructor_does_nothing(tmp_path: Path) -> None:
    """Neither a file nor a port before the start."""
    Sandbox(tmp_path / "not-yet")
    assert not (tmp_path / "not-yet").exists()


def test_a_stopped_sandbox_starts_again_in_its_place(tmp_path: Path) -> None:
    """The same object keeps its ports and settings, with a new CA."""
    sandbox = Sandbox(tmp_path)
    with sandbox:
        url = sandbox.issuer.url
        first_ca = sandbox.ca_file.read_bytes()
    with sandbox, trusting_session(sandbox.ca_file) as http:
        assert sandbox.issuer.url == url
        assert ask_for_token(http, sandbox.issuer).ok
        assert sandbox.ca_file.read_bytes() != first_ca


def test_environment_names_the_servers(sandbox: Sandbox) -> None:
    """The variables are those that credrotator and the vendors' SDKs read."""
    environment = sandbox.environment()
    assert environment["AWS_ENDPOINT_URL_STS"] == sandbox.sts.url
    assert environment["AZURE_AUTHORITY_HOST"] == sandbox.entra.url
    assert environment["CREDROTATOR_ALLOWED_ISSUER"].split() == [sandbox.issuer.url, f"{sandbox.exchange.url}/token"]
    assert Path(environment["CREDROTATOR_CA_FILE"]).read_text().startswith("-----BEGIN CERTIFICATE-----")
    assert "localhost" in environment["NO_PROXY"].split(",")


def test_plain_http_issuer(tmp_path: Path) -> None:
    """Fault 4: an issuer in the clear names itself with http, and answers no one over TLS."""
    with Sandbox(tmp_path, issuer_scheme="http") as sandbox, trusting_session(sandbox.ca_file) as http:
        assert sandbox.issuer.url.startswith("http://")
        document = http.get(f"{sandbox.issuer.url}{DISCOVERY}", timeout=TIMEOUT_S).json()
        assert document["token_endpoint"].startswith("http://")
        assert ask_for_token(http, sandbox.issuer).ok
        secure = sandbox.issuer.url.replace("http:", "https:")
        assert http.get(f"{secure}{DISCOVERY}", timeout=TIMEOUT_S).status_code == 400


def test_es256(tmp_path: Path) -> None:
    """An issuer may sign with ES256, and the STS takes it."""
    with Sandbox(tmp_path, algorithm="ES256") as sandbox:
        token = sandbox.sts.issuers.verified(sandbox.issuer.issue("credrotator"))
        assert token.subject == "credrotator"


def test_connections_are_kept_alive(sandbox: Sandbox, http: requests.Session) -> None:
    """RFC 9112 §9.3: one connection serves many requests, errors among them."""
    for _ in range(3):
        assert ask_for_token(http, sandbox.issuer).ok
        assert http.get(f"{sandbox.issuer.url}/nothing", timeout=TIMEOUT_S).status_code == 404
    connections = [name for name in sandbox_threads() if name == "sandbox-issuer-connection"]
    assert len(connections) == 1


@pytest.mark.parametrize(
    ("version", "wish", "goes_on"),
    [("1.0", "", False), ("1.0", "keep-alive", True), ("1.1", "close", False), ("1.1", "", True)],
)
def test_connections_end_as_the_client_wishes(sandbox: Sandbox, version: str, wish: str, *, goes_on: bool) -> None:
    """RFC 9112 §9.3: HTTP/1.1 goes on unless told to close, HTTP/1.0 closes unless told to go on."""
    head = f"GET /nothing HTTP/{version}\r\nHost: localhost\r\n" + (f"Connection: {wish}\r\n" if wish else "")
    context = ssl.create_default_context(cafile=str(sandbox.ca_file))
    with (
        socket.create_connection(("127.0.0.1", sandbox.issuer.port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        secured.settimeout(TIMEOUT_S)
        secured.sendall(f"{head}\r\n{head}Connection: close\r\n\r\n".encode())
        assert _until_closed(secured).count(b"HTTP/1.1 404 ") == (2 if goes_on else 1)


def _until_closed(secured: ssl.SSLSocket) -> bytes:
    answer = b""
    while block := secured.recv(65_536):
        answer += block
    return answer


def test_bad_messages_end_the_connection(sandbox: Sandbox) -> None:
    """RFC 9112 §2.2, §6.3: what is no request, has no length or is too long, is answered 400 and closed."""
    context = ssl.create_default_context(cafile=str(sandbox.ca_file))
    for message in (
        b"hello\r\n\r\n",
        b"POST /token HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /token HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
        b"POST /token HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ):
        with (
            socket.create_connection(("127.0.0.1", sandbox.issuer.port)) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secured,
        ):
            secured.sendall(message)
            assert _until_closed(secured).startswith(b"HTTP/1.1 400 ")


def test_the_log_tells_what_was_asked(sandbox: Sandbox, http: requests.Session) -> None:
    """Method, path, query, form, headers and time of each request, in order; secrets stay out of its repr."""
    ask_for_token(http, sandbox.issuer, scope="azure", resource=["https://a/", "https://b/"])
    http.get(f"{sandbox.issuer.url}/jwks?x=1", timeout=TIMEOUT_S)
    token, jwks = sandbox.issuer.requests
    assert (token.method, token.path, token.form["scope"]) == ("POST", "/token", "azure")
    assert token.form.getlist("resource") == ["https://a/", "https://b/"]
    assert token.headers["Authorization"].startswith("Basic ")
    assert b"scope=azure" in token.body
    assert (jwks.method, jwks.query["x"], jwks.scheme) == ("GET", "1", "https")
    assert token.time <= jwks.time
    assert "Basic" not in repr(token)
    log: RequestLog = sandbox.issuer.requests
    assert (log.count(), log.count("/token"), log.count("/t*", "GET"), log.total, len(log)) == (2, 1, 0, 2, 2)
    log.clear()
    assert (len(log), log.total) == (0, 2)


def test_many_at_once(sandbox: Sandbox) -> None:
    """Sixteen clients at once are all served, and the log's peak shows how many there were."""
    sandbox.issuer.issue("credrotator")  # makes the key
    statuses: list[int] = []
    barrier = threading.Barrier(16)

    def client() -> None:
        with trusting_session(sandbox.ca_file) as http:
            barrier.wait(TIMEOUT_S)
            statuses.extend(ask_for_token(http, sandbox.issuer).status_code for _ in range(5))

    threads = [threading.Thread(target=client) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 80
    assert 1 <= sandbox.issuer.requests.peak_in_flight <= 16


def test_fault_49_proxy(sandbox: Sandbox, http: requests.Session) -> None:
    """Fault 49: a proxy tunnels, demands credentials, leads nowhere else, or is down; each looks different."""
    proxy = sandbox.add_proxy()
    url = f"{sandbox.issuer.url}{DISCOVERY}"

    def via(proxy_url: str, target: str = url) -> int:
        with trusting_session(sandbox.ca_file) as session:
            return session.get(target, proxies={"https": proxy_url}, timeout=TIMEOUT_S).status_code

    assert via(proxy.url) == 200
    assert proxy.targets == [f"localhost:{sandbox.issuer.port}"]
    proxy.credentials = ("user", "secret")
    with pytest.raises(ProxyError, match="407"):
        via(proxy.url)
    assert via(proxy.url.replace("//", "//user:secret@")) == 200
    proxy.credentials = None
    with pytest.raises(ProxyError, match="403"):
        via(proxy.url, "https://example.invalid/")
    proxy.stop()
    with pytest.raises(NoConnection, match="refused"):
        via(proxy.url)
    assert http.get(url, timeout=TIMEOUT_S).ok
