"""What this account may do in the cluster, asked before it is needed.

Source: Kubernetes API, SelfSubjectAccessReview.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from credrotator.core.errors import printable
from credrotator.kube import paths
from credrotator.kube.client import resource_paths
from credrotator.kube.client.api import ApiError, KubeApi
from credrotator.kube.delivery import TRANSIENT_SECRETS
from credrotator.kube.filter_config import config_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from credrotator.core.model import ObjectKey

CORE, COORDINATION = "", "coordination.k8s.io"
IN_EACH_NAMESPACE = (
    (paths.GATEWAY_GROUP, "backendsecuritypolicies", ("get", "list", "watch")),
    (paths.GATEWAY_GROUP, "backendsecuritypolicies/status", ("patch",)),
    (CORE, "secrets", ("get", "list", "watch", "create", "update")),
    (CORE, f"secrets {TRANSIENT_SECRETS[0]}", ("delete",)),
    (CORE, "events", ("create", "patch")),
    (paths.GRANT_GROUP, "referencegrants", ("list",)),
)


@dataclass(frozen=True, slots=True)
class Right:
    """One question and its answer.

    Attributes:
        what: The question.
        namespace: Whose policies depend on it; None for all.
        missing: The verbs that are not granted.
        trouble: Why it could not be asked.
    """

    what: str
    namespace: str | None
    missing: tuple[str, ...]
    trouble: str = ""

    @property
    def lack(self) -> str:
        """What is wrong with it, for people; empty where it is granted."""
        return f"missing: {', '.join(self.missing)}" if self.missing else self.trouble


def check_rights(api: KubeApi, namespaces: Iterable[str | None], lease: ObjectKey) -> Iterator[Right]:
    """Ask for everything that the daemon does; a namespace of None means all of them."""
    for namespace in namespaces:
        for group, resource, verbs in IN_EACH_NAMESPACE:
            yield _right(api, namespace, group, resource, verbs)
    # By its name, since a role may be tied to that; what is yet to be created has no name to be tied to.
    for resource, verbs in ((f"leases {lease.name}", ("get", "update")), ("leases", ("create",))):
        yield replace(_right(api, lease.namespace, COORDINATION, resource, verbs), namespace=None)


def check_filter_rights(api: KubeApi, gateways: Iterable[ObjectKey], namespace: str) -> Iterator[Right]:
    """Ask for what verified delivery reads: the configuration of these Gateways' filters, in either form, by name."""
    for gateway in gateways:
        names = config_names(gateway)
        for name in (names.whole, names.index):
            yield replace(_right(api, namespace, CORE, f"secrets {name}", ("get",)), namespace=None)


def check_account_right(api: KubeApi, account: ObjectKey) -> Right:
    """Ask for what a policy needs that names a service account."""
    return _right(api, account.namespace, CORE, f"serviceaccounts/token {account.name}", ("create",))


def _right(api: KubeApi, namespace: str | None, group: str, resource: str, verbs: tuple[str, ...]) -> Right:
    plural, _, item = resource.partition(" ")
    plural, _, subresource = plural.partition("/")
    where = f"in {namespace}" if namespace else "in all namespaces"
    missing = []
    for verb in verbs:
        attributes = {"group": group, "resource": plural, "subresource": subresource, "name": item, "verb": verb}
        if namespace:
            attributes["namespace"] = namespace
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        try:
            answer = api.post(resource_paths.SELF_SUBJECT_ACCESS_REVIEWS, review)
        except ApiError as error:
            return Right(f"{resource} {where}", namespace, (), printable(error))
        if not (answer.get("status") or {}).get("allowed"):
            missing.append(verb)
    return Right(f"{', '.join(verbs)} {resource} {where}", namespace, tuple(missing))
