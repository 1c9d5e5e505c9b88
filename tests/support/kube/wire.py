"""HTTP for the simulated API server: connections, routing, answers, streams.

Owns the way from a request line to the rules in ``objects`` and back.
"""

from __future__ import annotations

import json
import time
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from tests.support.kube.faults import Request
from tests.support.kube.listening import HttpListener, cut
from tests.support.kube.objects import Change, Json, Refusal, Resource
from tests.support.kube.routing import NotServed, discovery, route
from tests.support.kube.selectors import matches

if TYPE_CHECKING:
    import ssl

    from tests.support.kube.simulator import ApiServer

MERGE_PATCH = "application/merge-patch+json"


class Dropped(Exception):
    """The connection is to be cut."""


class Listener(HttpListener):
    """The socket of a simulated server."""

    def __init__(self, server: ApiServer, tls: ssl.SSLContext | None) -> None:
        self.simulator = server
        super().__init__(Handler, tls)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: Listener

    def __getattr__(self, name: str) -> Any:
        """Serve all methods alike."""
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def log_message(self, *_: Any) -> None:
        """Keep quiet; the log is ``ApiServer.requests``."""

    def _serve(self) -> None:
        simulator = self.server.simulator
        request = self._parse()
        resource = route(simulator, request)
        simulator.requests.append(request)
        try:
            drop_after = self._meet_faults(request)
            found = self._answer(request, resource)
            if drop_after:
                self._cut()
            elif found is not None:
                self._send(request, 201 if request.verb == "create" else 200, found)
        except NotServed:
            self.send_error(404)
            request.status = 404
        except Refusal as refusal:
            self._send(request, refusal.status, refusal.body(), refusal.retry_after_s)
        except (Dropped, OSError):
            self._cut()

    def _cut(self) -> None:
        self.close_connection = True
        cut(self.connection)

    def _parse(self) -> Request:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        return Request(
            self.command,
            parts.path,
            dict(parse_qsl(parts.query)),
            self.headers.get("Authorization", "").removeprefix("Bearer "),
            content_type=self.headers.get("Content-Type", ""),
            body=json.loads(body) if body else None,
            headers=self.headers,
        )

    def _meet_faults(self, request: Request) -> bool:
        simulator = self.server.simulator
        drop_after = False
        for fault in simulator.faults_for(request):
            deadline = time.monotonic() + fault.delay_s
            with simulator.objects.changed:
                while fault.delay_s and simulator.active(fault) and (left := deadline - time.monotonic()) > 0:
                    simulator.objects.changed.wait(min(left, 60.0))
            if simulator.closing.is_set() or fault.drop == "before":
                raise Dropped
            if fault.status:
                reason = fault.reason or f"Status{fault.status}"
                raise Refusal(fault.status, reason, fault.message, retry_after_s=fault.retry_after_s)
            drop_after |= fault.drop == "after"
        if simulator.tokens is not None and request.user not in simulator.tokens:
            raise Refusal(401, "Unauthorized", "Unauthorized")
        if simulator.forbidden(request):
            where = f' in the namespace "{request.namespace}"' if request.namespace else " at the cluster scope"
            message = f'{request.resource} is forbidden: User "{request.user}" cannot {request.verb} resource{where}'
            raise Refusal(403, "Forbidden", message)
        return drop_after

    def _answer(self, request: Request, resource: Resource | None) -> Json | None:
        simulator = self.server.simulator
        if resource is None:
            return discovery(simulator, request)
        key = (request.namespace or "", request.name)
        if (request.resource, request.subresource) == ("serviceaccounts", "token"):
            simulator.objects.find(resource, key)
            return simulator.account_tokens.answer(*key, request.body)
        how: dict[str, Any] = {"dry_run": request.query.get("dryRun") == "All"}
        match request.verb:
            case "watch":
                self._watch(request, resource)
                return None
            case "list":
                items, metadata = simulator.objects.page(resource, request.namespace, request.query)
                shown = [_shown(item, request, resource, in_list=True) for item in items]
                return {"kind": f"{resource.kind}List", "apiVersion": _api_version(request, resource)} | {
                    "metadata": metadata,
                    "items": shown,
                }
            case "get":
                found = simulator.objects.find(resource, key)
            case "create":
                found = simulator.objects.create(resource, request.namespace or "", request.body, **how)
            case "update":
                found = simulator.objects.update(resource, key, request.body, subresource=request.subresource, **how)
            case "patch":
                if request.content_type != MERGE_PATCH:
                    raise Refusal(415, "UnsupportedMediaType", "only merge patches here")
                found = simulator.objects.patch(resource, key, request.body, subresource=request.subresource, **how)
            case _:
                simulator.objects.delete(resource, key, request.body, **how)
                return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
        return _shown(found, request, resource)

    def _send(self, request: Request, status: int, body: Json, retry_after_s: int | None = None) -> None:
        data = json.dumps(body).encode()
        request.status = status
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if retry_after_s is not None:
            self.send_header("Retry-After", str(retry_after_s))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def _watch(self, request: Request, resource: Resource) -> None:
        """Stream what happens from the request's resourceVersion on."""
        simulator, objects = self.server.simulator, self.server.simulator.objects
        wanted = request.query.get("resourceVersion", "")
        with objects.changed:
            epoch = simulator.watch_epoch
            first: list[Json] = []
            if wanted in {"", "0"}:
                seen = objects.revision
                first = [
                    {"type": "ADDED", "object": item}
                    for item in objects.select(resource, request.namespace, request.query)
                ]
            else:
                seen = int(wanted)
        gone = Refusal(410, "Expired", f"too old resource version: {seen} ({objects.oldest})")
        if seen < objects.oldest and not simulator.gone_as_event:
            raise gone
        request.status = 200
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        if seen < objects.oldest:
            self._chunk({"type": "ERROR", "object": gone.body()})
        else:
            for event in first:
                self._chunk({**event, "object": _shown(event["object"], request, resource)})
            self._follow(request, resource, seen, epoch)
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _follow(self, request: Request, resource: Resource, seen: int, epoch: int) -> None:
        simulator, objects = self.server.simulator, self.server.simulator.objects
        ends = time.monotonic() + float(request.query.get("timeoutSeconds", "1800"))
        bookmark = time.monotonic() + simulator.bookmark_every_s
        while self._goes_on(epoch):
            with objects.changed:
                now = time.monotonic()
                news = [] if simulator.silent else objects.since(seen)
                if simulator.silent or not (news or now >= min(ends, bookmark)):
                    if self._goes_on(epoch):
                        objects.changed.wait(60.0 if simulator.silent else min(ends, bookmark) - now)
                    continue
                seen = news[-1].revision if news else objects.revision
            for change in news:
                if change.plural == resource.plural and (event := _event(change, request)):
                    self._chunk({**event, "object": _shown(event["object"], request, resource)})
            if now >= min(ends, bookmark):
                bookmark = now + simulator.bookmark_every_s
                if request.query.get("allowWatchBookmarks") == "true":
                    place = {"metadata": {"resourceVersion": str(seen)}}
                    self._chunk({"type": "BOOKMARK", "object": _shown(place, request, resource)})
            if now >= ends:
                return

    def _goes_on(self, epoch: int) -> bool:
        simulator = self.server.simulator
        ended = simulator.watch_epoch != epoch and not simulator.silent
        if simulator.closing.is_set() or (ended and simulator.watch_end == "dropped"):
            raise Dropped
        return not ended

    def _chunk(self, event: Json) -> None:
        line = json.dumps(event).encode() + b"\n"
        self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
        self.wfile.flush()


