"""A Kubernetes API server in this process, as an object that a test edits.

It speaks real HTTP on a loopback port; a test creates and changes objects, looks at the log of requests, and switches
faults on and off. The model is python-tuf's ``repository_simulator``. Rules live in ``objects``, HTTP in ``wire``.
"""

from __future__ import annotations

import threading
import time
from copy import deepcopy
from typing import TYPE_CHECKING, Literal, Self

import yaml

from credrotator.core.sensitive import Sensitive
from credrotator.kube.client.api import KubeApi
from credrotator.kube.client.connection import Connection
from tests.support.kube.accounts import AccountTokens
from tests.support.kube.faults import Fault, Match, Request
from tests.support.kube.objects import Json, Objects, Refusal, Resource, usual_resources
from tests.support.kube.wire import Listener
from tests.support.waiting import LIMIT_S

if TYPE_CHECKING:
    import ssl
    from pathlib import Path
    from types import TracebackType


class FixedToken:
    """A token that never changes."""

    def __init__(self, token: str) -> None:
        self._header = Sensitive(f"Bearer {token}")

    def read(self, *, afresh: bool) -> Sensitive:
        return self._header


class ApiServer:
    """The server; use it as a context manager.

    Attributes:
        resources: What is served, by plural; remove one, or change its versions, and it is not.
        objects: All objects and their history.
        schemas: OpenAPI documents, by ``group/version``; no others are served.
        account_tokens: Who signs tokens of service accounts.
        requests: The log.
        tokens: Accepted bearer tokens; None: any, and none at all. The token is the user's name in :class:`Match`.
        silent: Watches say nothing more, not even bookmarks, and do not end.
        gone_as_event: A watch that is too old gets 410 as an event rather than as the HTTP status.
        bookmark_every_s: How often watches are told the present resourceVersion.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.resources = {resource.plural: resource for resource in usual_resources()}
        self.objects = Objects()
        self.schemas: dict[str, Json] = {}
        self.account_tokens = AccountTokens()
        self.requests: list[Request] = []
        self.tokens: set[str] | None = None
        self.silent = False
        self.gone_as_event = True
        self.bookmark_every_s = 60.0
        self.closing = threading.Event()
        self.watch_epoch = 0
        self.watch_end: Literal["ended", "dropped"] = "ended"
        self._faults: list[Fault] = []
        self._forbidden: list[Match] = []
        self._listener = Listener(self, tls)
        self.url = self._listener.url

    def __enter__(self) -> Self:
        self._listener.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and cut all connections; port and objects are gone."""
        self.closing.set()
        with self.objects.changed:
            self.objects.changed.notify_all()
        self._listener.close()

    # How clients get here.

    def api(self, user: str = "tester", *, read_timeout_s: float = LIMIT_S) -> KubeApi:
        """Return a client; ``user`` is its token."""
        return KubeApi(Connection(server=self.url, credentials=FixedToken(user)), read_timeout_s=read_timeout_s)

    def kubeconfig(
        self, path: Path, *, namespace: str = "default", user: Json | None = None, cluster: Json | None = None
    ) -> Path:
        """Write a kubeconfig for it; ``user`` and ``cluster`` as they stand in one."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "simulated",
            "contexts": [
                {"name": "simulated", "context": {"cluster": "here", "user": "tester", "namespace": namespace}}
            ],
            "clusters": [{"name": "here", "cluster": {"server": self.url, **(cluster or {})}}],
            "users": [{"name": "tester", "user": {"token": "tester"} if user is None else user}],
        }
        path.write_text(yaml.safe_dump(config))
        return path

    # Objects, past HTTP, faults and the log.

    def create(self, plural: str, item: Json) -> Json:
        """Create an object, in its namespace or ``default``; a status is kept."""
        resource = self.resources[plural]
        namespace = item.get("metadata", {}).get("namespace", "default")
        created = self.objects.create(resource, namespace, item)
        if resource.custom and "status" in item:
            key = (namespace, created["metadata"]["name"])
            created = self.objects.patch(resource, key, {"status": item["status"]}, subresource="status")
        return deepcopy(created)

    def get(self, plural: str, name: str, namespace: str = "default") -> Json | None:
        """Return an object, None if there is none."""
        try:
            return deepcopy(self.objects.find(self.resources[plural], (namespace, name)))
        except Refusal:
            return None

    def items(self, plural: str, namespace: str | None = None) -> list[Json]:
        """Return all objects of a kind."""
        return deepcopy(self.objects.select(self.resources[plural], namespace, {}))

    def patch(self, plural: str, name: str, patch: Json, namespace: str = "default", *, subresource: str = "") -> Json:
        """Change an object by a merge patch."""
        found = self.objects.patch(self.resources[plural], (namespace, name), patch, subresource=subresource)
        return deepcopy(found)

    def delete(self, plural: str, name: str, namespace: str = "default") -> None:
        """Delete an object."""
        self.objects.delete(self.resources[plural], (namespace, name))

    def collect_garbage(self) -> int:
        """Delete what is owned only by objects that are gone, as the garbage collector would; return how many."""
        everything = [(plural, item) for plural in self.resources for item in self.items(plural)]
        alive = {item["metadata"]["uid"] for _, item in everything}
        orphans = [
            (plural, item["metadata"])
            for plural, item in everything
            if (owners := item["metadata"].get("ownerReferences"))
            and alive.isdisjoint(owner["uid"] for owner in owners)
        ]
        for plural, metadata in orphans:
            self.delete(plural, metadata["name"], metadata["namespace"])
        return len(orphans)

    def serve(self, plural: str, kind: str, group: str, *versions: str) -> None:
        """Serve one more custom resource."""
        self.resources[plural] = Resource(plural, kind, group, list(versions), custom=True)

    # The log.

    def seen(self, verb: str = "*", resource: str = "*", **match: str) -> list[Request]:
        """Return the requests so far that match, refused ones too; see :class:`Match`."""
        wanted = Match(verb, resource, **match)
        return [request for request in list(self.requests) if wanted.covers(request)]

    def wait_for(self, count: int, verb: str = "*", resource: str = "*", *, within_s: float = LIMIT_S) -> list[Request]:
        """Wait until so many requests of a kind were seen.

        Raises:
            AssertionError: They were not.
        """
        deadline = time.monotonic() + within_s
        while len(found := self.seen(verb, resource)) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} requests: {verb} {resource}"
            time.sleep(0.005)
        return found

    # Faults.

    def fail(
        self,
        status: int,
        reason: str = "",
        message: str = "as the test wants it",
        *,
        times: int | None = None,
        retry_after_s: int | None = None,
        **match: str,
    ) -> Fault:
        """Answer matching requests with a refusal, without doing them."""
        return self._add(Fault(Match(**match), times, status, reason, message=message, retry_after_s=retry_after_s))

    def delay(self, seconds: float, *, times: int | None = None, **match: str) -> Fault:
        """Let matching requests wait before they are done; ``inf`` until healed."""
        return self._add(Fault(Match(**match), times, delay_s=seconds))

    def drop(self, when: Literal["before", "after"] = "before", *, times: int | None = None, **match: str) -> Fault:
        """Close the connection of matching requests without an answer; ``after``: what they ask for was done."""
        return self._add(Fault(Match(**match), times, drop=when))

    def heal(self, fault: Fault | None = None) -> None:
        """End one fault, or all."""
        with self.objects.changed:
            self._faults = [] if fault is None else [found for found in self._faults if found is not fault]
            if fault is None:
                self.silent = False
            self.objects.changed.notify_all()

    def forbid(self, verb: str = "*", resource: str = "*", namespace: str | None = None) -> None:
        """Take a right away from everybody."""
        self._forbidden.append(Match(verb, resource, namespace))

    def permit(self) -> None:
        """Give all rights back."""
        self._forbidden.clear()

    def compact(self) -> None:
        """Forget the history: a watch from an older resourceVersion gets 410."""
        self.objects.compact()

    def end_watches(self, how: Literal["ended", "dropped"] = "ended") -> None:
        """End all watches: properly, or by cutting their connections."""
        with self.objects.changed:
            self.watch_end = how
            self.watch_epoch += 1
            self.objects.changed.notify_all()

    # For the wire.

    def forbidden(self, request: Request) -> bool:
        """Tell whether a right is missing."""
        return any(match.covers(request) for match in self._forbidden)

    def faults_for(self, request: Request) -> list[Fault]:
        """Take the faults that apply to a request, up to the first that decides its fate."""
        taken: list[Fault] = []
        with self.objects.changed:
            for fault in self._faults:
                if fault.match.covers(request) and (fault.times is None or fault.taken < fault.times):
                    fault.taken += 1
                    taken.append(fault)
                    if fault.status or fault.drop:
                        break
        return taken

    def active(self, fault: Fault) -> bool:
        """Tell whether a fault was not healed yet."""
        return fault in self._faults and not self.closing.is_set()

    def _add(self, fault: Fault) -> Fault:
        with self.objects.changed:
            self._faults.append(fault)
        return fault
