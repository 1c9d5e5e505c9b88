"""Whether the gateway's filter is configured with what is published: the comparison, and what has become of each.

No I/O, no clock: hashes and seconds go in, what has to be done comes out. Knows no credential.
Source: Envoy AI Gateway, issue 2603: a configuration may stay a generation behind.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

from credrotator.core.model import ObjectKey, RotatablePolicy
from credrotator.kube.client.reconnect import RetryWait

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from credrotator.kube.filter_config import FilterConfig

BEHIND_AFTER_S = 5.0
"""After a publication a configuration may be behind for so long: a gateway that runs writes it within a second."""
# As for a bell that nobody acknowledged: a gateway that is away is rung for every ten minutes.
RING_AGAIN = RetryWait(first_s=5.0, longest_s=600.0)
# Enough to know one again that fell behind some renewals ago; only hashes are kept of them.
GENERATIONS = 4
"""Former generations of a policy that are recognised."""


class Use(Enum):
    """What the filters are configured with for one policy."""

    CURRENT = "current"
    OLD = "old"
    """Something else than what is published, in at least one place."""
    ABSENT = "absent"
    """No route of these Gateways leads to its backends."""


def compare(
    configs: Iterable[FilterConfig], policy: RotatablePolicy, content: str, before: Collection[str] = ()
) -> Use:
    """Compare what is published with what filters have.

    By the names of the policy's backends, and by what the policy was known to have: the names do not lead to it where a
    route is in another namespace than its backend.

    Args:
        configs: Those of all Gateways that are watched.
        policy: Names its backends, if its version of the API does.
        content: The hash of what is published.
        before: Hashes of what was published before.
    """
    named = {ObjectKey(key.namespace, key.name.rpartition("/")[2]) for key in policy.targets}
    use = Use.ABSENT
    for config in configs:
        for key in named:
            # A backend stands in it once for each rule of a route that leads there, and all have to be current.
            if any(content not in texts for texts in config.backends.get(key, ())):
                return Use.OLD
        # Under another backend's name: v0.2 names the policy from the backend, which this reading does not see.
        if not config.texts.isdisjoint(before):
            return Use.OLD
        if content in config.texts:
            use = Use.CURRENT
    return use


@dataclass(frozen=True, slots=True)
class Delivered:
    """What is known of one policy's delivery. Seconds are monotonic.

    Attributes:
        content: The hash of what is published.
        published_s: When that was, or when it was first heard of.
        measured: It was published while this process watched, so that the time until it is in use means something.
        before: Hashes of what was published before, the latest first.
        in_use_s: Since when the filters have it; None while they do not.
        behind: It has been told that they are behind.
        rings: How often they were rung for because of that.
        again_s: When they may be rung for again.
    """

    content: str
    published_s: float
    measured: bool = False
    before: tuple[str, ...] = ()
    in_use_s: float | None = None
    behind: bool = False
    rings: int = 0
    again_s: float = 0.0


@dataclass(frozen=True, slots=True)
class News:
    """What has to be done for a policy.

    Attributes:
        took_s: Seconds from its publication until the filters had it, to be counted.
        fell_behind: They are found to be behind.
        caught_up: They were behind, and are not any more.
        ring: The gateway has to be rung for.
        age_s: Seconds since the publication.
    """

    took_s: float | None = None
    fell_behind: bool = False
    caught_up: bool = False
    ring: bool = False
    age_s: float = 0.0


@dataclass(slots=True)
class Deliveries:
    """Follows all policies; for one thread."""

    _known: dict[ObjectKey, Delivered] = field(default_factory=dict)

    @property
    def behind(self) -> int:
        """Count the policies for which filters are behind."""
        return sum(each.behind for each in self._known.values())

    def is_waiting(self, now_s: float) -> bool:
        """Tell whether some policy was published a moment ago, and is not in use yet."""
        waiting = (each for each in self._known.values() if each.in_use_s is None)
        return any(now_s - each.published_s <= BEHIND_AFTER_S for each in waiting)

    def get(self, key: ObjectKey) -> Delivered | None:
        """Return what is known of a policy."""
        return self._known.get(key)

    def keep(self, keys: Collection[ObjectKey]) -> None:
        """Forget all policies but these."""
        for key in self._known.keys() - set(keys):
            del self._known[key]

    def note(self, key: ObjectKey, content: str, published_s: float, *, measured: bool) -> None:
        """Take note of what is published for a policy; ``measured``: it was published just now, by this process."""
        known = self._known.get(key)
        if known is None:
            self._known[key] = Delivered(content, published_s, measured)
        elif known.content != content:
            # What was there before is none of it where somebody put an old credential back.
            former = tuple(each for each in (known.content, *known.before) if each != content)
            self._known[key] = Delivered(content, published_s, measured, former[:GENERATIONS], behind=known.behind)

    def judge(self, policy: RotatablePolicy, configs: Collection[FilterConfig], now_s: float) -> News:
        """Compare a policy that was noted, and return what has to be done for it."""
        known = self._known[policy.key]
        use, age_s = compare(configs, policy, known.content, known.before), now_s - known.published_s
        if use is Use.OLD and age_s > BEHIND_AFTER_S:
            ring = now_s >= known.again_s
            rings = known.rings + ring
            again_s = now_s + RING_AGAIN.wait_s(rings, str(policy.key)) if ring else known.again_s
            self._known[policy.key] = replace(
                known, in_use_s=None, behind=True, rings=rings, again_s=again_s, measured=False
            )
            # One that is late is counted at once: one that never comes would not be counted otherwise.
            took_s = age_s if known.measured else None
            return News(took_s, fell_behind=not known.behind, ring=ring, age_s=age_s)
        if use is Use.OLD:
            return News(age_s=age_s)
        in_use_s = (known.in_use_s if known.in_use_s is not None else now_s) if use is Use.CURRENT else None
        took_s = age_s if use is Use.CURRENT and known.measured else None
        self._known[policy.key] = replace(
            known,
            in_use_s=in_use_s,
            behind=False,
            rings=0,
            again_s=0.0,
            # What no route led to for a while says nothing of the gateway when one does.
            measured=known.measured and use is Use.ABSENT and age_s <= BEHIND_AFTER_S,
        )
        return News(took_s, caught_up=known.behind, age_s=age_s)
