"""What a replica of the simulation meets: one class for each thing that is made up."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

from apscheduler.jobstores.base import JobLookupError

from credrotator.core.errors import Denied, Outage, StaleToken, StoreAway
from credrotator.core.sensitive import Sensitive
from credrotator.exchange.http.endpoint import Endpoint
from credrotator.exchange.issuers.oidc import Issuers, TokenRequest
from credrotator.exchange.vendors import ExchangeSteps, NetworkEndpoint, Vendor, VendorContext
from credrotator.kube.client.api_errors import CONFLICT, NO_ANSWER, NOT_FOUND, ApiError
from credrotator.providers.aws.source import AwsOidc
from credrotator.providers.aws.sts import STS
from credrotator.providers.azure.entra import ENTRA
from credrotator.providers.azure.source import AzureOidc
from credrotator.rotation.workqueue import WorkQueue
from tests.reliability.kernel import Kernel, Machine, Signal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from credrotator.core.model import Credential, InvalidPolicy, ObjectKey, Policy, Rotatable, SubjectToken
    from credrotator.core.ports import SecretReader
    from credrotator.core.secret_document import SecretDocument, StoredSecret
    from credrotator.exchange.issuers.discovery import Metadata
    from credrotator.exchange.issuers.token_request import TokenResponse
    from tests.reliability.kernel import Event
    from tests.reliability.process import Process
    from tests.reliability.simulation import Backend, Place

TOKEN_LIFE = timedelta(minutes=5)
API_PATIENCE_S = 5.0
CANARY = "CANARY"
"""Part of everything that must never be shown."""


class SimQueue(WorkQueue):
    """The real queue, whose workers wait in made-up time."""

    def __init__(
        self,
        kernel: Kernel,
        workers: int,
        lane_of: Callable[[ObjectKey], str],
        lane_limit: Callable[[str], int],
    ) -> None:
        super().__init__(workers, lane_of, lane_limit)
        self._idle = Signal(kernel)

    def add(self, key: ObjectKey, priority: int = 2) -> None:
        super().add(key, priority)
        if not self.is_handled(key):
            self._idle.notify(1)

    def get(self, timeout_s: float | None = None) -> ObjectKey | None:
        while (key := super().get(0)) is None and not self._closed:
            self._idle.wait()
        return key

    def leave_lane(self, key: ObjectKey) -> None:
        super().leave_lane(key)
        self._idle.notify(1)

    def done(self, key: ObjectKey) -> None:
        super().done(key)
        self._idle.notify(len(self._queued))

    def close(self) -> None:
        super().close()
        self._idle.notify()


class SimScheduler:
    """APScheduler with its traits: it computes each wait once, on seconds that a clock step does not move."""

    running = False

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._jobs: dict[str, Event] = {}

    def add_job(self, job: Any, _trigger: str, args: list[Any], *, run_date: Any, id: str, **_: object) -> None:  # noqa: A002
        """Run ``job(*args)`` at that time."""
        if id in self._jobs:
            self._jobs[id].cancelled = True

        def fire() -> None:
            left_s = (run_date - self._machine.clock()).total_seconds()
            if left_s > 0:
                self._jobs[id] = self._machine.kernel.at(left_s, fire, self._machine, timer=True)
                return
            self._jobs.pop(id, None)
            job(*args)

        left_s = (run_date - self._machine.clock()).total_seconds()
        self._jobs[id] = self._machine.kernel.at(left_s, fire, self._machine, timer=True)

    def remove_job(self, id: str) -> None:  # noqa: A002
        """Forget a job."""
        if id not in self._jobs:
            raise JobLookupError(id)
        self._jobs.pop(id).cancelled = True


class SimIssuers(Issuers):
    """The real sharing and pausing of token requests, over made-up HTTP."""

    world: Backend
    process: Process

    def forget(self, request: TokenRequest, token: SubjectToken) -> None:
        super().forget(request, token)
        self.world.oracle.forgotten(self.process, request)

    def _ask(self, request: TokenRequest, metadata: Metadata, transport: Any, assertion: Any) -> TokenResponse:
        world, secret = self.world, request.client.client_secret
        assert secret
        base = metadata.token_endpoint.removesuffix("/token")
        # Whoever names a client of another namespace does not know its secret: he is answered in his own way.
        place = world.troubled(base, f"{base} for {secret.secret.namespace}")
        with world.oracle.token_request(self.process, request, place):
            world.answer(place, Endpoint("Issuer", "the issuer"))
            expires = (world.kernel.now + TOKEN_LIFE).timestamp()
            issued = int(world.kernel.now.timestamp())
            claims = {"iss": request.client.issuer, "iat": issued, "exp": int(expires), "jti": len(place.asked)}
            parts = [json.dumps(part).encode() for part in ({"alg": "RS256"}, claims)]
            token = ".".join(urlsafe_b64encode(part).decode().rstrip("=") for part in parts) + f".{CANARY}"
            return {"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_LIFE.total_seconds()}


class SimVendor(Vendor):
    """STS and Entra: what ``aws.Sts`` and ``azure.Entra`` do, over made-up HTTP."""

    def __init__(self, process: Process) -> None:
        self.process, self.world = process, process.world

    def credential(self, source: Rotatable, steps: ExchangeSteps) -> Credential:
        """See ``Vendor``."""
        assert isinstance(source, AwsOidc | AzureOidc)
        if isinstance(source, AwsOidc):
            names, endpoint = [f"sts {source.region}", f"sts {source.region} for {source.account}"], STS
        else:
            names, endpoint = [f"entra {source.app.authority}"], ENTRA

        def ask(token: SubjectToken) -> Credential:
            return self._exchange(steps.policy, source, token, self.world.troubled(*names), endpoint)

        return steps.exchange(source.asked, ask)

    def endpoint(self, source: Rotatable) -> NetworkEndpoint:
        """See ``Vendor``; nobody asks here."""
        raise NotImplementedError

    def _exchange(
        self, key: ObjectKey, source: Rotatable, token: SubjectToken, place: Place, endpoint: Endpoint
    ) -> Credential:
        exchanger, clock = self.process.exchanger, self.process.clock
        with self.world.oracle.exchange(self.process, place, key):
            trouble = self.world.answer(place, endpoint)
            exchanger._date(endpoint, format_datetime(self.world.kernel.now, usegmt=True))
            if token.claims["exp"] <= self.world.kernel.now.timestamp():  # type: ignore[operator]
                raise StaleToken("ExpiredTokenException", "the token has expired", hint="look")
            credential = self.world.issue(key, source, clock(), trouble)
            if credential.expires_at <= clock():
                raise Outage("CredentialExpired", "expired already", hint="set the clock")
            return credential


@dataclass
class SimProvider:
    """Both vendors of one process."""

    process: Process
    sources = (AwsOidc, AzureOidc)

    def vendor(self, context: VendorContext) -> Vendor:
        """See ``Provider``."""
        return SimVendor(self.process)


class SimApi:
    """The part of ``KubeApi`` that leader election uses."""

    def __init__(self, process: Process) -> None:
        self.process, self.world = process, process.world

    def get(self, path: str, *, read_timeout_s: float | None = None) -> dict[str, Any]:
        """Read the Lease."""
        self._pass(read_timeout_s)
        if self.world.lease is None:
            raise ApiError(NOT_FOUND, "NotFound", "no Lease")
        return self.world.lease

    def post(self, path: str, body: dict[str, Any], *, read_timeout_s: float | None = None) -> dict[str, Any]:
        """Create the Lease."""
        self._pass(read_timeout_s)
        if self.world.lease is not None:
            raise ApiError(CONFLICT, "AlreadyExists", "it is there")
        return self._write(body, 1)

    def put(self, path: str, body: dict[str, Any], *, read_timeout_s: float | None = None) -> dict[str, Any]:
        """Replace the Lease."""
        self._pass(read_timeout_s)
        present = self.world.lease
        version = body["metadata"].get("resourceVersion")
        if present is None or present["metadata"]["resourceVersion"] != version:
            raise ApiError(CONFLICT, "Conflict", "changed meanwhile")
        return self._write(body, int(version) + 1)

    def _write(self, body: dict[str, Any], version: int) -> dict[str, Any]:
        before = (self.world.lease or {}).get("spec", {}).get("holderIdentity")
        self.world.lease = {**body, "metadata": {**body["metadata"], "resourceVersion": str(version)}}
        holder = self.world.lease["spec"]["holderIdentity"]
        if holder != before:
            self.world.oracle.leader(holder)
        return self.world.lease

    def _pass(self, timeout_s: float | None) -> None:
        if self.process.cut_off():
            self.world.kernel.sleep(timeout_s or API_PATIENCE_S)
            raise ApiError(NO_ANSWER, "Timeout", "no answer")
        self.process.clock.suppose("api-server", format_datetime(self.world.kernel.now, usegmt=True))


class SimStore:
    """Secrets on the API server, as one process sees them; keeps ``ClusterStore``'s promises."""

    def __init__(self, process: Process) -> None:
        self.process, self.world = process, process.world
        self.read_versions: dict[ObjectKey, str | None] = {}
        self.reads = 0

    def read(self, key: ObjectKey) -> StoredSecret | None:
        trouble = self.world.api.trouble(self.world.kernel.now_s)
        if self.process.cut_off() or (trouble and trouble.kind == "store"):
            raise StoreAway("ApiUnreachable", "no answer", hint="look")
        stored = self.world.secrets.get(key)
        self.reads += 1
        self.read_versions[key] = stored.version if stored else None
        return stored

    def publish(self, document: SecretDocument, expected: str | None) -> None:
        world, trouble = self.world, self.world.api.trouble(self.world.kernel.now_s)
        kind = "drop" if self.process.cut_off() else trouble.kind if trouble else ""
        answers: list[Exception | None] = []
        if kind not in {"drop", "deny", "store", "write"}:
            world.kernel.at(
                world.random.uniform(0.001, 0.5),
                lambda: answers.append(world.land(self.process, document, expected)),
            )
        world.kernel.sleep(0.6 if kind != "drop" else API_PATIENCE_S, timer=False)
        if kind == "deny":
            raise Denied("Forbidden", "no", hint="grant")
        if kind in {"drop", "store", "write"} or (kind == "lost" and world.random.random() < 0.5):
            raise StoreAway("ApiTimeout", "no answer to the write", hint="look")
        if answers[0]:
            raise answers[0]


