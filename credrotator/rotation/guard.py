"""Whether a policy's outcome still matters: an exchange takes time, and what follows it writes.

Owns the three reasons why it may not: another process leads, the policy is gone, it was edited.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from credrotator.core.errors import Abandoned
from credrotator.core.model import InvalidPolicy, Policy, RotatablePolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from credrotator.core.ports import PolicySource


class Guard(Protocol):
    """A ``WriteGuard`` that can also be asked for a yes or no."""

    def __call__(self, policy: Policy) -> None:
        """See ``WriteGuard``."""

    def is_current(self, policy: Policy | InvalidPolicy) -> bool:
        """Tell whether an outcome for this policy still matters."""


class PolicyGuard:
    """Goes by the source's latest word, and by who leads.

    Args:
        source: Knows the policies as they are now.
        leads: Tells whether this process may write.
    """

    def __init__(self, source: PolicySource, leads: Callable[[], bool]) -> None:
        self._source = source
        self._leads = leads

    def __call__(self, policy: Policy) -> None:
        """See ``Guard``.

        Raises:
            Abandoned: NotLeader, PolicyGone or PolicyEdited.
        """
        if not self._leads():
            raise Abandoned("NotLeader")
        current = self._source.get(policy.key)
        # By the UID, not by the name: a policy that was deleted and made anew under its name is another one.
        if not isinstance(current, Policy) or current.uid != policy.uid:
            raise Abandoned("PolicyGone")
        # The fingerprint, not the whole object: a label or a status that changes while the exchange runs must not waste
        # it.
        if _asked(current) != _asked(policy) or current.secret != policy.secret:
            raise Abandoned("PolicyEdited")

    def is_current(self, policy: Policy | InvalidPolicy) -> bool:
        """See ``Guard``."""
        if isinstance(policy, InvalidPolicy):
            return self._leads() and self._source.get(policy.key) == policy
        try:
            self(policy)
        except Abandoned:
            return False
        return True


def _asked(policy: Policy) -> object:
    """Return what an edit of a policy has to change for its credential to be another."""
    return policy.fingerprint if isinstance(policy, RotatablePolicy) else policy.source


class _Unguarded:
    def __call__(self, policy: Policy) -> None:
        pass

    def is_current(self, policy: Policy | InvalidPolicy) -> bool:  # noqa: ARG002
        return True


UNGUARDED: Guard = _Unguarded()
"""For one pass: the policies are what was read, and nobody else was asked to write."""
