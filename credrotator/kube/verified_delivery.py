"""Verified delivery: sees whether what was published has reached the configuration of the gateway's filters.

The gateway's acknowledgement says that it has looked, not what it saw: one that reads Secrets from a cache that is
behind writes the former credential, and has no reason to look again. Owns the thread that compares, and what follows:
the doorbell once more, a line in the log, an Event. Must never fail a rotation, and never tell what it read.
Source: Envoy AI Gateway, issue 2603; reliability.md 73.
"""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Protocol

from credrotator.core.model import RotatablePolicy
from credrotator.core.threads import dead
from credrotator.kube.client.api_errors import ApiError
from credrotator.kube.filter_config import UnreadableConfigError
from credrotator.kube.in_use import Deliveries, News

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from credrotator.core.instrumentation import DeliveryInstrumentation
    from credrotator.core.model import InvalidPolicy, ObjectKey, Policy
    from credrotator.kube.deferred import Defer
    from credrotator.kube.delivery import Delivery
    from credrotator.kube.filter_config import FilterConfig
    from credrotator.kube.filter_config_reader import FilterConfigReader
    from credrotator.kube.policy_events import PolicyEvents
    from credrotator.kube.source import Observed

log = logging.getLogger(__name__)

SOON_S = 0.5
"""Between two looks while something was published a moment ago."""
SELDOM_S = 4.0
"""Between two looks otherwise: what falls behind is found within ten seconds all the same."""
REST = 4
"""A look is followed by a rest that is so many times as long, up to ``SELDOM_S``."""
JUST_NOW_S = 5.0
"""A publication that was told of so long ago at most is the one that the watch of the Secret has just shown."""
BEHIND, IN_USE = "DeliveryBehind", "DeliveryInUse"
"""Reasons of Events."""


class Policies(Protocol):
    """What is known of the policies, and of what is published for them."""

    def policies(self) -> Iterable[ObjectKey]:
        """List all policies."""

    def get(self, key: ObjectKey) -> Policy | InvalidPolicy | None:
        """Return a policy as it is now, None if it is gone."""

    def observed(self, key: ObjectKey) -> Observed | None:
        """Return a policy with what its status says."""

    def content(self, policy: Policy) -> str:
        """Return the hash of what a policy's Secret holds; empty where that is not known, or not ours."""


class Verification(Protocol):
    """Told of publications."""

    def published(self, key: ObjectKey) -> None:
        """Have it seen soon whether a new credential is in use."""

    def forget_all(self) -> None:
        """Drop what is known of all policies."""


class _NoVerification:
    def published(self, key: ObjectKey) -> None:
        pass

    def forget_all(self) -> None:
        pass


NO_VERIFICATION: Verification = _NoVerification()
"""Nobody asked for it."""


