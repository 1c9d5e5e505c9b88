"""The environment of the gateway's filters, in which some variables silently beat the credentials that are delivered.

The filter loads an AWS credential through the SDK's default chain, in which keys and a web identity of its own
environment come first. Envoy Gateway runs it beside each Envoy. Only looked at: nobody has to grant a right for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.core.errors import printable
from credrotator.kube.client import resource_paths

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from credrotator.kube.client.api import KubeApi

ENVOYS = "app.kubernetes.io/managed-by=envoy-gateway,app.kubernetes.io/component=proxy"
FILTER = "ai-gateway-extproc"
# One page says enough: the same Deployment's pods are alike.
PAGE = 500


def variables_that_beat(api: KubeApi, names: Collection[str]) -> Iterator[str]:
    """Find filters with one of these variables in their environment, as ``namespace/pod: NAME``; the first page does.

    Raises:
        ApiError: The server's refusal.
    """
    for pod in api.get(resource_paths.pods(), labelSelector=ENVOYS, limit=PAGE).get("items") or []:
        spec, metadata = pod.get("spec") or {}, pod["metadata"]
        # The filter may run as a native sidecar, which is an init container with restartPolicy Always.
        for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
            if container.get("name") != FILTER:
                continue
            variables = [each["name"] for each in container.get("env") or [] if each.get("name") in names]
            if variables:
                yield printable(f"{metadata['namespace']}/{metadata['name']}: {', '.join(variables)}")
