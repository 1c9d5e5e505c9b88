"""Preflight: every step of an exchange tried on its own, nothing written, and what the other side must have set up.

Owns the order of the steps and their words; each step is done by the very code that a rotation uses. A step that fails
ends the exchange; whether its result could be delivered is asked all the same.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, Protocol, Self
from urllib.parse import urlsplit

from credrotator.core.claims import audiences
from credrotator.core.durations import show_duration
from credrotator.core.errors import OpaqueToken, RotationError, Transient, printable
from credrotator.core.model import (
    ClientKey,
    InvalidPolicy,
    ObjectKey,
    OidcClient,
    Policy,
    RotatablePolicy,
    SecretKeyRef,
    ServiceAccountToken,
    SubjectToken,
    SubjectUse,
    TokenFile,
    Unsupported,
)
from credrotator.core.outcome import Failure
from credrotator.core.secretdata import show_time
from credrotator.diagnosis.network import name_addresses, name_certificate, proxy_route
from credrotator.exchange.http.clock_offset import TOLERANCE, SkewedClock
from credrotator.exchange.http.deadline import deadline, remaining_s
from credrotator.exchange.http.endpoint import ISSUER
from credrotator.exchange.vendors import NetworkEndpoint
from credrotator.policies.managed import header_mutation
from credrotator.providers import provider_of
from credrotator.providers.provider import Advice
from credrotator.rotation.not_rotated import check_static, invalid_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from credrotator.core.ports import Clock, SecretReader
    from credrotator.exchange.exchanger import Exchanger
    from credrotator.exchange.subject_tokens import SubjectTokenSource

ISSUER_NAME = ISSUER.name.lower()
# azp beside aud: AWS goes by it where a token has both.
SHOWN = ("iss", "aud", "azp", "sub")
"""Claims that decide whether the other side accepts the token."""
ALREADY_HERE = ("run credrotator check, which prints the", "compare it with the")
"""Advice that sends people here, and what stands in its place where they are here already."""
Result = Literal["ok", "failed", "skipped"]


class Destination(Protocol):
    """Where credentials go, as far as it can be asked without writing; both raise RotationError."""

    def rights(self, policy: RotatablePolicy, /) -> str:
        """See whether what is needed there may be done, and say what was looked at."""

    def delivery(self, policy: RotatablePolicy, /) -> tuple[str, tuple[str, ...]]:
        """See whether a credential would get to its reader; what was found, and what is odd."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step, how it went, and how long it took (seconds; None where it was not tried).

    Attributes:
        endpoint: The other side of the step, where there is one: ``issuer``, ``token`` (its endpoint), or the vendor.
        endpoint_title: The same for people.
    """

    name: str
    result: Result
    detail: str
    took_s: float | None = None
    error: Failure | None = None
    endpoint: str = ""
    endpoint_title: str = ""


@dataclass
class Report:
    """All steps for one policy, and what its token needs on the other side, once it was seen."""

    policy: ObjectKey
    provider: str
    steps: list[Step] = field(default_factory=list)
    advice: Advice | None = None
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, policy: Policy | InvalidPolicy) -> Self:
        """Begin a report: the first step is the reading of the policy, and the last one where that failed."""
        where = f"read from {policy.origin}"
        if isinstance(policy, InvalidPolicy):
            return cls(policy.key, policy.provider, [Step("policy", "failed", where, error=invalid_failure(policy))])
        step = Step("policy", "ok", f"{policy.api_version}, {where}")
        return cls(policy.key, policy.provider, [step], warnings=policy.warnings)

    @property
    def failed(self) -> bool:
        """Tell whether a step failed."""
        return any(step.result == "failed" for step in self.steps)


class StopHere(Exception):
    """A step failed; those after it depend on it."""


class Check:
    """Checks policies one by one, with the exchange that rotations would use.

    Args:
        exchanger: The exchange.
        timeout: For one policy's steps up to the credential.
        site: Where credentials go; None where nobody said.
        clock: The exchanger's; if it is one that notes others' dates, a wrong clock is told.
    """

    def __init__(self, exchanger: Exchanger, timeout: timedelta, destination: Destination | None, clock: Clock) -> None:
        self._exchanger = exchanger
        self._timeout = timeout
        # With an underscore behind it, too: the method that asks it has the name.
        self._destination_ = destination
        self._clock = clock

    def __call__(self, policy: Policy | InvalidPolicy, secrets: SecretReader) -> Report:
        """Try every step for one policy; what fails becomes part of the report."""
        report = Report.of(policy)
        if isinstance(policy, InvalidPolicy):
            return report
        # One deadline for all steps, as a rotation has one: steps that each take their full time would pass here and
        # fail there.
        with contextlib.suppress(StopHere), deadline(self._timeout):
            self._steps(report, policy, secrets)
        if isinstance(policy, RotatablePolicy):
            self._destination(report, policy)
            self._name_headers(report, policy)
            self._compare_clocks(report, policy)
        return report

    def _steps(self, report: Report, policy: Policy, secrets: SecretReader) -> None:
        if isinstance(policy.source, Unsupported):
            report.steps.append(Step("references", "ok", "none that is known"))
            return
        if not isinstance(policy, RotatablePolicy):
            with _step(report, "references") as step:
                check_static(policy.source, secrets)
                step.detail = str(policy.secret) if policy.secret else "the filter's own default chain"
            return
        source = policy.source
        token_source = source.token_source
        match token_source:
            case None:
                self._read_references(report, source.own_references, secrets)
            case TokenFile() | ServiceAccountToken():
                subject = self._exchanger.subject(policy.key, token_source, secrets)
                self._advise(report, policy, self._read(report, subject, token_source))
            case OidcClient():
                token = self._token(report, policy.key, token_source, secrets, source.subject_use)
                if source.subject_use is not SubjectUse.CREDENTIAL:
                    self._advise(report, policy, token)
        self._exchange(report, policy, secrets)

    def _read_references(self, report: Report, references: Iterable[SecretKeyRef], secrets: SecretReader) -> None:
        for reference in references:
            with _step(report, "references") as step:
                secrets(reference)
                step.detail = _reference(reference)

    def _advise(self, report: Report, policy: RotatablePolicy, token: SubjectToken) -> None:
        if lacking := _lacking(token):
            # What would be printed would let nobody in, or everybody.
            report.warnings += (f"{lacking}; so there is nothing to set up at the vendor that would let it in",)
            return
        source = provider_of(policy.source).advised(policy.source)
        document = provider_of(source).advise(policy.key, source, token.claims)
        if document is not None:
            report.advice = Advice(policy.key, source, document)

    def _token(
        self, report: Report, policy: ObjectKey, client: OidcClient, secrets: SecretReader, use: SubjectUse
    ) -> SubjectToken:
        """Take the steps up to the issuer's token."""
        issuers = self._exchanger.issuers
        with _step(report, "references") as step:
            # What the vendor takes once is not used up here: the exchange gets a token of its own.
            shown = SubjectUse.SHARED if use is SubjectUse.ONCE else use
            request = self._exchanger.token_request(policy, client, secrets, shown)
            step.detail = _proof(client)
        with _step(report, "allowed") as step:
            transport = issuers.transport_for(client.issuer)
            step.detail = f"issuer {client.issuer}"
        endpoint_address = NetworkEndpoint(ISSUER_NAME, ISSUER_NAME, client.issuer, transport)
        if not client.token_endpoint:
            # Not for a token endpoint that the policy names: then the issuer's own address is never asked.
            _check_network(report, endpoint_address)
        with _step(report, "discovery", endpoint_address.name, endpoint_address.title) as step:
            step.detail = f"not needed: the policy names {client.token_endpoint}"
            endpoint = client.token_endpoint or issuers.metadata(client.issuer).token_endpoint
            if not client.token_endpoint:
                step.detail = f"token endpoint {endpoint}"
        # Another host has another name, proxy and certificate, and may not be allowed although the issuer is.
        if client.token_endpoint or _origin(endpoint) != _origin(client.issuer):
            with _finding(report, "allowed", "token", "token endpoint"):
                transport = issuers.token_transport(client, endpoint)
            _check_network(report, NetworkEndpoint("token", "token endpoint", endpoint, transport))
        token = _without_claims(report, lambda: issuers.subject_token(request))
        with _step(report, "claims") as step:
            step.detail = _claims(token)
            report.warnings += (*token.warnings, *_odd_claims(client, token))
        return token

    def _read(
        self, report: Report, subject: SubjectTokenSource, source: TokenFile | ServiceAccountToken
    ) -> SubjectToken:
        """Take the steps up to a file's token, or a service account's."""
        what = "token file" if isinstance(source, TokenFile) else "service account"
        with _step(report, "token") as step:
            token = subject.token()
            step.detail = f"{what} {source.name}, good until {show_time(token.expires_at)}"
        with _step(report, "claims") as step:
            step.detail = _claims(token)
            report.warnings += (*token.warnings, *_unreachable_issuer(token))
        return token

    def _exchange(self, report: Report, policy: RotatablePolicy, secrets: SecretReader) -> None:
        with _finding(report, "exchange"):
            endpoint = self._exchanger.endpoint(policy.source)
        if policy.source.subject_use is not SubjectUse.CREDENTIAL:
            # Else it is the issuer's, which was looked at.
            _check_network(report, endpoint)
        with _step(report, "exchange", endpoint.name, endpoint.title) as step:
            credential = self._exchanger(policy.key, policy.source, secrets)
            step.detail = f"{credential.summary}, until {show_time(credential.expires_at)}"

    def _destination(self, report: Report, policy: RotatablePolicy) -> None:
        """Ask for what comes after the exchange, whether that went well or not."""
        destination = self._destination_
        if destination is None:
            report.steps.append(Step("delivery", "skipped", "name the directory with --out DIR to have it looked at"))
            return
        with contextlib.suppress(StopHere), _step(report, "rights") as step:
            step.detail = destination.rights(policy)
        with contextlib.suppress(StopHere), _step(report, "delivery") as step:
            step.detail, odd = destination.delivery(policy)
            report.warnings += odd

    def _name_headers(self, report: Report, policy: RotatablePolicy) -> None:
        """Say what requests with the credential need beside it; the gateway's backend has to add it."""
        if mutation := header_mutation(provider_of(policy.source).managed):
            shown = json.dumps({"spec": mutation}, separators=(",", ":"))
            report.steps.append(Step("headers", "ok", f"its backends (AIServiceBackend) have to add {shown}"))

    def _compare_clocks(self, report: Report, policy: RotatablePolicy) -> None:
        if not isinstance(self._clock, SkewedClock):
            return
        with contextlib.suppress(RotationError):
            seen = self._clock.seen()
            asked = {step.endpoint for step in report.steps if step.took_s is not None}
            # Those that this policy asked; a shared clock knows others of earlier policies as well.
            for endpoint in (ISSUER, self._exchanger.endpoint(policy.source).transport.endpoint):
                name = endpoint.name.lower()
                by = seen.get(name)
                if name in asked and by is not None and abs(by) > TOLERANCE:
                    how = f"{show_duration(abs(by))} {'behind' if by > timedelta(0) else 'ahead of'}"
                    report.warnings += (f"this machine's clock is {how} that of {endpoint.title}: set the wrong one",)


