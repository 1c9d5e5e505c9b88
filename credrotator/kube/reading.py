"""One reading of a cluster, for commands that look once: policies, and the backends and routes that depend on them.

Secrets are not listed: what a policy refers to is read when it is needed, one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from credrotator.core.model import ObjectKey
from credrotator.kube import paths
from credrotator.kube.api_refusals import as_rotation_error
from credrotator.kube.client import resource_paths
from credrotator.kube.client.api import ApiError, KubeApi
from credrotator.kube.client.api_errors import FORBIDDEN, NOT_FOUND
from credrotator.kube.client.listing import items
from credrotator.kube.references import ClusterReferences
from credrotator.kube.source import Observed, Scope, observe, observe_asking
from credrotator.policies.inventory import Inventory, read_backend, read_route, secret_reader
from credrotator.policies.schema import KIND

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credrotator.core.ports import SecretReader
    from credrotator.kube.client.api_objects import Json
    from credrotator.policies.managed import FormReader


@dataclass
class ClusterInventory(Inventory):
    """An inventory whose Secrets and grants stay in the cluster until they are asked for."""

    references: ClusterReferences = field(kw_only=True)
    seen: dict[ObjectKey, Observed] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def reader(self, policy: ObjectKey) -> SecretReader:
        """See ``Inventory.reader``."""
        return secret_reader(self.references.for_policy(policy), policy)

    def observed(self, key: ObjectKey) -> Observed | None:
        """Return a policy with what its status said."""
        return self.seen.get(key)


def read_cluster(api: KubeApi, scope: Scope, policies: FormReader) -> tuple[ClusterInventory, list[str]]:
    """Read the policies in scope, and who depends on them; the second part is what could not be read.

    Raises:
        RotationError: The policies cannot be listed.
    """
    inventory = ClusterInventory(references=ClusterReferences(api))
    problems: list[str] = []
    for namespace in scope.namespaces or (None,):
        try:
            listed = list(items(api, paths.policies(scope.version, namespace), labelSelector=scope.selector))
        except ApiError as error:
            raise as_rotation_error(error, "list BackendSecurityPolicies") from error
        for manifest in listed:
            observed = observe(manifest, policies)
            inventory.seen[observed.policy.key] = observed
            inventory.add_policy(observed.policy)
            # Items of a list come without kind and apiVersion of their own (Kubernetes API concepts, "Collections").
            inventory.manifests[observed.policy.key] = {"kind": KIND, **manifest}
        for kind, path in (
            ("AIServiceBackends", paths.backends(scope.version, namespace)),
            ("AIGatewayRoutes", paths.routes(scope.version, namespace)),
        ):
            try:
                _add_dependants(inventory, kind, items(api, path))
            except ApiError as error:
                # A courtesy of status: without the right to read them, or the kind, the rest goes on.
                if error.status not in {NOT_FOUND, FORBIDDEN}:
                    raise as_rotation_error(error, f"list {kind}") from error
                problems.append(f"{kind} cannot be listed ({error.reason}); who depends on a policy is not shown")
        _add_asking(api, scope, policies, inventory, namespace)
    inventory.refuse_shared_secrets()
    return inventory, problems


def _add_asking(
    api: KubeApi, scope: Scope, policies: FormReader, inventory: ClusterInventory, namespace: str | None
) -> None:
    """Add the Secrets that ask for themselves; who may not list Secrets has the policies all the same."""
    try:
        for secret in items(api, resource_paths.secrets(namespace), labelSelector=scope.asking):
            observed = observe_asking(secret, policies)
            inventory.seen[observed.policy.key] = observed
            inventory.add_policy(observed.policy)
    except ApiError as error:
        if error.status != FORBIDDEN:
            raise as_rotation_error(error, "list Secrets that ask for themselves") from error
        where = f" in {namespace}" if namespace else ""
        inventory.notes.append(f"Secrets cannot be listed{where}; those that ask for themselves are left out")


def _add_dependants(inventory: Inventory, kind: str, listed: Iterator[Json]) -> None:
    for manifest in listed:
        key = ObjectKey(manifest["metadata"]["namespace"], manifest["metadata"]["name"])
        if kind == "AIServiceBackends":
            inventory.backends[key] = read_backend(manifest, key)
        else:
            inventory.routes[key] = read_route(manifest, key)
