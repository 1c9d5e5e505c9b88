"""A deterministic world: issuers, STS, Entra, an API server, and processes that run the real daemon over them.

Owns the other side of every port, and the faults that befall it. What is real: planning, back-off, rotation, queue,
daemon, timetable, exchanger, gates, shared requests, the corrected clock, leader election. What is made up: time
(``kernel``), APScheduler, HTTP and the vendors' SDKs, the API server.
"""

from __future__ import annotations

import contextlib
import logging
import random
from dataclasses import dataclass, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from credrotator.core.backoff import _unit_hash
from credrotator.core.errors import Conflict, Denied, NoConnection, Outage, RotationError, Throttled
from credrotator.core.model import (
    Credential,
    ObjectKey,
    OidcClient,
    Owner,
    Policy,
    RotatablePolicy,
    SecretKeyRef,
    fingerprint,
    generated_secret,
)
from credrotator.core.secret_document import Ownership, SecretDocument, StoredSecret
from credrotator.core.secretdata import EXPIRY, read_time, render, show_time
from credrotator.core.sensitive import Sensitive
from credrotator.exchange.http import deadline as deadline_module
from credrotator.exchange.http import single_flight as shared_module
from credrotator.exchange.http.deadline import remaining_s
from credrotator.kube.client import leader_election as lease_module
from credrotator.kube.client.leader_election import LeaseTiming
from credrotator.providers.aws.source import AwsCredential, AwsOidc
from credrotator.providers.aws.sts import STS
from credrotator.providers.azure.source import AzureOidc, AzureToken, EntraApp
from credrotator.rotation import attempt as attempt_module
from credrotator.rotation import daemon as daemon_module
from tests.reliability.kernel import FakeFuture, Kernel, Machine
from tests.reliability.oracle import Oracle
from tests.reliability.process import Process
from tests.reliability.stand_ins import CANARY
from tests.support.builders import client_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credrotator.core.model import Rotatable
    from credrotator.exchange.http.endpoint import Endpoint

AUTHORITY = "https://login.example"
READ_TIMEOUT_S = 15.0
TIMING = LeaseTiming()
SLOW_TIMING = LeaseTiming(timedelta(seconds=60), timedelta(seconds=40), timedelta(seconds=10))
"""For long worlds: fewer renewals."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with an endpoint, from when to when (seconds of true time)."""

    kind: str
    start_s: float
    end_s: float
    retry_after_s: float | None = None


