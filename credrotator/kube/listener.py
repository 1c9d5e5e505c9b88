"""What follows an outcome in a cluster: the doorbell, adoption, parking, and what people are told.

Owns their order. None of them can fail a rotation: the credential is published before, and stays.
Source: Envoy AI Gateway, ``internal/controller``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.core.model import InvalidPolicy, ObjectKey, Policy, RotatablePolicy
from credrotator.kube.verified_delivery import NO_VERIFICATION

if TYPE_CHECKING:
    from credrotator.core.outcome import Outcome
    from credrotator.kube.adoption import Adoption
    from credrotator.kube.conditions import Conditions, Reported
    from credrotator.kube.delivery import Delivery
    from credrotator.kube.parking import Parking
    from credrotator.kube.source import Observer
    from credrotator.kube.verified_delivery import Verification


class ClusterListener:
    """An OutcomeListener; only the leader has any."""

    def __init__(
        self,
        observer: Observer,
        delivery: Delivery,
        adoption: Adoption,
        parking: Parking,
        conditions: Conditions,
        *,
        verification: Verification = NO_VERIFICATION,
    ) -> None:
        self._observer = observer
        self._delivery = delivery
        self._adoption = adoption
        self._parking = parking
        self._conditions = conditions
        self._verification = verification

    def __call__(self, policy: Policy | InvalidPolicy, outcome: Outcome) -> None:
        """Do what an outcome calls for."""
        known = self._conditions.reported(policy.key)
        if outcome.action == "rotated":
            self._verification.published(policy.key)
        if isinstance(policy, RotatablePolicy):
            self._serve(policy, outcome, known)
        self._conditions.report(policy, outcome, known)

    def tick(self) -> None:
        """Do what had to wait; to be called every second or so, in one thread."""
        self._conditions.tick()

    def forget(self, key: ObjectKey) -> None:
        """Drop what is known of a policy that is gone."""
        self._delivery.forget(key)
        self._conditions.forget(key)

    def forget_all(self) -> None:
        """Drop what is known of all policies: others wait for the gateway, and tell people, while another one leads."""
        self._delivery.stand_down()
        self._verification.forget_all()
        self._conditions.forget_all()

    def _serve(self, policy: RotatablePolicy, outcome: Outcome, known: Reported | None) -> None:
        """Do what the gateway needs."""
        # Kept after a failure: the write had happened all the same, and nobody told the gateway.
        if outcome.action == "rotated" or (outcome.action == "kept" and known is not None and not known.ready):
            self._announce(policy, created=outcome.created)
        if outcome.reason == "Adopted":
            self._adoption.adopt(policy)
        # Only what hangs would hold the gateway's one worker; a refusal comes at once, and its rotator may try in our
        # place (I17). In the managed form, the gateway has no rotator to keep away.
        elif outcome.action == "failed" and not policy.managed and outcome.error and outcome.error.hangs:
            self._parking.park(policy, outcome.error)

    def _announce(self, policy: RotatablePolicy, *, created: bool) -> None:
        """Ring for the gateway's own form; in the managed form it watches the Secret itself."""
        if policy.managed:
            return
        observed = self._observer.observed(policy.key)
        self._delivery.ring(policy, policy.owner, observed.last_transition if observed else "", created=created)
