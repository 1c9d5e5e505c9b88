"""The client: what it sends, what it makes of refusals and silence."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from credrotator.core.errors import Conflict, Denied, Forbidden, StoreAway, Transient
from credrotator.core.model import ObjectKey
from credrotator.kube.api_refusals import as_rotation_error
from credrotator.kube.client import resource_paths
from credrotator.kube.client.api import ApiError, KubeApi
from credrotator.kube.client.connection import Connection
from tests.support.kube.simulator import ApiServer, FixedToken
from tests.support.waiting import LIMIT_S, eventually

if TYPE_CHECKING:
    from pathlib import Path

SECRET = {"metadata": {"name": "one", "labels": {"app": "x"}}, "data": {"key": "dmFsdWU="}}
KEY = ObjectKey("default", "one")


def refusal(call: Any, *args: Any, **named: Any) -> ApiError:
    """Return the error that a call ends with."""
    with pytest.raises(ApiError) as raised:
        call(*args, **named)
    return raised.value


def test_objects_are_created_read_changed_and_deleted(api: KubeApi) -> None:
    """Each method is its verb; bodies are JSON, query parameters are the API's."""
    made = api.post(resource_paths.secrets("default"), SECRET, fieldManager="credrotator")
    assert api.get(resource_paths.secret(KEY)) == made
    put = api.put(resource_paths.secret(KEY), {**made, "data": {"key": "bmV3"}})
    assert put["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]
    assert api.patch(resource_paths.secret(KEY), {"data": {"more": "bW9yZQ=="}})["data"] == {
        "key": "bmV3",
        "more": "bW9yZQ==",
    }
    assert len(api.get(resource_paths.secrets(), labelSelector="app=x", fieldSelector="")["items"]) == 1
    api.delete(resource_paths.secret(KEY), {"preconditions": {"uid": made["metadata"]["uid"]}})
    assert api.get(resource_paths.secrets("default"))["items"] == []


def test_requests_say_who_asks_and_carry_their_parameters(server: ApiServer, api: KubeApi) -> None:
    """Token and parameters arrive; those without a value are left out; booleans are the API's."""
    api.post(resource_paths.secrets("default"), SECRET, dryRun="All", fieldManager=None, pretty=False)
    (seen,) = server.seen("create", "secrets")
    assert (seen.user, seen.query, seen.content_type) == (
        "tester",
        {"dryRun": "All", "pretty": "false"},
        "application/json",
    )
    assert server.items("secrets") == []


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (401, "Unauthorized", Denied),
        (403, "Forbidden", Forbidden),
        (404, "NotFound", Denied),
        (409, "Conflict", Conflict),
        (409, "AlreadyExists", Conflict),
        (422, "Invalid", Denied),
        (429, "TooManyRequests", Transient),
        (500, "InternalError", StoreAway),
        (503, "ServiceUnavailable", StoreAway),
    ],
)
def test_refusals_are_classed_by_what_to_do_next(
    server: ApiServer, api: KubeApi, status: int, reason: str, kind: type[Exception]
) -> None:
    """Rows 27 and 28: the Status object's reason and message are kept, and each status has its class."""
    server.fail(status, reason, "no\x1b[31m way")
    error = refusal(api.get, resource_paths.secret(KEY))
    assert (error.status, error.reason, error.message) == (status, reason, "no\\x1b[31m way")
    mapped = as_rotation_error(error, "read Secret default/one")
    assert type(mapped) is kind
    assert "cannot read Secret default/one" in str(mapped)
    assert not isinstance(mapped, Denied | Transient) or mapped.hint


def test_fault_27_a_quota_has_its_own_reason() -> None:
    """A quota answers 403 like a missing right, but somebody else has to do something else."""
    error = ApiError(403, "Forbidden", 'secrets "x" is forbidden: exceeded quota: small, requested: secrets=1')
    mapped = as_rotation_error(error, "write it")
    assert isinstance(mapped, Denied)
    assert mapped.reason == "QuotaExceeded"


def test_fault_28_retry_after_is_handed_on(server: ApiServer, api: KubeApi) -> None:
    """The server's wish for patience reaches the error, cut to what is sensible."""
    server.fail(429, "TooManyRequests", retry_after_s=7, times=1)
    server.fail(503, "ServiceUnavailable", retry_after_s=10**8, times=1)
    mapped = as_rotation_error(refusal(api.get, resource_paths.secret(KEY)), "read it")
    assert isinstance(mapped, Transient)
    assert mapped.retry_after == timedelta(seconds=7)
    assert refusal(api.get, resource_paths.secret(KEY)).retry_after == timedelta(minutes=5)