class Place:
    """An endpoint: what is wrong with it, and who asked it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.troubles: list[Trouble] = []
        self.asked: list[float] = []

    def trouble(self, now_s: float) -> Trouble | None:
        """Return what is wrong with it now."""
        return next((each for each in self.troubles if each.start_s <= now_s < each.end_s), None)


def fault(trouble: Trouble, endpoint: Endpoint) -> RotationError:
    """Return the error that the adapters make of a trouble (``transport.py``, ``aws.py``, ``azure.py``)."""
    name = endpoint.name
    patience = timedelta(seconds=trouble.retry_after_s) if trouble.retry_after_s else None
    match trouble.kind:
        case "refuse":
            return NoConnection(f"{name}Unreachable", "connection refused", hint="look")
        case "hang":
            return Outage(f"{name}Timeout", "no answer in time", hint="look")
        case "garbage":
            return Outage("InvalidResponse", "not readable", hint="look")
        case "throttle":
            return Throttled(f"{name}Throttled", "asks for patience", hint="wait", retry_after=patience)
        case "unsure":
            reason = "InvalidIdentityToken" if endpoint is STS else "AADSTS700213"
            return Denied(reason, "not known here yet", hint="wait")
        case _:
            pass
    return Denied("AccessDenied" if endpoint is STS else "InvalidClient", "no", hint="grant")


class Backend:
    """Everything.

    Attributes:
        policies: What is so; each process hears of it a little later.
        lives: How long a policy's credentials live.
        secrets: What the API server holds.
        lease: The Lease, None while nobody made one.
        partitioned: Machines that cannot reach the API server, and until when.
    """

    def __init__(self, seed: int = 0, *, workers: int = 4, timing: LeaseTiming = TIMING) -> None:
        self.random = random.Random(seed)  # noqa: S311 - reproducible on purpose
        self.kernel = Kernel()
        self.workers, self.timing = workers, timing
        self.oracle = Oracle(self)
        self.policies: dict[ObjectKey, Policy] = {}
        self.lives: dict[ObjectKey, timedelta] = {}
        self.secrets: dict[ObjectKey, StoredSecret] = {}
        self.lease: dict[str, Any] | None = None
        self.partitioned: dict[str, float] = {}
        self.places: dict[str, Place] = {}
        self.machines: list[Machine] = []
        self.processes: list[Process] = []
        self.api = self.place("api")
        self.latency_s = (0.005, 0.3)
        self._serial = 0

    # -- the world's own doings ---------------------------------------------------------------------------------------

    def place(self, name: str) -> Place:
        """Return an endpoint by its name."""
        return self.places.setdefault(name, Place(name))

    def troubled(self, *names: str) -> Place:
        """Return the first of some endpoints that has trouble now, else the first."""
        places = [self.place(name) for name in names]
        return next((place for place in places if place.trouble(self.kernel.now_s)), places[0])

    def add_machine(self) -> Machine:
        """Set up a computer."""
        machine = Machine(self.kernel, f"m{len(self.machines)}")
        self.machines.append(machine)
        return machine

    def boot(self, machine: Machine) -> Process:
        """Start a process on a machine."""
        self._serial += 1
        process = Process(self, machine, f"{machine.name}.{self._serial}")
        self.processes.append(process)
        self.oracle.note(f"{process.name} starts")
        process.start()
        return process

    def put(self, policy: Policy, life: timedelta | None = None) -> None:
        """Create or edit a policy."""
        before = self.policies.get(policy.key)
        self.lives[policy.key] = life or self.lives.get(policy.key) or timedelta(hours=1)
        self.policies[policy.key] = policy
        self.oracle.changed(policy.key)
        self.oracle.note(f"{policy.key} {'is edited' if before else f'is created, life {self.lives[policy.key]}'}")
        self._tell(policy.key)

    def delete(self, key: ObjectKey) -> None:
        """Delete a policy; its Secret goes with it, by the owner reference."""
        if self.policies.pop(key, None):
            self.secrets.pop(generated_secret(key), None)
            self.oracle.changed(key)
            self.oracle.note(f"{key} is deleted")
            self._tell(key)

    def lose_secret(self, key: ObjectKey) -> None:
        """Let somebody delete a published Secret."""
        if self.secrets.pop(generated_secret(key), None):
            self.oracle.changed(key)
            self.oracle.note(f"{key}: somebody deletes its Secret")
            self._tell(key)

    def garble(self, key: ObjectKey, *, annotation: bool) -> None:
        """Let somebody edit a published Secret."""
        stored = self.secrets.get(generated_secret(key))
        if stored is None:
            return
        document = stored.document
        if annotation:
            document = replace(document, annotations={**document.annotations, EXPIRY: "tomorrow"})
        else:
            document = replace(document, data=dict.fromkeys(document.data, Sensitive("typed by hand")))
        self._store(document)
        self.oracle.changed(key)
        self.oracle.note(f"{key}: somebody edits its Secret's {'annotation' if annotation else 'data'}")
        self._tell(key)

    def edit_times(self, key: ObjectKey, by: timedelta, *names: str) -> None:
        """Let somebody move the times beside a published credential."""
        stored = self.secrets.get(generated_secret(key))
        if stored is None:
            return
        notes = dict(stored.document.annotations)
        for name in names:
            if moment := read_time(notes.get(name)):
                notes[name] = show_time(moment + by)
        self._store(replace(stored.document, annotations=notes))
        self.oracle.changed(key)
        self.oracle.note(f"{key}: somebody moves {', '.join(names)} by {by}")
        self._tell(key)

    def disown(self, key: ObjectKey, what: str) -> None:
        """Let somebody edit whose a published Secret is; with a dead owner, it is collected before long."""
        stored, policy = self.secrets.get(generated_secret(key)), self.policies.get(key)
        if stored is None or policy is None or stored.ownership is None:
            return
        ownership = stored.ownership
        match what:
            case "label":
                ownership = replace(ownership, labelled=False)
            case "annotation":
                ownership = replace(ownership, policy="")
            case "owner":
                ownership = replace(ownership, uids=frozenset())
            case _:
                ownership = replace(ownership, uids=frozenset({"dead"}))
        self._store(stored.document, ownership)
        self.oracle.changed(key)
        self.oracle.note(f"{key}: somebody edits its Secret's {what}")
        self._tell(key)
        self._collect_later(key)

    def make_anew(self, key: ObjectKey) -> None:
        """Delete a policy and create it again at once, so that nobody hears of it but by its UID."""
        policy = self.policies[key]
        self._serial += 1
        self.policies[key] = replace(policy, uid=f"uid-{self._serial}-of-{key.name}")
        self.oracle.changed(key)
        self.oracle.note(f"{key} is made anew")
        self._tell(key)
        self._collect_later(key)

    def _collect_later(self, key: ObjectKey) -> None:
        """Be the garbage collector, which takes its time: a Secret whose owners are all gone goes with them."""

        def collect() -> None:
            stored = self.secrets.get(generated_secret(key))
            owners = stored.ownership.uids if stored and stored.ownership else frozenset()
            if owners and not owners & {policy.uid for policy in self.policies.values()}:
                self.lose_secret(key)

        self.kernel.at(self.random.uniform(1.0, 60.0), collect)

    def usurp(self, key: ObjectKey, span_s: float) -> None:
        """Let another replica, which nobody knows, lead for a while, and publish for a policy meanwhile.

        It takes over as everybody does: after all others could not be heard of for as long as the Lease says.
        """
        away_s = self.timing.lease_duration.total_seconds()
        for machine in self.machines:
            until_s = max(self.partitioned.get(machine.name, 0.0), self.kernel.now_s + away_s)
            self.partitioned[machine.name] = until_s
        self.kernel.at(away_s, lambda: self._take_lease(int(span_s) or 1))
        self.kernel.at(away_s + span_s / 2, lambda: self._publish_as_another(key))

    def _take_lease(self, span_s: int) -> None:
        if self.lease is not None:
            metadata, spec = self.lease["metadata"], self.lease["spec"]
            metadata = {**metadata, "resourceVersion": str(int(metadata["resourceVersion"]) + 1)}
            spec = {**spec, "holderIdentity": "another", "leaseDurationSeconds": span_s}
            self.lease = {**self.lease, "metadata": metadata, "spec": spec}
            self.oracle.leader("another")

    def _publish_as_another(self, key: ObjectKey) -> None:
        policy = self.policies.get(key)
        if not isinstance(policy, RotatablePolicy) or (self.lease or {})["spec"]["holderIdentity"] != "another":
            return
        credential = self.issue(key, policy.source, self.kernel.now)
        document = render(policy.secret, credential, policy.fingerprint, owner=policy.owner)
        self._store(document, _owned(policy.owner))
        self.oracle.note(f"{key}: the other replica writes")
        self._tell(key)

    def rival(self, key: ObjectKey) -> None:
        """Let the gateway's own rotator be quicker: a fresh credential with nothing but its annotation."""
        policy = self.policies.get(key)
        stored = self.secrets.get(generated_secret(key))
        if policy is None or stored is None or not isinstance(policy.source, AwsOidc):
            return
        credential = self.issue(policy.key, policy.source, self.kernel.now)
        document = render(generated_secret(key), credential, fingerprint(policy.source))
        self._store(replace(document, annotations={EXPIRY: show_time(credential.expires_at)}))
        self.oracle.note(f"{key}: the gateway's rotator writes")

    def kill(self, process: Process) -> None:
        """Kill -9."""
        self.processes.remove(process)
        self.oracle.note(f"{process.name} is killed")
        process.kill()

    def close(self) -> None:
        """End all threads."""
        for process in self.processes:
            process.kill()
        self.processes.clear()

    def run(self, until_s: float) -> None:
        """Let time pass."""
        with self._installed():
            self.kernel.run(until_s)

    @contextlib.contextmanager
    def _installed(self) -> Iterator[None]:
        """Hand made-up time to the modules that look at the clock by themselves."""
        seconds = SimpleNamespace(monotonic=self._monotonic)
        kernel = self.kernel
        swaps: list[tuple[Any, str, Any]] = [
            (deadline_module, "time", seconds),
            (daemon_module, "time", seconds),
            (attempt_module, "time", seconds),
            (shared_module, "Future", lambda: FakeFuture(kernel)),
            # Pure, and what takes longest: asked for the same policies over and over.
            # The real one is different in each process of the operating system.
            (lease_module, "jitter", _unit_hash),
        ]
        before = [getattr(module, name) for module, name, _ in swaps]
        logger = logging.getLogger("credrotator")
        level = logger.level
        logger.addHandler(self.oracle.handler)
        logger.setLevel(self.oracle.log_level)
        for module, name, value in swaps:
            setattr(module, name, value)
        try:
            yield
        finally:
            for (module, name, _), value in zip(swaps, before, strict=True):
                setattr(module, name, value)
            logger.removeHandler(self.oracle.handler)
            logger.setLevel(level)

    def _monotonic(self) -> float:
        task = self.kernel.current
        return task.machine.monotonic() if task else self.kernel.now_s

    def _tell(self, key: ObjectKey) -> None:
        for process in self.processes:
            process.source.hear(key, self.random.uniform(0.01, 0.5))

    # -- what is asked of it ------------------------------------------------------------------------------------------

    def answer(self, place: Place, endpoint: Endpoint) -> Trouble | None:
        """Let the current task ask an endpoint; return a trouble that concerns the content of the answer.

        Raises:
            RotationError: What the adapters would make of it.
        """
        place.asked.append(self.kernel.now_s)
        trouble = place.trouble(self.kernel.now_s)
        left_s = remaining_s() or READ_TIMEOUT_S
        if trouble and trouble.kind == "hang":
            self.kernel.sleep(min(left_s, READ_TIMEOUT_S), timer=True)
            raise fault(trouble, endpoint)
        self.kernel.sleep(self.random.uniform(*self.latency_s), timer=False)
        if trouble and trouble.kind not in {"past", "short"}:
            raise fault(trouble, endpoint)
        remaining_s()
        return trouble

    def issue(self, key: ObjectKey, source: Rotatable, issued_at: Any, trouble: Trouble | None = None) -> Credential:
        """Make a credential that tells whom it is for."""
        life = self.lives[key]
        if trouble:
            life = -life if trouble.kind == "past" else max(timedelta(seconds=30), life / 10)
        expires_at = (self.kernel.now + life).replace(microsecond=0)
        self._serial += 1
        tag = f"{self._serial:09d}"
        self.oracle.issued(tag, key, fingerprint(source), expires_at)
        if isinstance(source, AwsOidc):
            secrets = Sensitive(f"{CANARY}-{tag}"), Sensitive(f"{CANARY}-session-{tag}")
            return AwsCredential(f"ASIA{tag}", *secrets, source.region, issued_at, expires_at, f"request-{tag}")
        return AzureToken(Sensitive(f"{CANARY}-{tag}"), issued_at, expires_at, f"request-{tag}")

    def land(self, process: Process, document: SecretDocument, expected: str | None) -> Exception | None:
        """Be the API server for a write that arrives."""
        stored = self.secrets.get(document.key)
        if (stored.version if stored else None) != expected:
            return Conflict(str(document.key))
        self.oracle.landing(process, document, stored, expected)
        self._store(document, _owned(document.owner) if document.owner else None)
        return None

    def _store(self, document: SecretDocument, ownership: Ownership | None = None) -> None:
        """Store a Secret; without an ownership, it has the one that it had."""
        self._serial += 1
        present = self.secrets.get(document.key)
        ownership = ownership or (present.ownership if present else None)
        self.secrets[document.key] = StoredSecret(document, str(self._serial), ownership)
        self.oracle.stored(document)