def _event(change: Change, request: Request) -> Json | None:
    """Tell what a watch is told of a change: objects come and go by matching its selectors, too."""

    def selected(item: Json | None) -> bool:
        if item is None or request.namespace not in {None, item["metadata"]["namespace"]}:
            return False
        return matches(item, request.query)

    match selected(change.old), selected(change.new):
        case True, True:
            return {"type": "MODIFIED", "object": change.new}
        case False, True:
            return {"type": "ADDED", "object": change.new}
        case True, False:
            # As it was when it still matched, at the version at which it ceased to.
            old = change.old or {}
            return {
                "type": "DELETED",
                "object": {**old, "metadata": old["metadata"] | {"resourceVersion": str(change.revision)}},
            }
        case _:
            pass
    return None


def _shown(item: Json, request: Request, resource: Resource, *, in_list: bool = False) -> Json:
    # Items of a list of a built-in kind say neither kind nor apiVersion.
    named = (
        {}
        if in_list and not resource.custom
        else {"kind": resource.kind, "apiVersion": _api_version(request, resource)}
    )
    return named | {name: value for name, value in item.items() if name not in {"kind", "apiVersion"}}


def _api_version(request: Request, resource: Resource) -> str:
    return f"{resource.group}/{request.version}" if resource.group else request.version