def test_a_refused_body_is_never_quoted(server: ApiServer, api: KubeApi) -> None:
    """Decoding errors may quote the object that was sent, which may be a Secret: their text is not passed on."""
    server.fail(400, "BadRequest", 'unable to decode: ...|"credentials":"c2VjcmV0"|...')
    assert "c2VjcmV0" not in str(refusal(api.post, resource_paths.secrets("default"), SECRET))


def test_fault_28_no_answer_in_time(server: ApiServer) -> None:
    """A server that does not answer costs the read timeout and no more; status 0 says that the outcome is unknown."""
    server.delay(float("inf"))
    with server.api(read_timeout_s=0.2) as api:
        error = refusal(api.put, resource_paths.secret(KEY), SECRET)
    assert (error.status, error.reason) == (0, "Timeout")
    assert len(server.seen("update")) == 1, "it waited once more"
    assert isinstance(as_rotation_error(error, "write it"), Transient)


def test_fault_28_a_write_may_be_applied_without_an_answer(server: ApiServer, api: KubeApi) -> None:
    """A connection that breaks after the write is not tried again by the client: the caller reads back."""
    server.drop("after", verb="create", times=1)
    error = refusal(api.post, resource_paths.secrets("default"), SECRET)
    assert (error.status, error.reason) == (0, "Disconnected")
    assert server.get("secrets", "one")
    assert len(server.seen("create")) == 1


def test_a_refused_connection_is_unreachable() -> None:
    """Nobody listening is status 0 as well."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with KubeApi(Connection(server=url, credentials=FixedToken("t"))) as api:
            error = refusal(api.get, "/version")
    assert (error.status, error.reason) == (0, "Unreachable")


def test_connections_are_kept(server: ApiServer, api: KubeApi) -> None:
    """Requests one after the other share a connection, refused ones too."""
    before = threading.active_count()
    for _ in range(5):
        api.get("/version")
        refusal(api.get, resource_paths.secret(KEY))
    # The server has a thread for each connection.
    assert threading.active_count() - before == 1


@pytest.mark.parametrize("body", [b"<html>log in</html>", b"[]", b"{", b"[" * 100_000])
def test_answers_that_are_no_objects_are_refused(body: bytes) -> None:
    """A login page in front of the API server is no answer of the API server."""
    with _Canned(body) as url, KubeApi(Connection(server=url, credentials=FixedToken("t"))) as api:
        assert refusal(api.get, "/version").reason == "InvalidResponse"


def test_an_answer_that_is_too_long_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body has a limit, for lists a generous one."""
    monkeypatch.setattr("credrotator.kube.client.api.BODY_LIMIT", 1000)
    with _Canned(b'"' + b"x" * 100_000 + b'"') as url, KubeApi(Connection(url, FixedToken("t"))) as api:
        error = refusal(api.get, "/version")
    assert (error.reason, "too long" in error.message) == ("InvalidResponse", True)


def test_redirects_are_not_followed() -> None:
    """The token goes to the server that the configuration names, nowhere else."""
    head = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    with _Canned(b"", head) as url, KubeApi(Connection(url, FixedToken("t"))) as api:
        assert refusal(api.get, "/version").status == 302


def test_names_cannot_lead_elsewhere() -> None:
    """A name out of a policy is quoted, and dots alone are refused: no reference reaches another resource."""
    assert resource_paths.secret(ObjectKey("a/b", "../../x?y")) == "/api/v1/namespaces/a%2Fb/secrets/..%2F..%2Fx%3Fy"
    for name in ("", ".", ".."):
        with pytest.raises(Exception, match="cannot be a name"):
            resource_paths.secret(ObjectKey("default", name))