def _owned(owner: Owner) -> Ownership:
    """Return what makes a Secret a policy's."""
    return Ownership(labelled=True, policy=owner.name, uids=frozenset({owner.uid}))


def policy_of(
    name: str,
    *,
    issuer: int | str = 0,
    client: int = 0,
    region: str = "us-east-1",
    role: str = "r",
    azure: bool = False,
    namespace: str = "default",
    account: str = "123456789012",
    token_endpoint: str | None = None,
) -> RotatablePolicy:
    """Return a policy; clients of one number share their token requests, within a namespace."""
    key = ObjectKey(namespace, name)
    host = f"https://idp-{issuer}.example" if isinstance(issuer, int) else issuer
    reference = SecretKeyRef(ObjectKey(namespace, f"client-{client}"), "client-secret", "spec.x")
    oidc = OidcClient(host, f"client-{client}", reference, token_endpoint=token_endpoint or f"{host}/token")
    source: Rotatable = AwsOidc(oidc, f"arn:aws:iam::{account}:role/{name}-{role}", region)
    if azure:
        # The client id carries the policy's key, which Entra's side of the port is not told.
        source = AzureOidc(oidc, EntraApp("contoso.example", str(key), AUTHORITY, f"https://{role}/.default"))
    return RotatablePolicy(key, source, f"uid-of-{name}", "v1beta1", "world", generated_secret(key))


def places_of(policy: Policy) -> list[str]:
    """Name the endpoints that a policy depends on."""
    match policy.source:
        case AwsOidc() as aws:
            return [client_of(aws).issuer, f"sts {aws.region}"]
        case AzureOidc() as azure:
            return [client_of(azure).issuer, f"entra {azure.app.authority}"]
        case _:
            pass
    return []
