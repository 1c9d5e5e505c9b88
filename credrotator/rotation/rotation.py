"""The one use case: read → plan → exchange → publish → outcome. Used by ``rotate``, ``run`` and cron alike.

Owns the order of things and the invariants of publishing: nothing is written unless it is better than what is there,
never blindly, and a credential that was issued survives a conflict. Must not know files, clusters or vendors.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from credrotator.core.audit_log import NO_AUDIT
from credrotator.core.errors import Abandoned, Conflict, Rejected, RotationError, Transient
from credrotator.core.instrumentation import NO_INSTRUMENTATION
from credrotator.core.model import Credential, InvalidPolicy, ObjectKey, Policy, RotatablePolicy
from credrotator.core.planning import Keep, Plan, Reason, Rotate, can_wait, plan, refusal
from credrotator.core.ports import NOBODY_TO_ASK, NOTHING_CACHED
from credrotator.core.secret_document import Absent, Published, SecretDocument, StoredSecret, Unreadable
from credrotator.core.secretdata import content_hash, parse, render
from credrotator.rotation.guard import UNGUARDED
from credrotator.rotation.not_rotated import check_static, invalid, static_reason
from credrotator.rotation.outcomes import failure, outcome_of, overtaken
from credrotator.rotation.verification import verify

if TYPE_CHECKING:
    from datetime import datetime

    from credrotator.core.audit_log import AuditLog
    from credrotator.core.instrumentation import Instrumentation
    from credrotator.core.outcome import Outcome
    from credrotator.core.ports import AskTime, CachedState, Clock, Exchange, SecretReader, SecretStore, WriteGuard

log = logging.getLogger(__name__)

# Two writers that are sane meet once or twice; more is a fight that another attempt will not win either.
PUBLISH_TRIES = 5
DELAY = timedelta(minutes=1)
"""Two clocks that are right may differ by this much."""


@dataclass(frozen=True, slots=True)
class RotateOptions:
    """What the caller asks of an attempt.

    Attributes:
        within: Also rotate what becomes due in this span.
        force: Rotate whatever is published.
        dry_run: Only tell what would be done.
        ignore_retry_after: Ask although a Retry-After is not over: it would outlast the credential.
        is_retry: An attempt has failed, and no change of policy or Secret was reported since. The exchange, whose
            circuit may be open, comes before the store then: in an outage of thousands of policies neither is asked in
            vain.
    """

    within: timedelta = timedelta(0)
    force: bool = False
    dry_run: bool = False
    ignore_retry_after: bool = False
    is_retry: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """What the store holds for one policy, and what that means."""

    stored: StoredSecret | None
    published: Published | Unreadable | None
    plan: Plan

    @property
    def version(self) -> str | None:
        """The version that a write has to name."""
        return self.stored.version if self.stored else None

    @property
    def expires_at(self) -> datetime | None:
        """The end of the published credential, as far as it is known."""
        return self.published.expires_at if self.published else None

    def has_data_of(self, other: State) -> bool:
        """Tell whether both hold the same values, whatever is noted beside them."""
        mine, others = (state.stored.document.data if state.stored else None for state in (self, other))
        return mine == others


@dataclass(frozen=True, slots=True)
class _Held:
    """The latest credential of a policy, how it reads back, the hash of its data, and whether it was verified."""

    credential: Credential
    published: Published | Unreadable | None
    content: str
    verified: bool = False


class Rotation:
    """Rotates single policies; safe to share between threads, one thread per policy.

    The latest credential of each policy is held in memory: one that could not be written is written by the next try,
    and one that somebody deleted or edited is put back, both without another exchange.

    Args:
        store: Where credentials are published.
        exchange: Where they come from.
        clock: The present moment.
        guard: See ``WriteGuard``.
        instrumentation: Told of the writes.
        audit: Told of what is decided about credentials that were issued.
        cached_state: See ``CachedState``. Where a credential need not be renewed by that, the store is not asked:
            whoever knows also tells when it changes. Where there is none by that, the first write creates it.
        ask_time: See ``AskTime``: asked before a credential is called fresh that was issued in the future.
    """

    def __init__(
        self,
        store: SecretStore,
        exchange: Exchange,
        clock: Clock,
        guard: WriteGuard = UNGUARDED,
        *,
        instrumentation: Instrumentation = NO_INSTRUMENTATION,
        audit: AuditLog = NO_AUDIT,
        cached_state: CachedState = NOTHING_CACHED,
        ask_time: AskTime = NOBODY_TO_ASK,
    ) -> None:
        self._store = store
        self._exchange = exchange
        self._clock = clock
        self._guard = guard
        self._instrumentation = instrumentation
        self._audit = audit
        self._cached_state = cached_state
        self._ask_time = ask_time
        # A credential that was issued is not thrown away because it could not be written: AWS's are gone with the
        # answer, a vendor's quota is spent, and the next exchange may fail.
        self._held: dict[ObjectKey, _Held] = {}
        # What was read last. A store that is away must not make an expiry unknown, by which back-off and metrics go
        # (I16).
        self._known: dict[ObjectKey, Published | Unreadable | None] = {}

    def __call__(self, policy: Policy | InvalidPolicy, secrets: SecretReader, options: RotateOptions) -> Outcome:
        """Do what is due for one policy; a failure becomes part of the outcome, never an exception."""
        if isinstance(policy, InvalidPolicy):
            return invalid(policy)
        try:
            if isinstance(policy, RotatablePolicy):
                return self._rotate(policy, secrets, options)
            check_static(policy.source, secrets)
            return outcome_of(policy, "skipped", static_reason(policy.source), None)
        except Abandoned as error:
            # Skipped, not failed: nothing is wrong, and no alert is to ring because another replica leads.
            return replace(outcome_of(policy, "skipped", error.reason, None), abandoned=True)
        except RotationError as error:
            return self._failed(policy, error, options)

    def forget(self, key: ObjectKey) -> None:
        """Drop what is held for a policy that is gone."""
        self._held.pop(key, None)
        self._known.pop(key, None)

    def state(self, policy: RotatablePolicy, options: RotateOptions) -> State:
        """Read the store and decide; changes nothing.

        Raises:
            RotationError: The store cannot be read.
        """
        # The Secret itself, never a cache: the gateway's own rotator publishes old tokens because it reads one
        # (upstream 2603).
        stored = self._store.read(policy.secret)
        published = parse(stored.document if stored else None, policy.source, policy.data_key, policy.shape)
        if stored and isinstance(published, Published):
            published = self._unedited(policy.key, stored, published)
        self._known[policy.key] = published
        return State(stored, published, self._plan(policy, published, options))

    def _unedited(self, key: ObjectKey, stored: StoredSecret, published: Published) -> Published | Unreadable:
        """Believe no other times beside the credential that we wrote: it lives for as long as it was issued for."""
        held = self._held.get(key)
        # The process that wrote the Secret knows its times by heart. Another one has the hash beside them only.
        if held is None or _have_same_times(published, held.published):
            return published
        if content_hash(stored.document.data) != held.content:
            return published
        return Unreadable(
            "its times were changed by somebody else", held.published.expires_at if held.published else None
        )

    def _plan(
        self,
        policy: RotatablePolicy,
        published: Published | Unreadable | None,
        options: RotateOptions,
        now: datetime | None = None,
    ) -> Plan:
        return plan(
            published,
            fingerprint=policy.fingerprint,
            seed=policy.uid,
            now=now or self._clock(),
            request=policy.renew_request,
            within=options.within,
            force=options.force,
        )

    def _rotate(self, policy: RotatablePolicy, secrets: SecretReader, options: RotateOptions) -> Outcome:
        seen = self._seen(policy)
        if isinstance(seen, Published):
            if isinstance(self._plan(policy, seen, options), Keep) and not self._is_ahead(seen):
                return outcome_of(policy, "kept", "Fresh", seen)
        elif seen and not options.dry_run:
            return self._create(policy, secrets, options)
        # In an outage of the vendor, the circuit refuses without asking; reading the Secret before that would move the
        # outage's load to the API server, ten thousand reads at a time.
        if options.is_retry and self._is_known_to_be_due(policy, options):
            held = self._credential(policy, secrets, options)
            return self._publish(policy, held, self.state(policy, options), options)
        for _ in range(PUBLISH_TRIES):
            with suppress(Conflict):
                return self._do_due(policy, secrets, options)
        raise overtaken(policy, PUBLISH_TRIES)

    def _do_due(self, policy: RotatablePolicy, secrets: SecretReader, options: RotateOptions) -> Outcome:
        """Read the store, and do what is due by that.

        Raises:
            Conflict: Somebody else wrote the Secret meanwhile, or deleted it.
        """
        state = self.state(policy, options)
        # A credential from the future: this machine's clock is behind, and "fresh" may mean dead already.
        if isinstance(state.plan, Keep) and isinstance(state.published, Published) and self._is_ahead(state.published):
            policy, state = self._doubted(policy, state, options)
        match state.plan:
            case Keep():
                return self._keep(policy, state, options)
            case Rotate(reason=reason) if options.dry_run:
                for reference in policy.references:
                    secrets(reference)  # what is missing or not permitted would end the rotation, too
                return outcome_of(policy, "rotated", reason, state.published)
            case Rotate(reason=reason, detail=detail):  # what comes of it is in the audit record
                log.debug("rotating %s: %s %s", policy.key, reason, detail)
        return self._publish(policy, self._credential(policy, secrets, options), state, options)

    def _create(self, policy: RotatablePolicy, secrets: SecretReader, options: RotateOptions) -> Outcome:
        """Rotate without a look: a write that expects nothing to be there is a conflict where something is."""
        self._known[policy.key] = None
        state = State(None, None, self._plan(policy, None, options))
        return self._publish(policy, self._credential(policy, secrets, options), state, options)

    def _is_ahead(self, published: Published) -> bool:
        """Tell whether a credential was issued later than now, so that this machine's clock must be behind."""
        return published.issued_at is not None and published.issued_at > self._clock() + DELAY

    def _doubted(self, policy: RotatablePolicy, state: State, options: RotateOptions) -> tuple[RotatablePolicy, State]:
        """Ask what time it is, and decide by that; the policy comes back with a warning.

        Raises:
            Transient: Nobody tells: a credential that may be dead is not called fresh.
        """
        warning = "its credential was issued later than it is by this machine's clock, which is behind; set the clock"
        policy = replace(policy, warnings=(*policy.warnings, warning))
        now = None if options.dry_run else self._ask_time(policy.source)
        if now is None or now <= self._clock():
            return policy, replace(state, plan=self._plan(policy, state.published, options))
        state = replace(state, plan=self._plan(policy, state.published, options, now))
        if isinstance(state.plan, Rotate):
            # What is held is as old as it.
            self._held.pop(policy.key, None)
        return policy, state

    def _is_known_to_be_due(self, policy: RotatablePolicy, options: RotateOptions) -> bool:
        """Decide by what was read or heard last."""
        if policy.key not in self._known:
            return False
        return isinstance(self._plan(policy, self._known[policy.key], options), Rotate)

    def _credential(self, policy: RotatablePolicy, secrets: SecretReader, options: RotateOptions) -> _Held:
        """Return the latest credential, or a new one; it is held until there is a later one."""
        credential = self._held_credential(policy, options)
        if credential is None:
            credential = self._exchange(
                policy.key, policy.source, secrets, ignore_retry_after=options.ignore_retry_after
            )
        document = self._document(policy, credential)
        # Read back as the next process will read it, before it is written: what does not read back is never published.
        published = parse(document, policy.source, policy.data_key, policy.shape)
        held = self._held[policy.key] = _Held(credential, published, content_hash(document.data))
        return held

    def _document(self, policy: RotatablePolicy, credential: Credential) -> SecretDocument:
        return render(
            policy.secret,
            credential,
            policy.fingerprint,
            data=policy.data(credential),
            owner=policy.owner,
            request=policy.renew_request,
        )

    def _seen(self, policy: RotatablePolicy) -> Published | Absent | None:
        """Return what was heard of the Secret, unless it contradicts what we wrote: then only the store can tell."""
        seen, held = self._cached_state(policy), self._held.get(policy.key)
        if isinstance(seen, Absent):  # what we have issued may be there already, and not heard of yet
            return None if held else seen
        if seen is not None:
            self._known[policy.key] = seen
        return seen if seen is None or held is None or _have_same_times(seen, held.published) else None

    def _keep(self, policy: RotatablePolicy, state: State, options: RotateOptions) -> Outcome:
        """Leave a good credential alone; where its Secret does not say whose it is, write the same data once more."""
        # Reported as adopted, and left alone here: the label and the annotations are the listener's to write
        # (``kube.adoption``).
        if isinstance(state.published, Published) and state.published.fingerprint is None:
            return outcome_of(policy, "kept", "Adopted", state.published)
        outcome = outcome_of(policy, "kept", "Fresh", state.published)
        if options.dry_run or state.stored is None or state.stored.is_of(policy.owner):
            return outcome
        self._guard(policy)
        # A conflict is not left to the other write's event: without our label the Secret is none that we watch, and its
        # deletion would go unnoticed until the renewal.
        self._store.publish(replace(state.stored.document, owner=policy.owner), state.version)
        log.info("%s: Secret %s is this policy's again", policy.key, policy.secret)
        return replace(outcome, repaired=True)

    def _held_credential(self, policy: RotatablePolicy, options: RotateOptions) -> Credential | None:
        """Return the latest credential of this policy, if it is still what the policy asks for and not due itself."""
        held = self._held.get(policy.key)
        # Forced means a new exchange: whoever asks for one has a reason to mistrust what is there.
        if held is None or options.force:
            return None
        return held.credential if isinstance(self._plan(policy, held.published, options), Keep) else None

    def _publish(self, policy: RotatablePolicy, held: _Held, state: State, options: RotateOptions) -> Outcome:
        """Write the credential; when somebody else was quicker, read and decide again with it in hand."""
        credential, candidate = held.credential, held.published
        document = self._document(policy, credential)
        first, still = state, options
        # Bounded: two writers that answer each other's writes would never end.
        for _ in range(PUBLISH_TRIES):
            decided = state.plan
            # At the second turn or later: whoever was quicker has written what will do, and a second write would only
            # wake the gateway.
            if isinstance(decided, Keep):
                self._audit.refused(policy, "Adopted", "somebody else was quicker", state.expires_at, credential)
                return outcome_of(policy, "kept", "Adopted", state.published)
            if why := _worse(candidate, state, self._clock(), still):
                return self._keep_better(policy, credential, why, still)
            if state is first:
                policy = self._verified(policy, held, state, options)
            # The last thing before each write, and at each turn: the exchange took seconds, in which the Lease may have
            # gone to another process (I8).
            self._refuse_abandoned(policy, credential, state)
            try:
                with self._instrumentation.stage("write"):
                    self._store.publish(document, state.version)
            except Conflict:
                state = self.state(policy, options)
                # Somebody else renewed it this very moment: what was asked for (force, within) is done. Where only its
                # metadata was touched, it is not: the credential that was to be replaced is still there.
                still = options if state.has_data_of(first) else RotateOptions()
                state = replace(state, plan=self._plan(policy, state.published, still))
                continue
            # Without reading it again: the write was conditional, so this is what is there.
            self._known[policy.key] = candidate
            self._audit.published(policy, decided.reason, state.expires_at, document, credential)
            return replace(outcome_of(policy, "rotated", decided.reason, candidate), created=state.version is None)
        raise overtaken(policy, PUBLISH_TRIES)

    def _verified(self, policy: RotatablePolicy, held: _Held, state: State, options: RotateOptions) -> RotatablePolicy:
        """See that a new credential is good, if it is to be seen; where that cannot wait, the policy gets a warning.

        Raises:
            RotationError: It is not, or it could not be seen, and what is published is good for a while.
        """
        if not policy.verify or self._held.get(policy.key, held).verified:
            return policy
        ask = partial(self._exchange.verify, ignore_retry_after=options.ignore_retry_after)
        try:
            warning = verify(ask, policy, held.credential, may_wait=can_wait(state.published, self._clock()))
        except Rejected as error:
            # The next try needs another one.
            self._held.pop(policy.key, None)
            self._audit.refused(policy, error.reason, error.message, state.expires_at, held.credential)
            raise
        if warning:
            return replace(policy, warnings=(*policy.warnings, warning))
        self._held[policy.key] = replace(held, verified=True)
        return policy

    def _refuse_abandoned(self, policy: RotatablePolicy, credential: Credential, state: State) -> None:
        try:
            self._guard(policy)
        except Abandoned as error:
            self._audit.refused(policy, error.reason, "it is not ours to write any more", state.expires_at, credential)
            raise

    def _keep_better(
        self, policy: RotatablePolicy, credential: Credential, why: str, options: RotateOptions
    ) -> Outcome:
        """Leave the published credential alone; that is a failure only if it is due by its own times, or was forced.

        An early pass (``within``) may well get a token that the vendor kept for us, or one with a shorter life.
        """
        # Judged by its own times, not by ``within``: cron asks early, and a vendor that gives the same token again then
        # is no failure.
        state = self.state(policy, RotateOptions(force=options.force))
        if isinstance(state.plan, Keep):
            self._audit.refused(policy, "NotBetter", why, state.expires_at, credential)
            return outcome_of(policy, "kept", "NotBetter", state.published)
        hint = "compare this machine's clock with the vendor's; see how long its credentials live"
        raise Transient("NotBetter", f"the new credential was not published: {why}", hint=hint)

    def _failed(self, policy: Policy, error: RotationError, options: RotateOptions) -> Outcome:
        log.debug("%s failed: %s: %s", policy.key, error.reason, error.message)
        if not isinstance(policy, RotatablePolicy) or policy.key not in self._known:
            return failure(policy, error, error.reason, None)
        known = self._known[policy.key]
        # The reason tells what was to be done (Expiring), the error why it was not: alerts go by the first.
        decided = self._plan(policy, known, options)
        return failure(policy, error, decided.reason if isinstance(decided, Rotate) else error.reason, known)


def _have_same_times(one: Published, other: Published | Unreadable | None) -> bool:
    return isinstance(other, Published) and (one.expires_at, one.issued_at) == (other.expires_at, other.issued_at)


def _worse(candidate: Published | Unreadable | None, state: State, now: datetime, options: RotateOptions) -> str | None:
    """Say why a new credential must not replace what is there (I1), None if it may.

    Raises:
        Transient: It is no usable credential at all.
    """
    if not isinstance(candidate, Published):
        why = candidate.why if candidate else "it is empty"
        hint = "report this: a credential was issued that does not read back"
        raise Transient("NotPublishable", f"the new credential is not usable: {why}", hint=hint)
    # An edited policy makes the published credential the wrong one, however long it lives, and so does a request.
    changed = isinstance(state.plan, Rotate) and state.plan.reason in {Reason.SPEC_CHANGED, Reason.REQUESTED}
    return refusal(candidate, state.published, now=now, replace=options.force or changed)
