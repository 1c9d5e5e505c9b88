"""Where Kubernetes' own resources are on the API server, and how a path of any resource is made. No state.

Source: Kubernetes API concepts, "Resource URIs"; reliability.md 32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from credrotator.core.errors import PolicyError, printable

if TYPE_CHECKING:
    from credrotator.core.model import ObjectKey

SELF_SUBJECT_ACCESS_REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


def secrets(namespace: str | None = None) -> str:
    """Return the path of the Secrets of a namespace, or of all."""
    return collection("/api/v1", "secrets", namespace)


def secret(key: ObjectKey) -> str:
    """Return the path of one Secret."""
    return item(secrets(key.namespace), key)


def service_account_token(account: ObjectKey) -> str:
    """Return the path at which tokens of a service account are requested."""
    return item(collection("/api/v1", "serviceaccounts", account.namespace), account) + "/token"


def pods() -> str:
    """Return the path of the Pods of all namespaces."""
    return collection("/api/v1", "pods", None)


def events(namespace: str | None = None) -> str:
    """Return the path of the core/v1 Events of a namespace, or of all."""
    return collection("/api/v1", "events", namespace)


def event(key: ObjectKey) -> str:
    """Return the path of one Event."""
    return item(events(key.namespace), key)


def leases(namespace: str) -> str:
    """Return the path of the Leases of a namespace."""
    return collection("/apis/coordination.k8s.io/v1", "leases", namespace)


def lease(key: ObjectKey) -> str:
    """Return the path of one Lease."""
    return item(leases(key.namespace), key)


def collection(root: str, resource: str, namespace: str | None) -> str:
    """Return the path of a kind's objects in a namespace, or in all.

    Args:
        root: Of the kind's group and version, such as ``/api/v1``.
        resource: Its plural, in small letters.
        namespace: None for all.
    """
    return f"{root}/{resource}" if namespace is None else f"{root}/namespaces/{_segment(namespace)}/{resource}"


def item(objects: str, key: ObjectKey) -> str:
    """Return the path of one object of a collection."""
    return f"{objects}/{_segment(key.name)}"


def _segment(text: str) -> str:
    """Quote a name, which may come from a stranger: it must not lead to another resource's path.

    Raises:
        PolicyError: It would, however quoted.
    """
    if not text.strip("."):
        raise PolicyError("InvalidName", f"{printable(repr(text))} cannot be a name", hint="correct the reference")
    return quote(text, safe="")
