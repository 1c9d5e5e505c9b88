"""Where things are on the API server.

Owns the paths of the resources that credrotator uses, and which version of the gateway's API is served. No state.
Source: Kubernetes API concepts, "Resource URIs"; reliability.md 32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from credrotator.core.errors import Denied, PolicyError, printable
from credrotator.kube.client.api_errors import NOT_FOUND, ApiError, as_rotation_error

if TYPE_CHECKING:
    from credrotator.core.model import ObjectKey
    from credrotator.kube.client.api import KubeApi

GATEWAY_GROUP: Final = "aigateway.envoyproxy.io"
GATEWAY_VERSIONS: Final = ("v1beta1", "v1alpha1")
"""Those that credrotator reads, the preferred one first."""
GRANT_GROUP: Final = "gateway.networking.k8s.io"
GRANT_VERSIONS: Final = ("v1", "v1beta1")
POLICIES: Final = "backendsecuritypolicies"
SELF_SUBJECT_ACCESS_REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


def policies(version: str, namespace: str | None = None) -> str:
    """Return the path of the BackendSecurityPolicies of a namespace, or of all."""
    return _collection(f"/apis/{GATEWAY_GROUP}/{version}", POLICIES, namespace)


def policy(version: str, key: ObjectKey) -> str:
    """Return the path of one BackendSecurityPolicy; its status is at ``/status`` below."""
    return _item(policies(version, key.namespace), key)


def backends(version: str, namespace: str | None = None) -> str:
    """Return the path of the AIServiceBackends of a namespace, or of all."""
    return _collection(f"/apis/{GATEWAY_GROUP}/{version}", "aiservicebackends", namespace)


def routes(version: str, namespace: str | None = None) -> str:
    """Return the path of the AIGatewayRoutes of a namespace, or of all."""
    return _collection(f"/apis/{GATEWAY_GROUP}/{version}", "aigatewayroutes", namespace)


def secrets(namespace: str | None = None) -> str:
    """Return the path of the Secrets of a namespace, or of all."""
    return _collection("/api/v1", "secrets", namespace)


def secret(key: ObjectKey) -> str:
    """Return the path of one Secret."""
    return _item(secrets(key.namespace), key)


def pods() -> str:
    """Return the path of the Pods of all namespaces."""
    return _collection("/api/v1", "pods", None)


def events(namespace: str | None = None) -> str:
    """Return the path of the core/v1 Events of a namespace, or of all."""
    return _collection("/api/v1", "events", namespace)


def event(key: ObjectKey) -> str:
    """Return the path of one Event."""
    return _item(events(key.namespace), key)


def leases(namespace: str) -> str:
    """Return the path of the Leases of a namespace."""
    return _collection("/apis/coordination.k8s.io/v1", "leases", namespace)


def lease(key: ObjectKey) -> str:
    """Return the path of one Lease."""
    return _item(leases(key.namespace), key)


def reference_grants(version: str, namespace: str | None = None) -> str:
    """Return the path of the Gateway API's ReferenceGrants in a namespace, or in all."""
    return _collection(f"/apis/{GRANT_GROUP}/{version}", "referencegrants", namespace)


def served_version(api: KubeApi) -> str:
    """Find the version of the gateway's API to speak with this server.

    Raises:
        RotationError: ``CrdMissing`` while the policies' definition is not installed, or the server's own refusal.
    """
    found = _served(api, GATEWAY_GROUP, POLICIES, GATEWAY_VERSIONS)
    if found is None:
        raise Denied(
            "CrdMissing",
            f"the cluster serves no {POLICIES} of {GATEWAY_GROUP} in {' or '.join(GATEWAY_VERSIONS)}",
            hint="install the custom resource definitions of Envoy AI Gateway",
        )
    return found


def served_grant_version(api: KubeApi) -> str | None:
    """Find the version of ReferenceGrants, None where the cluster has none (then nothing is granted).

    Raises:
        RotationError: The server's refusal.
    """
    return _served(api, GRANT_GROUP, "referencegrants", GRANT_VERSIONS)


def _served(api: KubeApi, group: str, resource: str, preferred: tuple[str, ...]) -> str | None:
    try:
        versions = {str(found.get("version")) for found in _get(api, f"/apis/{group}").get("versions") or ()}
        for version in preferred:
            if version in versions:
                listed = _get(api, f"/apis/{group}/{version}").get("resources") or ()
                if any(found.get("name") == resource for found in listed):
                    return version
    except ApiError as error:
        raise as_rotation_error(error, f"ask which versions of {group} are served") from error
    return None


def _get(api: KubeApi, path: str) -> dict[str, Any]:
    try:
        return api.get(path)
    except ApiError as error:
        if error.status == NOT_FOUND:
            return {}
        raise


def _collection(root: str, resource: str, namespace: str | None) -> str:
    return f"{root}/{resource}" if namespace is None else f"{root}/namespaces/{_segment(namespace)}/{resource}"


def _item(collection: str, key: ObjectKey) -> str:
    return f"{collection}/{_segment(key.name)}"


def _segment(text: str) -> str:
    """Quote a name, which may come from a policy: it must not lead to another resource's path."""
    if not text.strip("."):
        raise PolicyError("InvalidName", f"{printable(repr(text))} cannot be a name", hint="correct the reference")
    return quote(text, safe="")
