"""The HTTP server that stands where Bedrock and Azure OpenAI stand: it verifies, remembers, and answers in kind."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol

from tests.e2e.upstream.journal import Journal, Request, Verdict
from tests.support.parts.ports import free_port


class Verifier(Protocol):
    """Judges the credential of a request."""

    def verify(self, request: Request) -> Verdict:
        """Tell which credential a request used, and what is wrong with it."""


@dataclass(frozen=True)
class Upstream:
    """A running upstream."""

    port: int
    journal: Journal


_BEDROCK = {
    "output": {"message": {"role": "assistant", "content": [{"text": "hello"}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2},
}
_OPENAI = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "model",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "_Server"

    def do_POST(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, self._body())
        verifier = self.server.verifiers.get(request.host)
        verdict = verifier.verify(request) if verifier else Verdict("none", f"no backend {request.host}")
        self.server.journal.add(request.host, verdict)
        if verdict.fault:
            self._answer(verdict.status, {"message": verdict.fault})
        elif verdict.answer is not None:
            self._answer(HTTPStatus.OK, verdict.answer)
        else:
            self._answer(HTTPStatus.OK, _BEDROCK if self.path.endswith("/converse") else _OPENAI)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep quiet: the journal is the log."""

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        chunks = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    # Closing waits for the handlers, so the proxy in front has to hang up first.
    daemon_threads = False

    def __init__(self, port: int, verifiers: Mapping[str, Verifier]) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.verifiers = verifiers
        self.journal = Journal()


@contextmanager
def serving(verifiers: Mapping[str, Verifier]) -> Iterator[Upstream]:
    """Serve the backends that have a verifier, by host name; stop the proxy in front before the block ends."""
    with _Server(free_port(), verifiers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield Upstream(server.server_port, server.journal)
        finally:
            server.shutdown()
            thread.join()
