"""What a policy's exchange hangs at, if it hangs, and how many workers may hang there with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.core.model import OidcClient, RotatablePolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from credrotator.core.model import ObjectKey, Policy
    from credrotator.core.ports import PolicySource
    from credrotator.rotation.guard import Guard
    from credrotator.rotation.workqueue import WorkQueue


class Lanes:
    """The lanes of the daemon's queue.

    Args:
        source: Where the policies are found.
        has_valid_token: Tells of an issuer whether it is not needed just now: its last answer was a token that is good.
        workers: All of them; a quarter at most is one issuer's, three quarters while its token is good.
    """

    def __init__(self, source: PolicySource, has_valid_token: Callable[[str], bool], workers: int) -> None:
        self._source = source
        self._has_valid_token = has_valid_token
        self._workers = workers

    def of(self, key: ObjectKey) -> str:
        """Name what a policy's exchange depends on first; one that hangs takes a quarter of the workers at most.

        While its token is good, three quarters: only the vendor is asked.

        What comes after it is not named: policies that hang at their issuer would fill the vendor's lane for all.
        """
        policy = self._source.get(key)
        if not isinstance(policy, RotatablePolicy):
            return ""
        # The first thing that can hang, which is the issuer; who has none hangs at the vendor.
        token_source = policy.source.token_source
        return token_source.issuer if isinstance(token_source, OidcClient) else policy.source.asked

    def limit(self, lane: str) -> int:
        """Return how many workers a lane may have."""
        # Asked at each decision, not when the key was added: an issuer that begins to hang has its quarter again as
        # soon as its token is over. At least one, or a daemon with few workers would never handle a lane.
        return max(1, self._workers * (3 if self._has_valid_token(lane) else 1) // 4)


class LaneGuard:
    """Leaves a policy's lane when its credential is there and may be written.

    While one worker writes, another asks for the next credential of the same lane. A policy that is verified stays in
    its lane until it is: the vendor that verifies can hang as well.

    Args:
        guard: Says what may be written; asked right before each write.
        queue: Has the lanes.
    """

    def __init__(self, guard: Guard, queue: WorkQueue) -> None:
        self._guard = guard
        self._queue = queue

    def __call__(self, policy: Policy) -> None:
        """See ``WriteGuard``."""
        self._guard(policy)
        self._queue.leave_lane(policy.key)