class SimSource:
    """The policies, as one process has heard of them."""

    def __init__(self, process: Process) -> None:
        self.process, self.world = process, process.world
        self._view: dict[ObjectKey, Policy] = {}
        self._changed: Callable[[ObjectKey], None] = lambda _: None

    def start(self, changed: Callable[[ObjectKey], None]) -> None:
        self._changed = changed
        for key in list(self.world.policies):
            self.hear(key, self.world.random.uniform(0.01, 0.5))

    def stop(self) -> None:
        """Hear nothing any more."""

    def get(self, key: ObjectKey) -> Policy | InvalidPolicy | None:
        return self._view.get(key)

    def policies(self) -> Iterable[ObjectKey]:
        return list(self._view)

    def reader(self, key: ObjectKey) -> SecretReader:
        return lambda ref: Sensitive(f"{CANARY}-{ref.secret}")

    def trouble(self) -> str | None:
        return None

    def hear(self, key: ObjectKey, delay_s: float) -> None:
        """Hear of a change, when the network allows."""
        if self.process.dead:
            return
        if left_s := self.process.cut_off():
            self.world.kernel.at(left_s, lambda: self.hear(key, delay_s), self.process.machine)
            return

        def heard() -> None:
            if self.process.dead:
                return
            policy = self.world.policies.get(key)
            if policy is None:
                self._view.pop(key, None)
            else:
                self._view[key] = policy
            self._changed(key)

        self.world.kernel.at(delay_s, heard, self.process.machine)