@dataclass
class _Running:
    detail: str = ""


@contextlib.contextmanager
def _step(report: Report, name: str, endpoint: str = "", endpoint_title: str = "") -> Iterator[_Running]:
    """Time one step and add it to the report.

    Raises:
        StopHere: It failed; the report says how.
    """
    started_s, running = time.monotonic(), _Running()
    with _finding(report, name, endpoint, endpoint_title):
        _see_time_left()
        yield running
    took_s = time.monotonic() - started_s
    report.steps.append(Step(name, "ok", printable(running.detail), took_s, None, endpoint, endpoint_title))


@contextlib.contextmanager
def _finding(report: Report, name: str, endpoint: str = "", endpoint_title: str = "") -> Iterator[None]:
    """Add a step to the report if it fails.

    Raises:
        StopHere: It failed.
    """
    started_s = time.monotonic()
    try:
        yield
    except RotationError as error:
        hint = error.hint.replace(*ALREADY_HERE)
        failure = replace(Failure.of(error), hint=hint)
        report.steps.append(Step(name, "failed", "", time.monotonic() - started_s, failure, endpoint, endpoint_title))
        raise StopHere from error


def _see_time_left() -> None:
    """Blame no step for the time that those before it took.

    Raises:
        Transient: None is left.
    """
    try:
        remaining_s()
    except TimeoutError as error:
        hint = "see which of them is slow, or give it more time with --timeout"
        raise Transient("TimeUp", "the steps before this one took all the time that there is", hint=hint) from error