class VerifiedDelivery:
    """Compares, in a thread of its own.

    Args:
        reader: Reads what filters have.
        policies: What is known of the policies.
        delivery: Rings.
        events: Tells people.
        instrumentation: Told of how long it took, and of how many are behind.
        leads: Only the leader compares.
        defer: Has bells rung once the gateway has what it needs.
        seconds: Seconds that only grow.
    """

    def __init__(
        self,
        reader: FilterConfigReader,
        policies: Policies,
        delivery: Delivery,
        *,
        events: PolicyEvents,
        instrumentation: DeliveryInstrumentation,
        leads: Callable[[], bool],
        defer: Defer,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._policies = policies
        self._delivery = delivery
        self._events = events
        self._instrumentation = instrumentation
        self._leads = leads
        self._defer = defer
        self._seconds = seconds
        self._deliveries = Deliveries()
        self._trouble = ""
        # Written by workers, read by the thread; single operations on a dict are atomic.
        self._published: dict[ObjectKey, float] = {}
        self._anew = threading.Event()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="verified-delivery", daemon=True)

    def start(self) -> None:
        """Compare from now on."""
        self._thread.start()

    def begin_to_stop(self) -> None:
        """Begin no comparison any more."""
        self._stopping.set()
        self._wake.set()

    def stop(self) -> None:
        """End; a request that is under way is not waited for."""
        self.begin_to_stop()
        if self._thread.ident:
            self._thread.join(1.0)

    def dead(self) -> list[str]:
        """Name its thread if that has ended though it was not stopped."""
        return [] if self._stopping.is_set() else dead((self._thread,))

    def published(self, key: ObjectKey) -> None:
        """See ``Verification``."""
        self._published[key] = self._seconds()
        self._wake.set()

    def forget_all(self) -> None:
        """See ``Verification``."""
        # Cleared here: what is published from now on, before the thread comes to it, counts.
        self._published.clear()
        self._anew.set()

    def look(self) -> float:
        """Compare once, and do what follows; return after how many seconds to look again."""
        if self._anew.is_set():
            self._anew.clear()
            self._deliveries = Deliveries()
        if not self._leads():
            self._instrumentation.note_behind(0)
            return SELDOM_S
        found = self._note_published()
        configs = self._read({policy.data_key or policy.source.kind.data_key for policy in found})
        if configs is not None:
            for policy in found:
                self._follow(policy, self._deliveries.judge(policy, configs, self._seconds()))
            self._instrumentation.note_behind(self._deliveries.behind)
        waits = self._published or self._deliveries.is_waiting(self._seconds())
        return SOON_S if configs is not None and waits else SELDOM_S

    def _note_published(self) -> list[RotatablePolicy]:
        now_s, found = self._seconds(), []
        for key in self._policies.policies():
            policy = self._policies.get(key)
            if isinstance(policy, RotatablePolicy) and (content := self._policies.content(policy)):
                self._note(policy, content, now_s)
                found.append(policy)
        self._deliveries.keep([policy.key for policy in found])
        for key, at_s in list(self._published.items()):
            if now_s - at_s > JUST_NOW_S:
                self._published.pop(key, None)
        return found

    def _note(self, policy: RotatablePolicy, content: str, now_s: float) -> None:
        known = self._deliveries.get(policy.key)
        if known is not None and known.content == content:
            return
        # One that the watch has shown before its publication was told of is not counted; there are few of those.
        at_s = self._published.pop(policy.key, None)
        # What was there before this process knew of it, or was put there by another one, has no beginning.
        just_now = at_s is not None and now_s - at_s <= JUST_NOW_S
        self._deliveries.note(policy.key, content, at_s if at_s is not None else now_s, measured=just_now)

    def _read(self, data_keys: Collection[str]) -> Collection[FilterConfig] | None:
        """Read what filters have; None, and said once, where that is not possible."""
        try:
            configs = self._reader.read(data_keys)
            trouble = "" if configs else "the gateway has written none under these names"
        except ApiError as error:
            configs, trouble = [], f"{error.reason}: {error.message}"
        except UnreadableConfigError as error:
            configs, trouble = [], str(error)
        if trouble and trouble != self._trouble:
            log.warning("whether credentials are in use is not known: no filter configuration: %s", trouble)
        elif self._trouble and not trouble:
            log.info("the filters' configuration can be read again")
        self._trouble = trouble
        return configs or None

    def _follow(self, policy: RotatablePolicy, news: News) -> None:
        key = policy.key
        if news.took_s is not None:
            self._instrumentation.note_in_config(news.took_s)
        if news.fell_behind:
            what = "its controller reads the Secret by itself" if policy.managed else "it is told again"
            text = f"{news.age_s:.0f} s after the publication the gateway's filter has another credential"
            log.warning("%s: %s; %s", key, text, what)
            self._events.emit(key, BEHIND, f"{text}; {what}", warning=True)
        elif news.caught_up:
            text = "the gateway's filter has the published credential again"
            log.info("%s: %s", key, text)
            self._events.emit(key, IN_USE, text)
        if news.ring and not policy.managed and not self._delivery.is_pending(key):
            self._defer(key.namespace, partial(self._ring, policy))

    def _ring(self, policy: RotatablePolicy) -> None:
        observed = self._policies.observed(policy.key)
        if observed is not None:
            self._delivery.ring(policy, policy.owner, observed.last_transition)

    def _run(self) -> None:
        while not self._stopping.is_set():
            wait_s, began_s = SELDOM_S, self._seconds()
            try:
                wait_s = self.look()
            except Exception:
                # It tells what others have done, and must not end with what it does not understand.
                log.exception("comparing what filters have failed; going on")
            # With thousands of policies one look takes long, and something is on its way at any time.
            self._stopping.wait(min(REST * (self._seconds() - began_s), SELDOM_S))
            self._wake.wait(wait_s)
            if self._wake.is_set() and not self._stopping.is_set():
                self._wake.clear()
                self._stopping.wait(SOON_S / 2)
