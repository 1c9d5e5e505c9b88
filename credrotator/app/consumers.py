"""What else follows a publication to a directory, as the operator names it: files, programs, signals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from credrotator.core.errors import RotationError, UsageError
from credrotator.core.outcome import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from credrotator.core.model import ObjectKey
    from credrotator.core.outcome import Outcome
    from credrotator.files.hooks import HookFailure


@dataclass(frozen=True, slots=True)
class Consumers:
    """What follows a publication.

    Attributes:
        templates: What ``--template`` names, each.
        commands: Of ``--exec``.
        signals: ``NAME:PIDFILE`` of ``--signal``.
    """

    templates: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    signals: tuple[str, ...] = ()

    def refuse(self) -> None:
        """Say that there is no place for them.

        Raises:
            UsageError: There are any.
        """
        if self.templates:
            raise UsageError("--template goes with -f and --out: in a cluster the gateway feeds its filter itself")
        if self.commands or self.signals:
            raise UsageError("--exec and --signal go with -f and --out: in a cluster consumers watch the Secret")


NO_CONSUMERS = Consumers()


class PassHooks(Protocol):
    """Hooks that are run once, after all policies of a pass."""

    def run(self) -> Sequence[HookFailure]:
        """Run what has to be run, with a few tries; return what failed in the last one.

        Raises:
            RotationError: What is published cannot be read.
        """


class NoHooks:
    """Hooks of a place that has none."""

    def run(self) -> Sequence[HookFailure]:
        """See ``PassHooks``."""
        return ()


def run_hooks(hooks: PassHooks, outcomes: Sequence[Outcome]) -> tuple[list[Outcome], list[Failure]]:
    """Run what follows a pass, and have the outcomes say where that failed.

    Returns:
        The outcomes, in their order; and the failures that concern none of them.
    """
    try:
        failures = hooks.run()
    except RotationError as error:
        return list(outcomes), [Failure.of(error)]
    failed: dict[ObjectKey, Failure] = {}
    for failure in failures:
        failed.update((change.policy, Failure.of(failure.error)) for change in failure.changes)
    # A pass may be for some policies, and a hook that failed earlier be about others: it counts, though no row can say
    # so.
    known = {outcome.policy for outcome in outcomes}
    strangers = [Failure.of(each.error) for each in failures if not known & {change.policy for change in each.changes}]
    return [_failed(outcome, failed.get(outcome.policy)) for outcome in outcomes], strangers


def _failed(outcome: Outcome, failure: Failure | None) -> Outcome:
    """Say that a consumer was not told; what kept the policy from a new credential is worse, and stays."""
    if failure is None or outcome.action == "failed":
        return outcome
    return replace(outcome, action="failed", error=failure)
