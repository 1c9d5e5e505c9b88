"""What must never happen, watched for while a world runs; and the history by which a violation is understood.

Owns the invariants of reliability.md as far as they show at the borders: requests, writes, and what is published when.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from credrotator.core.errors import NotAsked, RotationError, Throttled, Transient
from credrotator.core.model import ObjectKey
from credrotator.core.planning import LONGEST_LIFE, TINY_LIFE, WORTH, renewal_time
from credrotator.core.secret_document import Ownership, Published, Unreadable
from credrotator.core.secretdata import CONTENT, EXPIRY, FINGERPRINT, ISSUED, content_hash
from tests.reliability.kernel import EPOCH
from tests.support.builders import parse_as

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credrotator.core.model import InvalidPolicy, Policy, Rotatable
    from credrotator.core.outcome import Outcome
    from credrotator.core.secret_document import SecretDocument, StoredSecret
    from credrotator.exchange.issuers.oidc import TokenRequest
    from tests.reliability.process import Process
    from tests.reliability.simulation import Backend, Place

TOLERANCE = timedelta(seconds=36)
"""Below 30 s a difference of clocks is taken for delay; and a write takes its time."""
SLOTS_S = {"deny": 2 * 480.0, "unsure": 2 * 480.0}
OTHER_SLOTS_S = 2 * 300.0
"""Two retry slots, at the longest, by what had been wrong."""
ATTEMPT_S = 100.0
"""For two attempts themselves, a sweep, and a change of leaders."""
TOKEN_GOOD_S = 270.0
WINDOW_S = 10.0
BURST = 40
"""Requests to one failing endpoint by one process in WINDOW_S: what is inside its gate when it falls, and probes."""
SHOWN = 60


class _Said(logging.Handler):
    """Keeps what was logged; a daemon that stumbles over its own feet is a violation."""

    def __init__(self, oracle: Oracle) -> None:
        super().__init__()
        self._oracle = oracle
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        self.lines.append(text)
        if record.exc_info:
            self._oracle.violated(0, None, f"a defect: {text}")


class Oracle:
    """Watches a world; ``violations`` is what it saw, ``log`` the history."""

    def __init__(self, world: Backend) -> None:
        self.world = world
        self.log: list[tuple[float, str]] = []
        self.violations: list[str] = []
        self.handler = _Said(self)
        self.log_level = logging.ERROR
        self.outcomes: list[Outcome] = []
        self.writes: list[tuple[float, str, ObjectKey]] = []
        self.rotations: list[tuple[float, ObjectKey]] = []
        self.attempts: list[tuple[float, str, ObjectKey, bool]] = []
        self.lateness: list[tuple[ObjectKey, float]] = []
        self.token_requests = 0
        self._credentials: dict[str, tuple[ObjectKey, str]] = {}
        self._ends: dict[str, datetime] = {}
        self._flights: set[tuple[str, object]] = set()
        self._tokens: dict[tuple[str, object], float] = {}
        self._patience: dict[tuple[str, object], float] = {}
        self._attempt: dict[str, tuple[ObjectKey, bool]] = {}
        self._failed: dict[tuple[str, ObjectKey], tuple[float, float]] = {}
        self._changed: dict[ObjectKey, float] = {}
        self._succeeded_s = 0.0
        self._landed: Counter[tuple[str, ObjectKey]] = Counter()
        self._probes: Counter[tuple[str, ObjectKey, object]] = Counter()
        self._failing: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
        self._disturbed_s = 0.0
        self._parsed: dict[ObjectKey, tuple[SecretDocument, Published | Unreadable | None]] = {}

    # -- history ------------------------------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """Add a line to the history."""
        self.log.append((self.world.kernel.now_s, text))

    def violated(self, number: int, key: ObjectKey | None, text: str) -> None:
        """Take note of a violation of an invariant; 0 for a defect."""
        self.note(f"*** I{number}: {text}")
        self.violations.append(
            f"I{number} {key or ''} at {self._when(self.world.kernel.now_s)}: {text}\n{self._of(key)}"
        )

    def report(self) -> str:
        """Return the violations with what led to each of the first ones."""
        return f"{len(self.violations)} violations\n" + "\n".join(self.violations[:3])

    def _of(self, key: ObjectKey | None) -> str:
        names = {str(other) for other in self.world.policies if other != key}
        lines = [(at, text) for at, text in self.log if text.split(" ")[0].rstrip(":") not in names]
        return "\n".join(f"  {self._when(at)} {text}" for at, text in lines[-SHOWN:])

    @staticmethod
    def _when(at_s: float) -> str:
        return f"{EPOCH + timedelta(seconds=at_s):%d. %H:%M:%S.%f}"[:-3]

    # -- what happened in the world -----------------------------------------------------------------------------------

    def changed(self, key: ObjectKey) -> None:
        """A policy or its Secret was changed by somebody."""
        self._changed[key] = self.world.kernel.now_s
        self.world.kernel.at(OTHER_SLOTS_S + ATTEMPT_S, lambda: self._is_served(key))

    def disturbed(self, span_s: float) -> None:
        """Processes or machines are disturbed for a while, so that none may be at work."""
        self._disturbed_s = max(self._disturbed_s, self.world.kernel.now_s + span_s)

    def clock_stepped(self) -> None:
        """A machine's clock was set: what it holds may look older than it is."""
        self._tokens.clear()

    def leader(self, holder: str) -> None:
        """The Lease has another holder."""
        self.note(f"the Lease is {holder or 'nobody'}'s")
        self.disturbed(0)

    def issued(self, tag: str, key: ObjectKey, fingerprint: str, expires_at: datetime) -> None:
        """A vendor gave a credential."""
        self._credentials[tag] = (key, fingerprint)
        self._ends[tag] = expires_at

    # -- requests -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def attempt(
        self, process: Process, key: ObjectKey, source: Rotatable, *, ignore_retry_after: bool = False
    ) -> Iterator[None]:
        """One exchange of one policy, from its begin to its end."""
        now_s, who, task = self.world.kernel.now_s, (process.name, key), self._task()
        if not process.leads():
            self.violated(8, key, f"{process.name} exchanges and does not lead")
        began_s, failed_s = self._failed.get(who, (0.0, -1.0))
        excuse_s = max(self._changed.get(key, -1.0), self._succeeded_s, self._disturbed_s)
        # A change that was made while it was asked, or heard of then, is a reason to ask again at once.
        if now_s < failed_s + 0.999 and excuse_s < began_s - 1:
            self.violated(7, key, f"tried again {now_s - failed_s:.3f} s after a failure")
        if ignore_retry_after:
            stored = self.world.secrets.get(ObjectKey(key.namespace, f"ai-eg-bsp-{key.name}"))
            self._probes[(*who, stored and stored.version)] += 1
            if self._probes[(*who, stored and stored.version)] > 2:
                self.violated(7, key, "a third probe in one life")
        self.attempts.append((now_s, process.name, key, ignore_retry_after))
        self._attempt[task] = (key, ignore_retry_after)
        try:
            yield
        except NotAsked as refusal:
            self.note(f"{key} {process.name} is not let through: {refusal.reason} {refusal.retry_after or ''}")
            raise
        except RotationError as error:
            self._failed[who] = (now_s, self.world.kernel.now_s)
            early = " early" if ignore_retry_after else ""
            self.note(f"{key} {process.name} fails{early}: {error.reason} {error.retry_after or ''}")
            raise
        else:
            self._failed.pop(who, None)
        finally:
            self._attempt.pop(task, None)

    @contextlib.contextmanager
    def token_request(self, process: Process, request: TokenRequest, place: Place) -> Iterator[None]:
        """One token request that is really sent."""
        what = (process.name, request.key)
        self.token_requests += 1
        if what in self._flights:
            self.violated(6, None, "two equal token requests in flight")
        if process.machine.boottime() < self._tokens.get(what, 0.0):
            self.violated(6, None, "a token request although an equal one's token is still good")
        self._flights.add(what)
        try:
            with self._request(process, place, request.client_id):
                yield
            if process.machine.offset == timedelta(0):
                self._tokens[what] = self.world.kernel.now_s + TOKEN_GOOD_S - 35
        finally:
            self._flights.discard(what)

    def forgotten(self, process: Process, request: TokenRequest) -> None:
        """A vendor did not like the token."""
        self._tokens.pop((process.name, request.key), None)

    @contextlib.contextmanager
    def exchange(self, process: Process, place: Place, key: ObjectKey) -> Iterator[None]:
        """One exchange request that is really sent."""
        # What one application of Entra is asked to wait is nothing to another; here each policy has its own.
        with self._request(process, place, str(key) if place.name.startswith("entra") else ""):
            yield

    @contextlib.contextmanager
    def _request(self, process: Process, place: Place, client: str) -> Iterator[None]:
        asked_s, whom = self.world.kernel.now_s, (process.name, (place.name, client))
        key, ignore_retry_after = self._attempt[self._task()]
        if asked_s < self._patience.get(whom, 0.0) and not ignore_retry_after:
            self.violated(7, key, f"{place.name} was asked although its Retry-After had not passed")
        try:
            yield
        except Transient as error:
            if error.retry_after:
                self._patience[whom] = asked_s + error.retry_after.total_seconds()
            # Who is throttled is the account; the endpoint answers everybody else.
            self._count(process, place, client if isinstance(error, Throttled) else "", asked_s)
            raise
        except RotationError:
            # A no to one of them is an answer: the endpoint asks for patience no more.
            self._patience.pop(whom, None)
            raise
        self._patience.pop(whom, None)
        for account in {client, ""}:
            self._failing.pop((process.name, place.name, account), None)
        self._succeeded_s = self.world.kernel.now_s

    def _count(self, process: Process, place: Place, account: str, asked_s: float) -> None:
        recent = self._failing[process.name, place.name, account]
        recent.append(asked_s)
        while recent and recent[0] < asked_s - WINDOW_S:
            recent.pop(0)
        if len(recent) > BURST:
            self.violated(7, None, f"{len(recent)} requests to {place.name} in {WINDOW_S} s, and all failed")

    def _task(self) -> str:
        task = self.world.kernel.current
        return task.name if task else ""

    # -- writes -------------------------------------------------------------------------------------------------------

    def landing(
        self, process: Process, document: SecretDocument, stored: StoredSecret | None, expected: str | None
    ) -> None:
        """A write is about to replace what is stored, whose version is the expected one."""
        key = ObjectKey(document.key.namespace, document.key.name.removeprefix("ai-eg-bsp-"))
        policy = self.world.policies.get(key)
        provider = policy.provider if policy else "aws-oidc" if "credentials" in document.data else "azure-oidc"
        before = self._parse(stored.document, provider) if stored else None
        candidate = self._parse(document, provider)
        self.note(f"{key} {process.name} writes, to expire {getattr(candidate, 'expires_at', None)}")
        self.writes.append((self.world.kernel.now_s, process.name, key))
        self._landed[process.name, key] += 1
        if not isinstance(candidate, Published):
            if policy:
                self.violated(1, key, f"published what does not parse: {candidate}")
            return
        # The same data once more, with what says whose it is put right, is neither better nor worse.
        is_repair = (
            stored is not None and stored.document.data == document.data and stored.ownership != _owned(document)
        )
        if not is_repair:
            self._check_worth(key, candidate, before)
        notes = document.annotations
        if not {EXPIRY, ISSUED, FINGERPRINT, CONTENT} <= notes.keys() or notes[CONTENT] != content_hash(document.data):
            self.violated(3, key, "data and annotations do not come together")
        if expected != process.store.read_versions.get(document.key):
            self.violated(3, key, "a write without the version that was read")
        if isinstance(before, Published) and policy and not is_repair:
            due = renewal_time(before, policy.uid)
            self.lateness.append((key, (self.world.kernel.now - due).total_seconds()))
        self._check_owner(key, document)
        holder = (self.world.lease or {}).get("spec", {}).get("holderIdentity")
        if holder != process.name:
            self.violated(8, key, f"{process.name} writes, and {holder or 'nobody'} holds the Lease")

    def _check_worth(self, key: ObjectKey, candidate: Published, before: Any) -> None:
        now = self.world.kernel.now
        life = candidate.expires_at - (candidate.issued_at or now)
        floor = min(life / 2, max(TINY_LIFE, life * WORTH))
        if candidate.expires_at < now + floor - TOLERANCE:
            self.violated(1, key, f"published what expires at {candidate.expires_at}")
        same = isinstance(before, Published) and before.fingerprint in {None, candidate.fingerprint}
        if same and candidate.expires_at <= before.expires_at <= now + LONGEST_LIFE:
            self.violated(1, key, f"published what expires no later than {before.expires_at}")

    def _check_owner(self, key: ObjectKey, document: SecretDocument) -> None:
        tag = _tag_of(document)
        if self._credentials.get(tag) != (key, document.annotations.get(FINGERPRINT)):
            self.violated(6, key, f"holds the credential of {self._credentials.get(tag)}")

    def outcome(self, process: Process, policy: Policy | InvalidPolicy, outcome: Outcome) -> None:
        """The listener was told how a look ended."""
        key = policy.key
        if outcome.action == "rotated":
            self.rotations.append((self.world.kernel.now_s, key))
        if self._landed.pop((process.name, key), 0) > 1:
            self.violated(3, key, "more than one write for one rotation")
        self.outcomes.append(outcome)

    def stored(self, document: SecretDocument) -> None:
        """A Secret was written, by whomever: see what becomes of it by its expiry."""
        key = ObjectKey(document.key.namespace, document.key.name.removeprefix("ai-eg-bsp-"))
        policy = self.world.policies.get(key)
        published = self._parse(document, policy.provider) if policy else None
        if isinstance(published, Published):
            left_s = (published.expires_at - self.world.kernel.now).total_seconds()
            self.world.kernel.at(left_s, lambda: self._is_served(key))

    def _parse(self, document: SecretDocument, provider: str) -> Published | Unreadable | None:
        """Read a Secret; the latest of each key is remembered, since reading costs more than all else here."""
        known = self._parsed.get(document.key)
        if known is None or known[0] is not document:
            known = self._parsed[document.key] = (document, parse_as(document, provider))
        return known[1]

    # -- progress -----------------------------------------------------------------------------------------------------

    def served(self, key: ObjectKey) -> str | None:
        """Say why a policy's Secret is of no use now, None if it is."""
        policy = self.world.policies.get(key)
        if policy is None or policy.secret is None:
            return None
        stored = self.world.secrets.get(policy.secret)
        published = self._parse(stored.document, policy.provider) if stored else None
        if not isinstance(published, Published):
            return f"has no credential: {published}"
        # What is noted beside it may have been edited; the vendor goes by what it has issued.
        expires_at = self._ends.get(_tag_of(stored.document) if stored else "", published.expires_at)
        if min(expires_at, published.expires_at) <= self.world.kernel.now:
            return f"expired at {expires_at}"
        return None

    def owned(self, key: ObjectKey) -> str | None:
        """Say what is wrong with whose a policy's Secret is, None if nothing is, or if it is the gateway's."""
        policy = self.world.policies.get(key)
        stored = self.world.secrets.get(policy.secret) if policy and policy.secret else None
        if policy is None or stored is None or FINGERPRINT not in stored.document.annotations:
            return None
        return None if stored.is_of(policy.owner) else f"is {stored.ownership}, not {policy.owner}"

    def _is_served(self, key: ObjectKey) -> None:
        why = self.served(key)
        if why is None or self.world.kernel.now_s < self._excused_until(key):
            return
        self.violated(12, key, f"{why}, although all that it depends on was well")

    def _excused_until(self, key: ObjectKey) -> float:
        """Return when two retry slots have passed since all was well for a policy."""
        from tests.reliability.simulation import places_of  # noqa: PLC0415 - they know each other

        until_s = max(self._disturbed_s, self._changed.get(key, 0.0)) + OTHER_SLOTS_S + ATTEMPT_S
        for name in ["api", *places_of(self.world.policies[key])]:
            for trouble in self.world.place(name).troubles:
                if trouble.start_s <= self.world.kernel.now_s:
                    slots_s = SLOTS_S.get(trouble.kind, OTHER_SLOTS_S) + ATTEMPT_S
                    until_s = max(until_s, trouble.end_s + (trouble.retry_after_s or 0.0) + slots_s)
        return until_s


def _tag_of(document: SecretDocument) -> str:
    """Return the number of the credential that a Secret holds."""
    text = "".join(value.reveal() for value in document.data.values())
    return next(iter(text.partition("CANARY-")[2].partition("-")[0].split()), "")


def _owned(document: SecretDocument) -> Ownership | None:
    owner = document.owner
    return Ownership(labelled=True, policy=owner.name, uids=frozenset({owner.uid})) if owner else None


def moment(at_s: float) -> datetime:
    """Return a moment of true time."""
    return EPOCH + timedelta(seconds=at_s)