class TestWatch:
    """A watch is a stream of events that ends in one of several ways."""

    def test_events_come_as_they_happen(self, server: ApiServer, api: KubeApi) -> None:
        """From the given resourceVersion on, in order."""
        start = api.get(resource_paths.secrets())["metadata"]["resourceVersion"]
        server.create("secrets", SECRET)
        with api.watch(resource_paths.secrets(), resourceVersion=start) as watch:
            assert next(watch)["type"] == "ADDED"
            server.patch("secrets", "one", {"data": {"key": "bmV3"}})
            assert next(watch)["type"] == "MODIFIED"
            server.delete("secrets", "one")
            assert next(watch)["type"] == "DELETED"
            server.end_watches()
            assert list(watch) == []

    def test_fault_29_silence_ends_in_a_timeout(self, server: ApiServer, api: KubeApi) -> None:
        """A half-open connection is noticed by the read timeout."""
        server.silent = True
        with api.watch(resource_paths.secrets(), resourceVersion="1000", read_timeout_s=0.2) as watch:
            assert refusal(next, watch).reason == "Timeout"

    def test_a_cut_connection_is_told_from_an_end(self, server: ApiServer, api: KubeApi) -> None:
        """Events may be missing after a break, so it is not an ordinary end."""
        with api.watch(resource_paths.secrets(), resourceVersion="1000") as watch:
            server.end_watches("dropped")
            assert refusal(next, watch).reason == "Disconnected"

    @pytest.mark.parametrize("as_event", [True, False])
    def test_fault_30_too_old_is_410_either_way(self, server: ApiServer, api: KubeApi, *, as_event: bool) -> None:
        """410 comes as an ERROR event or as the HTTP status; both are the same error."""
        server.compact()
        server.gone_as_event = as_event

        def watch() -> None:
            with api.watch(resource_paths.secrets(), resourceVersion="5") as events:
                next(events)

        error = refusal(watch)
        assert (error.status, error.reason) == (410, "Expired")

    def test_it_can_be_interrupted_while_it_waits(self, server: ApiServer, api: KubeApi) -> None:
        """Another thread can end a watch that blocks, at once and without an error."""
        watch = api.watch(resource_paths.secrets(), resourceVersion="1000")
        found: list[object] = []
        reader = threading.Thread(target=lambda: found.append(list(watch)))
        reader.start()
        eventually(lambda: server.seen("watch"))
        time.sleep(0.05)
        watch.interrupt()
        reader.join(LIMIT_S)
        assert found == [[]]

    def test_closing_the_client_ends_its_watches(self, server: ApiServer) -> None:
        """No watch outlives its client."""
        api = server.api()
        watch = api.watch(resource_paths.secrets(), resourceVersion="1000")
        api.close()
        assert list(watch) == []


class TestTls:
    """Certificates are verified, always."""

    def test_a_server_of_the_named_ca_is_trusted(self, tmp_path: Path) -> None:
        """The kubeconfig's CA is what counts, over TLS a watch works and can be interrupted, too."""
        authority, server_side = _certificates("127.0.0.1")
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        with ApiServer(tls=server_side) as server:
            config = server.kubeconfig(tmp_path / "config", cluster={"certificate-authority": "ca.pem"})
            with KubeApi.from_config(str(config)) as api:
                assert api.get("/version")["major"] == "1"
                watch = api.watch(resource_paths.secrets(), resourceVersion="1000")
                threading.Timer(0.1, watch.interrupt).start()
                assert list(watch) == []

    def test_any_other_is_not(self, tmp_path: Path) -> None:
        """A certificate of another CA, or for another name, is no answer."""
        authority, server_side = _certificates("another.example")
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
        with ApiServer(tls=server_side) as server:
            for ca, name, reason in [
                ("ca.pem", None, "TLS"),
                ("other.pem", "another.example", "TLS"),
                ("ca.pem", "another.example", ""),
            ]:
                entry = {"certificate-authority": ca} | ({"tls-server-name": name} if name else {})
                with KubeApi.from_config(str(server.kubeconfig(tmp_path / "config", cluster=entry))) as api:
                    if reason:
                        assert refusal(api.get, "/version").reason == reason
                    else:
                        api.get("/version")


def _certificates(name: str) -> tuple[trustme.CA, ssl.SSLContext]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return authority, context


class _Canned:
    """A server that gives one answer to the first request."""

    def __init__(self, body: bytes, head: bytes | None = None) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        head = head or b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        self._thread = threading.Thread(target=self._serve, args=(head + body,))

    def _serve(self, answer: bytes) -> None:
        connection, _ = self._socket.accept()
        with connection:
            connection.recv(65536)
            try:
                connection.sendall(answer)
            except ConnectionError:
                return

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._socket.close()
