"""A cluster, put together for commands that look once and for the daemon."""

from __future__ import annotations

import socket
import uuid
from typing import TYPE_CHECKING, Any, Self

from credrotator import __version__
from credrotator.core.errors import UsageError, printable
from credrotator.core.instrumentation import NO_INSTRUMENTATION
from credrotator.core.model import ObjectKey
from credrotator.core.secretdata import read_time
from credrotator.kube.access import Right, check_rights
from credrotator.kube.adoption import Adoption
from credrotator.kube.client.api import NO_OBSERVER, KubeApi
from credrotator.kube.client.api_errors import ClusterNotNamed, ConfigurationError
from credrotator.kube.conditions import Conditions
from credrotator.kube.deferred import at_once
from credrotator.kube.delivery import Delivery
from credrotator.kube.events import EventRecorder
from credrotator.kube.listener import ClusterListener
from credrotator.kube.parking import Parking
from credrotator.kube.paths import served_version
from credrotator.kube.policy_events import PolicyEvents
from credrotator.kube.reading import ClusterInventory, read_cluster
from credrotator.kube.source import CONDITION, Scope
from credrotator.kube.store import ClusterStore
from credrotator.observability.audit import Audit
from credrotator.providers import policy_reader

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from credrotator.app.settings import Settings
    from credrotator.core.audit import AuditLog
    from credrotator.core.model import Outcome
    from credrotator.core.ports import Clock
    from credrotator.kube.client.api import DateObserver
    from credrotator.kube.deferred import Defer
    from credrotator.kube.source import Observer


LEASE = "credrotator"
"""Name of the Lease by which replicas agree on a leader, unless ``--lease`` says another."""


class Cluster:
    """The parts that talk to one API server; a context manager."""

    def __init__(self, settings: Settings, clock: Clock, dates: DateObserver = NO_OBSERVER) -> None:
        self._settings = settings
        self._clock = clock
        self.api = connect(settings.kubeconfig, settings.context, dates)
        self.store = ClusterStore(self.api)
        # NOTE: host name and pid are not enough: pods in the host's network share the one, and have pid 1 each.
        self.identity = f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
        self._inventory = ClusterInventory()
        self._listener: ClusterListener | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.api.close()

    def scope(self) -> Scope:
        """Return which policies are meant: the namespaces of ``-n``, all with ``-A``, else the context's own.

        Raises:
            RotationError: The gateway's API is not served, or the server cannot be asked.
        """
        settings = self._settings
        named = settings.namespaces or (self.api.default_namespace,)
        return Scope(served_version(self.api), () if settings.all_namespaces else named, settings.selector)

    def listener(
        self,
        scope: Scope,
        observer: Observer,
        delivery: Delivery,
        *,
        audit: AuditLog,
        skew: Callable[[], timedelta | None],
        defer: Defer = at_once,
    ) -> ClusterListener:
        """Put together what follows an outcome; for what the parts are, see ``Conditions``."""
        events = PolicyEvents(EventRecorder(self.api, self.identity), observer, defer)
        return ClusterListener(
            observer,
            delivery,
            Adoption(self.store, events, audit),
            Parking(self.store, self._clock, audit),
            Conditions(self.api, scope.version, self._clock, observer=observer, events=events, defer=defer, skew=skew),
        )

    def read(self) -> tuple[ClusterInventory, list[str]]:
        """Read policies and dependants once; see ``read_cluster``."""
        scope = self.scope()
        self._inventory, problems = read_cluster(self.api, scope, policy_reader(self._settings.defaults))
        self.delivery = Delivery(self.api, self._clock, NO_INSTRUMENTATION)
        self._listener = self.listener(scope, self._inventory, self.delivery, audit=Audit(), skew=_unknown)
        return self._inventory, problems

    def rights(self, lease: str | None = None) -> list[Right]:
        """Ask what this account may do where the policies are, and with the Lease of the election."""
        settings = self._settings
        named = settings.namespaces or (self.api.default_namespace,)
        meant = ObjectKey.parse(lease or LEASE, self.api.default_namespace)
        return list(check_rights(self.api, (None,) if settings.all_namespaces else named, meant))

    def after(self, outcome: Outcome) -> None:
        """Ring the doorbell and tell people, as the daemon does."""
        policy = self._inventory.policies.get(outcome.policy) or self._inventory.invalid.get(outcome.policy)
        if policy and self._listener:
            self._listener(policy, outcome)

    def last_outcome(self, key: ObjectKey) -> dict[str, Any] | None:
        """Read the latest failure from the policy's condition; of what went well, the Secret tells more."""
        observed = self._inventory.observed(key)
        for condition in observed.conditions if observed else ():
            if condition.get("type") == CONDITION and condition.get("status") == "False":
                reason, message = condition.get("reason"), condition.get("message")
                error = {"kind": None, "reason": reason, "message": message, "hint": None}
                at = condition.get("lastTransitionTime")
                return {"at": at, "action": "failed", "reason": reason, "error": error}
        return None

    def refusal(self, key: ObjectKey) -> str | None:
        """Return why the gateway does not accept a policy, by its status; None where it does, or has not spoken."""
        observed = self._inventory.observed(key)
        for condition in observed.conditions if observed else ():
            if condition.get("type") == "NotAccepted" or (
                condition.get("type") == "Accepted" and condition.get("status") == "False"
            ):
                return printable(condition.get("message") or condition.get("reason"))
        return None

    def acknowledged_at(self, key: ObjectKey) -> datetime | None:
        """Return when the gateway last spoke of a policy in its status."""
        observed = self._inventory.observed(key)
        return read_time(observed.last_transition) if observed else None


def _unknown() -> None:
    """Nobody has told the time yet."""


def connect(kubeconfig: str | None, context: str | None, dates: DateObserver = NO_OBSERVER) -> KubeApi:
    """Make a client for the cluster that kubectl would talk to, else the one that this pod runs in.

    Raises:
        UsageError: There is none, or its configuration cannot be used.
    """
    try:
        return KubeApi.from_config(kubeconfig, context, user_agent=f"credrotator/{__version__}", dates=dates)
    except ClusterNotNamed as error:
        raise UsageError("no cluster: name one with --kubeconfig or KUBECONFIG, or read manifests with -f") from error
    except ConfigurationError as error:
        raise UsageError(str(error)) from error