def _check_network(report: Report, endpoint_address: NetworkEndpoint) -> None:
    """Take the steps below HTTP."""
    trials = (("dns", name_addresses), ("proxy", proxy_route), ("tls", name_certificate))
    for name, trial in trials:
        with _step(report, name, endpoint_address.name, endpoint_address.title) as step:
            # Each makes its own connection, so that it can fail at one thing only; three handshakes cost less than a
            # wrong diagnosis.
            step.detail = trial(endpoint_address.url, endpoint_address.transport)


def _without_claims(report: Report, ask: Callable[[], SubjectToken]) -> SubjectToken:
    """Get the token; that it came and cannot be read is the next step's failure."""
    # Two steps of one request: an issuer that answers well but with an opaque token is not to be shown as failing.
    opaque: OpaqueToken | None = None
    with _step(report, "token", ISSUER_NAME, ISSUER_NAME) as step:
        try:
            token = ask()
            step.detail = f"good until {show_time(token.expires_at)}"
        except OpaqueToken as error:
            opaque, step.detail = error, "a token came"
    with _finding(report, "claims"):
        if opaque:
            raise opaque
    return token


def _proof(client: OidcClient) -> str:
    """Say by what a client proves who it is."""
    match client.assertion:
        case ServiceAccountToken(name=name, audience=audience):
            return f"none; the client proves itself by a token of service account {name} for {audience}"
        case TokenFile(name=name, audience=audience):
            return f"none; the client proves itself by token file {name} for {audience}"
        case ClientKey(private_key=private_key):
            return _reference(private_key)
        case None:
            pass
    return _reference(client.client_secret) if client.client_secret else "none"


