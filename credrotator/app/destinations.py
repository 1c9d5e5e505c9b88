"""Where credentials go, as ``check`` asks of it: a directory, or a cluster with the gateway in it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from credrotator.core.errors import Denied, Transient
from credrotator.core.model import SECRET_KIND, ObjectKey, OidcClient, ServiceAccountToken
from credrotator.core.secret_document import Published, SecretDocument, Unreadable
from credrotator.core.secretdata import show_time
from credrotator.core.sensitive import Sensitive
from credrotator.rotation.rotation import RotateOptions, Rotation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from credrotator.app.cluster_status import ClusterStatus
    from credrotator.core.model import RotatablePolicy
    from credrotator.files.directory import DirectoryStore
    from credrotator.kube.access import Right
    from credrotator.kube.client.api import KubeApi
    from credrotator.kube.delivery import Delivery
    from credrotator.kube.store import ClusterStore


class DirectoryDestination:
    """A directory of credentials."""

    def __init__(self, store: DirectoryStore, rotation: Rotation, environment: Mapping[str, str] = os.environ) -> None:
        self._store = store
        self._rotation = rotation
        self._environment = environment

    @property
    def all_rights(self) -> None:
        """See ``AskedDestination``: the file system's are seen to policy by policy."""

    def rights(self, policy: RotatablePolicy) -> str:
        """See ``preflight.Destination``."""
        return self._store.examine(policy.secret)

    def delivery(self, policy: RotatablePolicy) -> tuple[str, tuple[str, ...]]:
        """See ``preflight.Destination``."""
        detail, warnings, _ = published(self._rotation, policy)
        # This process's environment is not the filter's, but with ``aigw run`` both are often started by one unit.
        strong = [name for name in policy.source.kind.overriding_variables if self._environment.get(name)]
        if strong:
            what = f"{strong[0]} is set here: where the gateway's filter has it too, it beats this credential"
            warnings += (f"{what}; start the filter without it",)
        return detail, warnings


class ClusterDestination:
    """A cluster: the Secret, and the gateway that is to notice it."""

    def __init__(
        self,
        api: KubeApi,
        store: ClusterStore,
        delivery: Delivery,
        status: ClusterStatus,
        *,
        rotation: Rotation,
        ask_rights: Callable[[], list[Right]],
        ask_account: Callable[[ObjectKey], Right],
    ) -> None:
        self._api = api
        self._store = store
        self._delivery = delivery
        self._status = status
        self._rotation = rotation
        self._ask_rights = ask_rights
        self._ask_account = ask_account
        self._rights: list[Right] | None = None
        self._strong: dict[tuple[str, ...], str] = {}

    @property
    def all_rights(self) -> list[Right]:
        """What this account may do; asked once."""
        if self._rights is None:
            self._rights = self._ask_rights()
        return self._rights

    def rights(self, policy: RotatablePolicy) -> str:
        """See ``preflight.Destination``."""
        # None stands for all namespaces, and for what has none.
        asked = [right for right in self.all_rights if right.namespace in {None, policy.key.namespace}]
        asked += [self._ask_account(account) for account in service_accounts(policy)]
        lacks = [f"{right.what}: {right.lack}" for right in asked if right.lack]
        if any(right.missing for right in asked):
            raise Denied("RightsMissing", "; ".join(lacks), hint=how_to_grant(asked))
        if lacks:
            hint = "see whether this account may create SelfSubjectAccessReviews, as every account may by default"
            raise Transient("RightsUnknown", "; ".join(lacks), hint=hint)
        return f"{len(asked)} questions, all granted"

    def delivery(self, policy: RotatablePolicy) -> tuple[str, tuple[str, ...]]:
        """See ``preflight.Destination``."""
        from credrotator.kube.api_refusals import as_rotation_error  # noqa: PLC0415 - with a cluster only
        from credrotator.kube.client.api import ApiError  # noqa: PLC0415 - with a cluster only

        # As a dry run (dryRun=All), so admission webhooks and quotas are tried too; the value is never stored.
        data = {policy.data_key or policy.source.kind.data_key: Sensitive("rehearsal")}
        self._store.rehearse(SecretDocument(policy.secret, data, {}, policy.owner))
        detail, warnings, issued_at = published(self._rotation, policy)
        try:
            route = _watched_by(policy) if policy.managed else f"by {self._delivery.form(policy)}"
        except ApiError as error:
            raise as_rotation_error(error, f"read Secret {policy.key}") from error
        return f"{detail}; {route}", (*warnings, *self._told(policy, issued_at), *self._beaten(policy))

    def _told(self, policy: RotatablePolicy, issued_at: datetime | None) -> tuple[str, ...]:
        """Say what the gateway's status tells."""
        if refusal := self._status.refusal(policy.key):
            then = "" if issued_at or policy.managed else "; it does once credrotator has published the credential"
            return (f"the gateway does not accept the policy, so its backends get no credential: {refusal}{then}",)
        acknowledged_at = self._status.acknowledged_at(policy.key)
        if policy.managed or issued_at is None or acknowledged_at is None or acknowledged_at >= issued_at:
            return ()
        return ("the gateway has not looked at the policy since its credential was issued: see whether it runs",)

    def _beaten(self, policy: RotatablePolicy) -> tuple[str, ...]:
        variables = policy.source.kind.overriding_variables
        if not variables:
            return ()
        # Asked once for each set of names: it lists Pods, and a hundred policies of AWS have the same ones.
        if variables not in self._strong:
            self._strong[variables] = "; ".join(self._strong_variables(variables))
        if not self._strong[variables]:
            return ()
        return (
            f"the filter's environment beats this credential: {self._strong[variables]}; remove the variables there",
        )

    def _strong_variables(self, names: tuple[str, ...]) -> list[str]:
        from credrotator.kube.client.api import ApiError  # noqa: PLC0415 - with a cluster only
        from credrotator.kube.filter_environment import variables_that_beat  # noqa: PLC0415 - with a cluster only

        try:
            return list(variables_that_beat(self._api, names))
        except ApiError:
            # Without the right to list Pods there is nothing to be said; nobody needs it for anything else.
            return []


def _watched_by(policy: RotatablePolicy) -> str:
    return "whoever names it watches it" if policy.kind == SECRET_KIND else "the gateway watches it"


def how_to_grant(rights: Iterable[Right]) -> str:
    """Say how the rights that are missing are granted."""
    # The chart gives some rights only if a value asks for them: those of tokens reach far.
    by_values = dict.fromkeys(right.granted_by for right in rights if right.missing and right.granted_by)
    how = "; ".join(("helm template charts/credrotator", *by_values))
    return f"grant them to this account, as the chart's Role does ({how})"


def service_accounts(policy: RotatablePolicy) -> list[ObjectKey]:
    """List the service accounts that a policy wants tokens of."""
    source = policy.source.token_source
    token = source.assertion if isinstance(source, OidcClient) else source
    return [ObjectKey(policy.key.namespace, token.name)] if isinstance(token, ServiceAccountToken) else []


def published(rotation: Rotation, policy: RotatablePolicy) -> tuple[str, tuple[str, ...], datetime | None]:
    """Say what lies there now, what is odd about it, and when it was issued."""
    published_state = rotation.state(policy, RotateOptions()).published
    match published_state:
        case Published():
            detail = f"{policy.secret} holds a credential until {show_time(published_state.expires_at)}"
            return detail, (), published_state.issued_at
        case Unreadable():
            return f"{policy.secret} will be replaced", (f"Secret {policy.secret}: {published_state.why}",), None
        case _:
            pass
    return f"{policy.secret} will be made", (), None
