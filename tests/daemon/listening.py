"""A listener over a simulated API server, and what it wrote there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from credrotator.core.instrumentation import NO_INSTRUMENTATION
from credrotator.core.model import ObjectKey, Policy, RotatablePolicy, fingerprint
from credrotator.core.outcome import Failure, Outcome
from credrotator.core.secretdata import EXPIRY, GATEWAY_WAKES, read_time, render
from credrotator.kube.adoption import Adoption
from credrotator.kube.conditions import Conditions
from credrotator.kube.deferred import at_once
from credrotator.kube.delivery import Delivery
from credrotator.kube.events import EventRecorder
from credrotator.kube.listener import ClusterListener
from credrotator.kube.parking import Parking
from credrotator.kube.policy_events import PolicyEvents
from credrotator.kube.source import CONDITION, Observed, observe
from credrotator.kube.store import ClusterStore
from credrotator.kube.write_budget import WriteBudget
from credrotator.observability.audit import Audit
from credrotator.policies.reader import Defaults
from credrotator.providers import policy_reader
from tests.support.manifests import BEDROCK_SECRET, POLICIES, VERSION
from tests.support.twins import HOUR, NOW, StandingClock, aws_credential

if TYPE_CHECKING:
    from datetime import timedelta

    from credrotator.core.errors import Kind
    from credrotator.kube.client.api import KubeApi
    from tests.support.kube.simulator import ApiServer

WRITES = {"create", "update", "patch", "delete"}


class Listening:
    """A listener over the simulated server, for one policy."""

    def __init__(self, server: ApiServer, api: KubeApi, manifest: dict[str, Any]) -> None:
        self.server, self.api = server, api
        self.clock = StandingClock()
        self.skew: timedelta | None = None
        self.store = ClusterStore(api, WriteBudget(self.clock.seconds))
        server.create(POLICIES, manifest)
        self.name = manifest["metadata"]["name"]
        self.restart()

    def restart(self) -> None:
        """Forget everything, as a new process would."""
        seconds = self.clock.seconds
        audit, self.delivery = Audit(), Delivery(self.api, self.clock, NO_INSTRUMENTATION, seconds=seconds)
        recorder = EventRecorder(self.api, "pod-1", clock=self.clock, monotonic=seconds)
        events = PolicyEvents(recorder, self, at_once)
        conditions = Conditions(
            self.api,
            VERSION,
            self.clock,
            observer=self,
            events=events,
            defer=at_once,
            skew=lambda: self.skew,
            budget=WriteBudget(seconds),
        )
        adoption, parking = Adoption(self.store, events, audit), Parking(self.store, self.clock, audit)
        self.listener = ClusterListener(self, self.delivery, adoption, parking, conditions)

    def observed(self, key: ObjectKey) -> Observed | None:
        """Be the source of statuses, always up to date."""
        found = self.server.get(POLICIES, key.name, key.namespace)
        return observe(found, policy_reader(Defaults())) if found else None

    @property
    def policy(self) -> Policy:
        found = self.observed(ObjectKey("default", self.name))
        assert found
        assert isinstance(found.policy, Policy)
        return found.policy

    def publish(self, tag: str = "A") -> None:
        """Write a credential into the policy's Secret, as a rotation does."""
        policy = self.policy
        assert isinstance(policy, RotatablePolicy)
        issued = aws_credential(self.clock(), tag=tag)
        mark = fingerprint(policy.source)
        document = render(policy.secret, issued, mark, data=policy.data(issued), owner=policy.owner)
        present = self.store.read(policy.secret)
        self.store.publish(document, present.version if present else None)
        self.server.requests.clear()

    def hear(
        self, action: str, reason: str = "Missing", error: Failure | None = None, *, created: bool = False
    ) -> None:
        """Tell the listener of an outcome."""
        policy, expires = self.policy, None if error else self.clock() + HOUR
        outcome = Outcome(
            policy.key,
            policy.provider,
            action,  # type: ignore[arg-type]
            reason,
            policy.secret,
            expires,
            error=error,
            created=created,
        )
        self.listener(policy, outcome)

    def fail(
        self, reason: str = "IssuerUnreachable", kind: Kind = "transient", patience: timedelta | None = None
    ) -> None:
        """Tell the listener of a failure."""
        self.hear("failed", error=Failure(kind, reason, f"{reason} it is", "do something", patience))

    def hang(self, patience: timedelta | None = None) -> None:
        """Tell the listener that the issuer did not answer."""
        self.hear("failed", error=Failure("transient", "IssuerTimeout", "no answer", "wait", patience, hangs=True))

    def events(self) -> list[tuple[str, str]]:
        return [(event["reason"], event["type"]) for event in self.server.items("events")]

    def conditions(self) -> list[dict[str, Any]]:
        found = self.server.get(POLICIES, self.name)
        assert found
        conditions: list[dict[str, Any]] = (found.get("status") or {}).get("conditions") or []
        return conditions

    def ours(self) -> dict[str, Any]:
        (condition,) = [condition for condition in self.conditions() if condition["type"] == CONDITION]
        return condition

    def notes(self, name: str = BEDROCK_SECRET.name) -> dict[str, str]:
        found = self.server.get("secrets", name)
        assert found
        notes: dict[str, str] = found["metadata"]["annotations"]
        return notes

    def gateway_wakes_at(self) -> timedelta:
        """How long after NOW the gateway's rotator would act."""
        until = read_time(self.notes()[EXPIRY])
        assert until
        return until - GATEWAY_WAKES - NOW

    def written(self) -> list[str]:
        return [f"{request.verb} {request.resource}" for request in self.server.requests if request.verb in WRITES]
