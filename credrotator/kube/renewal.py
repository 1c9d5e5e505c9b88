"""Asking for a renewal in a cluster: an annotation of the policy, which whoever rotates it takes as done once.

Owns the write. What the annotation means is planning's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.kube import paths
from credrotator.kube.api_refusals import as_rotation_error
from credrotator.kube.client import resource_paths
from credrotator.kube.client.api import ApiError
from credrotator.kube.store import MANAGER
from credrotator.policies.annotations import RENEW
from credrotator.policies.asking import asking_secret

if TYPE_CHECKING:
    from credrotator.core.model import ObjectKey
    from credrotator.kube.client.api import KubeApi


def request_renewal(api: KubeApi, version: str, key: ObjectKey, request: str) -> None:
    """Annotate a policy, or the Secret that asks for itself, with a request; the same one again is none.

    Raises:
        RotationError: The server refused, or cannot be reached.
    """
    secret = asking_secret(key)
    body = {"metadata": {"annotations": {RENEW: request}}}
    try:
        api.patch(resource_paths.secret(secret) if secret else paths.policy(version, key), body, fieldManager=MANAGER)
    except ApiError as error:
        what = f"Secret {secret}" if secret else f"BackendSecurityPolicy {key}"
        raise as_rotation_error(error, f"annotate {what}") from error
