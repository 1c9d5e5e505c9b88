"""Asks the API server what its ``v1alpha1`` of the gateway's API has. No state.

Source: Kubernetes API concepts, "OpenAPI V3"; any account may read it (ClusterRole ``system:discovery``).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from credrotator.core.errors import printable
from credrotator.kube.client.api_errors import ApiError
from credrotator.kube.paths import GATEWAY_GROUP
from credrotator.policies.schema import KIND
from credrotator.policies.served import ServedSchema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credrotator.kube.client.api import KubeApi

log = logging.getLogger(__name__)

VERSION: Final = "v1alpha1"


def read_schema(api: KubeApi, version: str) -> ServedSchema | None:
    """Ask what a version of the gateway's API has; None where releases do not differ, or the server does not tell.

    To know it only makes judgements sharper, so a refusal is no failure.
    """
    if version != VERSION:
        return None
    try:
        document = api.get(f"/openapi/v3/apis/{GATEWAY_GROUP}/{version}")
    except ApiError as error:
        log.info("the schema of %s is not told: %s", version, printable(str(error)))
        return None
    return next(_schemas(document), None)


def _schemas(document: object) -> Iterator[ServedSchema]:
    """Find the policy's spec in an OpenAPI document; the server wrote it, but a proxy may have answered."""
    components = _dict(_dict(_dict(document).get("components")).get("schemas"))
    for name, shape in components.items():
        if str(name).rpartition(".")[2] != KIND:
            continue
        spec = _dict(_dict(_dict(_dict(shape).get("properties")).get("spec")).get("properties"))
        listed = _dict(spec.get("type")).get("enum")
        types = tuple(kind for kind in listed if isinstance(kind, str)) if isinstance(listed, list) else ()
        if types:
            yield ServedSchema(types, "targetRefs" in spec)


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
