"""Where the gateway's resources are on the API server, and which versions of them it serves. No state.

Source: Envoy AI Gateway and Gateway API, their custom resource definitions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from credrotator.core.errors import Denied
from credrotator.kube.api_refusals import as_rotation_error
from credrotator.kube.client.api_errors import NOT_FOUND, ApiError
from credrotator.kube.client.resource_paths import collection, item

if TYPE_CHECKING:
    from credrotator.core.model import ObjectKey
    from credrotator.kube.client.api import KubeApi
    from credrotator.kube.client.api_objects import Json

GATEWAY_GROUP: Final = "aigateway.envoyproxy.io"
# v1alpha1 is all that v0.2 serves.
GATEWAY_VERSIONS: Final = ("v1beta1", "v1alpha1")
"""Those that credrotator reads, the preferred one first."""
GRANT_GROUP: Final = "gateway.networking.k8s.io"
GRANT_VERSIONS: Final = ("v1", "v1beta1")
POLICIES: Final = "backendsecuritypolicies"


def policies(version: str, namespace: str | None = None) -> str:
    """Return the path of the BackendSecurityPolicies of a namespace, or of all."""
    return collection(f"/apis/{GATEWAY_GROUP}/{version}", POLICIES, namespace)


def policy(version: str, key: ObjectKey) -> str:
    """Return the path of one BackendSecurityPolicy; its status is at ``/status`` below."""
    return item(policies(version, key.namespace), key)


def backends(version: str, namespace: str | None = None) -> str:
    """Return the path of the AIServiceBackends of a namespace, or of all."""
    return collection(f"/apis/{GATEWAY_GROUP}/{version}", "aiservicebackends", namespace)


def routes(version: str, namespace: str | None = None) -> str:
    """Return the path of the AIGatewayRoutes of a namespace, or of all."""
    return collection(f"/apis/{GATEWAY_GROUP}/{version}", "aigatewayroutes", namespace)


def reference_grants(version: str, namespace: str | None = None) -> str:
    """Return the path of the Gateway API's ReferenceGrants in a namespace, or in all."""
    return collection(f"/apis/{GRANT_GROUP}/{version}", "referencegrants", namespace)


def served_version(api: KubeApi) -> str:
    """Find the version of the gateway's API to speak with this server.

    Raises:
        RotationError: ``CrdMissing`` while the policies' definition is not installed, or the server's own refusal.
    """
    served = _served(api, GATEWAY_GROUP, POLICIES, GATEWAY_VERSIONS)
    if served is None:
        raise Denied(
            "CrdMissing",
            f"the cluster serves no {POLICIES} of {GATEWAY_GROUP} in {' or '.join(GATEWAY_VERSIONS)}",
            hint="install the custom resource definitions of Envoy AI Gateway",
        )
    return served


def served_grant_version(api: KubeApi) -> str | None:
    """Find the version of ReferenceGrants, None where the cluster has none (then nothing is granted).

    Raises:
        RotationError: The server's refusal.
    """
    return _served(api, GRANT_GROUP, "referencegrants", GRANT_VERSIONS)


def _served(api: KubeApi, group: str, resource: str, preferred: tuple[str, ...]) -> str | None:
    try:
        versions = {str(served.get("version")) for served in _get(api, f"/apis/{group}").get("versions") or ()}
        for version in preferred:
            if version in versions:
                # A group may be served without this resource in it, such as while CRDs are installed one after the
                # other.
                listed = _get(api, f"/apis/{group}/{version}").get("resources") or ()
                if any(served.get("name") == resource for served in listed):
                    return version
    except ApiError as error:
        raise as_rotation_error(error, f"ask which versions of {group} are served") from error
    return None


def _get(api: KubeApi, path: str) -> Json:
    try:
        return api.get(path)
    except ApiError as error:
        if error.status == NOT_FOUND:
            return {}
        raise