def _reference(ref: SecretKeyRef) -> str:
    return f"Secret {ref.secret}, key {ref.key}"


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()


def _claims(token: SubjectToken) -> str:
    shown = {**token.claims, "aud": " and ".join(audiences(token.claims))}
    return ", ".join(f"{name} {printable(shown[name], 80)}" for name in SHOWN if name in token.claims)


def _odd_claims(client: OidcClient, token: SubjectToken) -> Iterator[str]:
    """Say what the other side will stumble over; an issuer may ignore what it was asked for (RFC 6749 has no aud)."""
    issuer = printable(token.claims.get("iss", "nobody"))
    # Google's tokens name the issuer without a scheme, and vendors take both.
    if issuer.rpartition("://")[2] != client.issuer.rpartition("://")[2]:
        yield f"the token names {issuer} as its issuer, the policy {client.issuer}: the other side goes by the token's"
    named = audiences(token.claims)
    if client.audience and named and client.audience not in named:
        what = f"the policy asks for audience {printable(client.audience)}, the token has {', '.join(named)}"
        yield f"{what}: set it at the issuer (an audience mapper, an API identifier), which ignores the parameter"


def _unreachable_issuer(token: SubjectToken) -> Iterator[str]:
    """Say where vendors cannot read the keys of whoever signed the token, as with a cluster of one's own."""
    # kubeadm, kind and most distributions name it so by default; EKS, GKE and AKS have public issuers.
    host = urlsplit(printable(token.claims.get("iss", ""))).hostname or ""
    if host.endswith((".svc", ".svc.cluster.local", ".local")) or host in {"localhost", "kubernetes.default"}:
        what = f"the token's issuer {host} is known in this cluster only, so a vendor cannot fetch its keys"
        yield f"{what}: give the API server a public --service-account-issuer, and publish its discovery and keys there"


def _lacking(token: SubjectToken) -> str:
    """Say what a token lacks that every vendor asks for, and what to do about it; nothing where it has all."""
    if not audiences(token.claims):
        return "the token has no audience (aud): have the issuer put one into this client's tokens"
    if not token.claims.get("sub"):
        return "the token has no subject (sub), so no other side can tell whose it is: have the issuer add it"
    # No vendor fetches keys by plain http.
    if printable(token.claims.get("iss", "")).lower().startswith("http://"):
        return "the token names an issuer by plain http: have the issuer name itself by https"
    return ""
