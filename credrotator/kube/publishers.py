"""Which policies lead to which Secret, and which of them keeps it. Pure; whoever has it sees to its threads.

The one that the Secret belongs to already keeps it, so that a new policy breaks none that works; else the first by the
order of ``rotate``. The others are refused with the same words.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from credrotator.core.model import RotatablePolicy
from credrotator.policies.inventory import precedence, refuse_shared_secret

if TYPE_CHECKING:
    from credrotator.core.model import InvalidPolicy, ObjectKey, Policy


class Publishers:
    """The policies by the Secrets that they publish in."""

    def __init__(self) -> None:
        self._secrets: dict[ObjectKey, ObjectKey] = {}
        self._policies: defaultdict[ObjectKey, dict[ObjectKey, RotatablePolicy]] = defaultdict(dict)

    def put(self, key: ObjectKey, policy: Policy | InvalidPolicy | None) -> set[ObjectKey]:
        """Take note of what a policy is now, None if it is gone; return the others that this may concern."""
        secrets = set()
        if (before := self._secrets.pop(key, None)) is not None:
            secrets.add(before)
            del self._policies[before][key]
        if isinstance(policy, RotatablePolicy):
            secrets.add(policy.secret)
            self._secrets[key] = policy.secret
            self._policies[policy.secret][key] = policy
        # Of the Secret before and of the one after: one policy may be free to publish now, another one no longer.
        others = {other for secret in secrets for other in self._policies[secret]} - {key}
        if before is not None and not self._policies[before]:
            del self._policies[before]
        return others

    def of(self, secret: ObjectKey) -> set[ObjectKey]:
        """Return all policies that lead to a Secret."""
        return set(self._policies.get(secret, ()))

    def keeper(self, secret: ObjectKey, holder: ObjectKey | None) -> RotatablePolicy | None:
        """Return the policy that keeps a Secret; ``holder``: the one that it belongs to as it is."""
        policies = self._policies.get(secret)
        if not policies:
            return None
        # Whoever has it keeps it: judged by precedence alone, a new policy could take a Secret, and a backend's
        # credential, from one that works.
        return (policies.get(holder) if holder else None) or min(policies.values(), key=precedence)

    def judge(self, policy: Policy | InvalidPolicy, holder: ObjectKey | None) -> Policy | InvalidPolicy:
        """Return a policy as it is, or refused: another one keeps its Secret."""
        if not isinstance(policy, RotatablePolicy):
            return policy
        keeper = self.keeper(policy.secret, holder)
        return policy if keeper is None or keeper.key == policy.key else refuse_shared_secret(policy, keeper.key)
