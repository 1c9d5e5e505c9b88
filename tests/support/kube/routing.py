"""Which resource a request means, and what is served at all.

Owns paths, discovery and SelfSubjectAccessReviews of the simulated API server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

from tests.support.kube.faults import Request

if TYPE_CHECKING:
    from tests.support.kube.objects import Json, Resource
    from tests.support.kube.simulator import ApiServer

VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class NotServed(Exception):
    """Nothing is served there: 404 without a Status object, as the real server has it."""


def route(simulator: ApiServer, request: Request) -> Resource | None:
    """Fill in what the path means; None: no resource that is served."""
    group = read_path(request)
    resource = simulator.resources.get(request.resource)
    if resource is None or resource.group != group or request.version not in resource.versions:
        return None
    return resource


def read_path(request: Request) -> str:
    """Fill in what the path means, as far as it means a resource; return the API group."""
    root, *parts = [unquote(part) for part in request.path.strip("/").split("/")]
    group = parts.pop(0) if root == "apis" and parts else ""
    request.version = parts.pop(0) if parts else ""
    if len(parts) > 2 and parts[0] == "namespaces":
        request.namespace, parts = parts[1], parts[2:]
    if not parts:
        return group
    request.resource = parts[0]
    request.name = parts[1] if len(parts) > 1 else ""
    request.subresource = parts[2] if len(parts) > 2 else ""
    collection = "watch" if request.query.get("watch") == "true" else "list"
    request.verb = VERBS.get(request.method, "get" if request.name else collection)
    return group


def discovery(simulator: ApiServer, request: Request) -> Json:
    """Answer what is served, and what the asker may do.

    Raises:
        NotServed: Everything else.
    """
    match request.path.strip("/").split("/"):
        case ["version"]:
            return {"major": "1", "minor": "37", "gitVersion": "v1.37.2"}
        case ["apis", "authorization.k8s.io", "v1", "selfsubjectaccessreviews"] if request.method == "POST":
            return _review(simulator, request)
        case ["apis", group]:
            if served := _versions(simulator, group):
                versions = [{"groupVersion": f"{group}/{version}", "version": version} for version in served]
                return {"kind": "APIGroup", "name": group, "versions": versions, "preferredVersion": versions[0]}
        case ["apis", group, version] if version in _versions(simulator, group):
            return _resource_list(simulator, group, version)
        case ["openapi", "v3", "apis", group, version] if shape := simulator.schemas.get(f"{group}/{version}"):
            return shape
        case ["api", "v1"]:
            return _resource_list(simulator, "", "v1")
        case _:
            pass
    raise NotServed


def _versions(simulator: ApiServer, group: str) -> list[str]:
    found = [version for served in simulator.resources.values() if served.group == group for version in served.versions]
    return list(dict.fromkeys(found))


def _resource_list(simulator: ApiServer, group: str, version: str) -> Json:
    served = [found for found in simulator.resources.values() if found.group == group and version in found.versions]
    resources = [{"name": found.plural, "namespaced": True, "kind": found.kind} for found in served]
    return {"kind": "APIResourceList", "groupVersion": f"{group}/{version}".strip("/"), "resources": resources}


def _review(simulator: ApiServer, request: Request) -> Json:
    asked = request.body["spec"]["resourceAttributes"]
    resource = asked["resource"]
    namespace = asked.get("namespace") or None
    wish = Request("", "", {}, request.user, asked["verb"], resource, namespace, asked.get("name", ""))
    wish.subresource = asked.get("subresource", "")
    return {**request.body, "status": {"allowed": not simulator.forbidden(wish)}}
