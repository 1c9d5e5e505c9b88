"""The API server over plain HTTP: JSON in, JSON out, nothing between the test and what the server says."""

import json
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.support.parts.pki import KeyPair

Json = dict[str, Any]

_REQUEST_S = 30
_MERGE = "application/merge-patch+json"


@dataclass(frozen=True)
class Resource:
    """A kind of object, by the place where the API server keeps it."""

    api_version: str
    plural: str

    def path(self, namespace: str | None, name: str = "", subresource: str = "") -> str:
        """Return the path of the collection, of an object in it, or of a part of that object."""
        root = "api" if "/" not in self.api_version else "apis"
        scope = ("namespaces", namespace) if namespace else ()
        return "/" + "/".join(filter(None, (root, self.api_version, *scope, self.plural, name, subresource)))


@dataclass(frozen=True)
class Name:
    """Which object of a kind."""

    namespace: str
    name: str


class ApiError(Exception):
    """The API server refused a request; what it said is a Status object, or a line of text where it knows no path."""

    def __init__(self, status: int, answer: str) -> None:
        super().__init__(f"{status}: {answer}")
        self.status = status


class Api:
    """Requests to one API server as one user; each thread has connections of its own."""

    def __init__(self, url: str, ca: Path, user: KeyPair) -> None:
        self.url = url
        self._ca = ca
        self._user = user
        self._sessions: list[requests.Session] = []
        self._local = threading.local()

    def get(self, resource: Resource, at: Name) -> Json:
        return self._ask("GET", resource.path(at.namespace, at.name))

    def find(self, resource: Resource, at: Name) -> Json | None:
        """Return an object, or None if there is none of that name."""
        try:
            return self.get(resource, at)
        except ApiError as error:
            if error.status == requests.codes.not_found:
                return None
            raise

    def list(self, resource: Resource, namespace: str | None = None, **query: str) -> Json:
        return self._ask("GET", resource.path(namespace), query=query)

    def create(self, resource: Resource, manifest: Mapping[str, Any], subresource: str = "") -> Json:
        metadata = manifest["metadata"]
        name = metadata["name"] if subresource else ""
        return self._ask("POST", resource.path(metadata.get("namespace"), name, subresource), manifest)

    def replace(self, resource: Resource, manifest: Mapping[str, Any]) -> Json:
        metadata = manifest["metadata"]
        return self._ask("PUT", resource.path(metadata.get("namespace"), metadata["name"]), manifest)

    def patch(self, resource: Resource, at: Name, change: Mapping[str, Any]) -> Json:
        """Merge a change into an object (RFC 7386)."""
        return self._ask("PATCH", resource.path(at.namespace, at.name), change, kind=_MERGE)

    def delete(self, resource: Resource, at: Name) -> None:
        self._ask("DELETE", resource.path(at.namespace, at.name))

    def text(self, path: str) -> str:
        """Return what stands at a path that is no object: `/metrics`."""
        return self._request("GET", path).text

    def tls(self) -> ssl.SSLContext:
        """Return what a connection of another kind needs to be this user."""
        context = ssl.create_default_context(cafile=str(self._ca))
        context.load_cert_chain(self._user.certificate, self._user.key)
        return context

    def close(self) -> None:
        for session in self._sessions:
            session.close()

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        kind: str = "application/json",
    ) -> Json:
        answer = self._request(method, path, body, query=query, kind=kind)
        document: Json = answer.json()
        return document

    def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        kind: str = "application/json",
    ) -> requests.Response:
        answer = self._session().request(
            method,
            self.url + path,
            params=query,
            data=None if body is None else json.dumps(body),
            headers={"Content-Type": kind},
            timeout=_REQUEST_S,
        )
        if not answer.ok:
            raise ApiError(answer.status_code, answer.text)
        return answer

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            # REQUESTS_CA_BUNDLE and proxies are for the world outside; this server is neither.
            session.trust_env = False
            session.verify = str(self._ca)
            session.cert = (str(self._user.certificate), str(self._user.key))
            self._local.session = session
            self._sessions.append(session)
        return session
