"""The objects of the simulated API server, and the rules by which they change.

Owns resourceVersion, uid, generation, the status subresource, selectors, and the history that watches read. Must not
know HTTP. Source: Kubernetes API concepts and conventions; compared with API server 1.37.
"""

from __future__ import annotations

import base64
import binascii
import copy
import json
import re
import threading
import uuid
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.support.kube.selectors import matches

Json = dict[str, Any]
Key = tuple[str, str]

GATEWAY = "aigateway.envoyproxy.io"
KEPT = ("uid", "creationTimestamp", "generation", "name", "namespace", "deletionTimestamp")
MICRO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)")


class Refusal(Exception):
    """An answer that is a Status object."""

    def __init__(self, status: int, reason: str, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message
        self.retry_after_s = retry_after_s

    def body(self) -> Json:
        details = {"retryAfterSeconds": self.retry_after_s} if self.retry_after_s else {}
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            **({"reason": self.reason} if self.reason else {}),
            "details": details,
            "code": self.status,
        }


@dataclass(slots=True)
class Resource:
    """A resource that is served; a test may change ``versions``."""

    plural: str
    kind: str
    group: str
    versions: list[str]
    custom: bool = False

    @property
    def title(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the history."""

    revision: int
    plural: str
    old: Json | None
    new: Json | None


def usual_resources() -> list[Resource]:
    """Return what a cluster with the gateway serves, as far as credrotator cares."""
    gateway = ["v1beta1", "v1alpha1"]
    return [
        Resource("secrets", "Secret", "", ["v1"]),
        Resource("events", "Event", "", ["v1"]),
        Resource("pods", "Pod", "", ["v1"]),
        Resource("serviceaccounts", "ServiceAccount", "", ["v1"]),
        Resource("configmaps", "ConfigMap", "", ["v1"]),
        Resource("leases", "Lease", "coordination.k8s.io", ["v1"]),
        Resource("backendsecuritypolicies", "BackendSecurityPolicy", GATEWAY, [*gateway], custom=True),
        Resource("aiservicebackends", "AIServiceBackend", GATEWAY, [*gateway], custom=True),
        Resource("aigatewayroutes", "AIGatewayRoute", GATEWAY, [*gateway], custom=True),
        Resource("referencegrants", "ReferenceGrant", "gateway.networking.k8s.io", ["v1", "v1beta1"], custom=True),
        Resource("gateways", "Gateway", "gateway.networking.k8s.io", ["v1"], custom=True),
    ]


class Objects:
    """All objects, and what happened to them. ``changed`` guards everything and is notified at each change."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.revision = 1000
        self.oldest = 0
        self.history: list[Change] = []
        self._items: dict[str, dict[Key, Json]] = {}
        self._snapshots: dict[int, list[Json]] = {}

    def find(self, resource: Resource, key: Key) -> Json:
        with self.changed:
            found = self._items.get(resource.plural, {}).get(key)
        if found is None:
            raise Refusal(404, "NotFound", f'{resource.title} "{key[1]}" not found')
        return found

    def select(self, resource: Resource, namespace: str | None, query: dict[str, str]) -> list[Json]:
        with self.changed:
            items = sorted(self._items.get(resource.plural, {}).items())
        return [item for (within, _), item in items if namespace in {None, within} and matches(item, query)]

    def page(self, resource: Resource, namespace: str | None, query: dict[str, str]) -> tuple[list[Json], Json]:
        """Return one page of a list, from one moment, and the list's metadata."""
        limit = int(query.get("limit", "0"))
        with self.changed:
            if token := query.get("continue"):
                revision, start = json.loads(base64.urlsafe_b64decode(token))
                if revision not in self._snapshots:
                    raise Refusal(410, "Expired", "The provided continue parameter is too old")
            else:
                revision, start = self.revision, 0
                self._snapshots[revision] = self.select(resource, namespace, query)
            found = self._snapshots[revision]
        page = found[start : start + limit] if limit else found[start:]
        metadata: Json = {"resourceVersion": str(revision)} | ({"continue": ""} if resource.custom else {})
        if start + len(page) < len(found):
            token = base64.urlsafe_b64encode(json.dumps([revision, start + len(page)]).encode()).decode()
            metadata |= {"continue": token, "remainingItemCount": len(found) - start - len(page)}
        return page, metadata

    def since(self, revision: int) -> list[Change]:
        """Return what happened after ``revision``. Needs ``changed``."""
        return self.history[bisect_right(self.history, revision, key=lambda change: change.revision) :]

    def compact(self) -> None:
        """Forget the history: watches from before now are too old, and so are continue tokens."""
        with self.changed:
            self.revision += 1
            self.oldest = self.revision
            self._snapshots.clear()

    def create(self, resource: Resource, namespace: str, body: Json, *, dry_run: bool = False) -> Json:
        new = copy.deepcopy(body)
        metadata = new.setdefault("metadata", {})
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + uuid.uuid4().hex[:5]
        if not metadata.get("name"):
            raise Refusal(422, "Invalid", f'{resource.kind} "" is invalid: metadata.name: Required value')
        if metadata.setdefault("namespace", namespace) != namespace:
            raise Refusal(400, "BadRequest", "the namespace of the object does not match the namespace on the request")
        if metadata.get("resourceVersion"):
            raise Refusal(500, "", "resourceVersion should not be set on objects to be created")
        if resource.custom:
            new.pop("status", None)
            metadata["generation"] = 1
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        _check(resource, None, new)
        key = (namespace, metadata["name"])
        with self.changed:
            if key in self._items.get(resource.plural, {}):
                raise Refusal(409, "AlreadyExists", f'{resource.title} "{key[1]}" already exists')
            return self._commit(resource, key, None, new, dry_run=dry_run)

    def update(self, resource: Resource, key: Key, body: Json, *, subresource: str = "", dry_run: bool = False) -> Json:
        """Replace an object, or its status; unchanged, it keeps its resourceVersion."""
        with self.changed:
            old = self.find(resource, key)
            wanted = body.get("metadata", {}).get("resourceVersion")
            if wanted and wanted != old["metadata"]["resourceVersion"]:
                message = "the object has been modified; please apply your changes to the latest version and try again"
                raise Refusal(
                    409, "Conflict", f'Operation cannot be fulfilled on {resource.title} "{key[1]}": {message}'
                )
            if body.get("metadata", {}).get("uid", old["metadata"]["uid"]) != old["metadata"]["uid"]:
                raise Refusal(409, "Conflict", f'Precondition failed: UID of "{key[1]}" differs')
            new = _merged(resource, old, body, subresource)
            _check(resource, old, new)
            if _content(new) == _content(old):
                return old
            if resource.custom and _spec(new) != _spec(old):
                new["metadata"]["generation"] += 1
            return self._commit(resource, key, old, new, dry_run=dry_run)

    def patch(self, resource: Resource, key: Key, patch: Json, *, subresource: str = "", dry_run: bool = False) -> Json:
        """Apply a JSON merge patch (RFC 7396)."""
        with self.changed:
            old = copy.deepcopy(self.find(resource, key))
            if patch.get("metadata", {}).get("uid", old["metadata"]["uid"]) != old["metadata"]["uid"]:
                raise Refusal(422, "Invalid", "metadata.uid: Invalid value: field is immutable")
            if not patch.get("metadata", {}).get("resourceVersion"):
                del old["metadata"]["resourceVersion"]
            return self.update(resource, key, merge_patch(old, patch), subresource=subresource, dry_run=dry_run)

    def delete(self, resource: Resource, key: Key, options: Json | None = None, *, dry_run: bool = False) -> Json:
        with self.changed:
            old = self.find(resource, key)
            for field, wanted in ((options or {}).get("preconditions") or {}).items():
                if old["metadata"][field] != wanted:
                    raise Refusal(409, "Conflict", f"Precondition failed: {field} differs")
            if not dry_run:
                self._commit(resource, key, old, None)
            return old

    def _commit(
        self, resource: Resource, key: Key, old: Json | None, new: Json | None, *, dry_run: bool = False
    ) -> Json:
        if dry_run:
            return new or {}
        self.revision += 1
        last = copy.deepcopy(new or old or {})
        last["metadata"]["resourceVersion"] = str(self.revision)
        items = self._items.setdefault(resource.plural, {})
        if new is None:
            del items[key]
            # The event of a deletion carries the object as it last was, at the revision of the deletion.
            self.history.append(Change(self.revision, resource.plural, last, None))
        else:
            items[key] = last
            self.history.append(Change(self.revision, resource.plural, old, last))
        self.changed.notify_all()
        return last


def merge_patch(target: Any, patch: Any) -> Any:
    """Merge as RFC 7396 says."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def _merged(resource: Resource, old: Json, body: Json, subresource: str) -> Json:
    if subresource:
        new = copy.deepcopy(old)
        new.pop("status", None)
        return new | ({"status": copy.deepcopy(body["status"])} if "status" in body else {})
    new = copy.deepcopy(body)
    metadata = new.setdefault("metadata", {})
    metadata |= {name: old["metadata"][name] for name in KEPT if name in old["metadata"]}
    if resource.custom:
        new.pop("status", None)
        new |= {"status": old["status"]} if "status" in old else {}
    return new


def _content(item: Json) -> Json:
    metadata = {name: value for name, value in item["metadata"].items() if name != "resourceVersion" and value}
    return {name: value for name, value in item.items() if name not in {"apiVersion", "kind"}} | {"metadata": metadata}


def _spec(item: Json) -> Json:
    return {name: value for name, value in _content(item).items() if name not in {"metadata", "status"}}


def _check(resource: Resource, old: Json | None, new: Json) -> None:
    for field in ("annotations", "labels"):
        if any(not isinstance(value, str) for value in (new["metadata"].get(field) or {}).values()):
            raise Refusal(400, "BadRequest", f"{resource.kind} in version cannot be handled: {field} are strings")
    if resource.plural == "secrets":
        _check_secret(old, new)
    if resource.plural == "leases":
        for field in ("renewTime", "acquireTime"):
            if (time := new.get("spec", {}).get(field)) is not None and not MICRO_TIME.fullmatch(time):
                raise Refusal(400, "BadRequest", f'Lease in version "v1" cannot be handled: parsing time "{time}"')
        if new.get("spec", {}).get("leaseDurationSeconds", 1) <= 0:
            raise Refusal(422, "Invalid", "spec.leaseDurationSeconds: Invalid value: must be greater than 0")


def _check_secret(old: Json | None, new: Json) -> None:
    new.setdefault("type", "Opaque")
    for name, text in (new.pop("stringData", None) or {}).items():
        new.setdefault("data", {})[name] = base64.b64encode(text.encode()).decode()
    for value in (new.get("data") or {}).values():
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise Refusal(400, "BadRequest", "Secret cannot be handled: illegal base64 data") from error
    if old is None:
        return
    if old["type"] != new["type"]:
        raise Refusal(422, "Invalid", f'Secret "{new["metadata"]["name"]}" is invalid: type: field is immutable')
    if old.get("immutable") and (old.get("data") != new.get("data") or not new.get("immutable")):
        message = "data: Forbidden: field is immutable when `immutable` is set"
        raise Refusal(422, "Invalid", f'Secret "{new["metadata"]["name"]}" is invalid: {message}')
