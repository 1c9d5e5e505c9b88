"""Preflight: every step of an exchange tried on its own, nothing written, and what the other side must have set up.

Owns the order of the steps and their words; each step is done by the very code that a rotation uses.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from credrotator.advice import SHOWN, audiences, aws_trust_policy, entra_federated_credential
from credrotator.errors import RotationError, printable
from credrotator.exchange.deadline import deadline
from credrotator.exchange.exchanger import Exchanger, token_request
from credrotator.exchange.probe import name_addresses, name_certificate
from credrotator.model import (
    AwsCredential,
    AwsOidc,
    AzureClientSecret,
    AzureOidc,
    AzureToken,
    Failure,
    InvalidPolicy,
    ObjectKey,
    OidcClient,
    Policy,
    Rotatable,
    SecretKeyRef,
    Static,
    SubjectToken,
    Unsupported,
)
from credrotator.rotation import check_static, invalid, unsupported
from credrotator.secretdata import show_time

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from credrotator.ports import SecretReader

Result = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step, how it went, and how long it took (seconds; None where it was not tried)."""

    name: str
    result: Result
    detail: str
    took_s: float | None = None
    error: Failure | None = None


@dataclass
class Report:
    """All steps for one policy, and the settings that its token needs on the other side."""

    policy: ObjectKey
    provider: str
    steps: list[Step] = field(default_factory=list)
    advice: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Tell whether a step failed."""
        return any(step.result == "failed" for step in self.steps)


class StopHere(Exception):
    """A step failed; those after it depend on it."""


class Check:
    """Checks policies one by one, with the exchange that rotations would use."""

    def __init__(self, exchanger: Exchanger, timeout: timedelta) -> None:
        self._exchanger = exchanger
        self._timeout = timeout

    def __call__(self, policy: Policy | InvalidPolicy, secrets: SecretReader) -> Report:
        """Try every step for one policy; what fails becomes part of the report."""
        report = Report(policy.key, policy.provider)
        if isinstance(policy, InvalidPolicy):
            found = invalid(policy)
            report.steps.append(Step("policy", "failed", f"read from {policy.origin}", error=found.error))
            return report
        report.warnings = policy.warnings
        report.steps.append(Step("policy", "ok", f"{policy.api_version}, read from {policy.origin}"))
        try:
            with deadline(self._timeout):
                self._steps(report, policy, secrets)
        except StopHere:
            pass
        return report

    def _steps(self, report: Report, policy: Policy, secrets: SecretReader) -> None:
        source = policy.source
        match source:
            case Static():
                with _step(report, "references") as found:
                    check_static(source, secrets)
                    found.detail = str(source.secret.secret) if source.secret else "the filter's own default chain"
            case Unsupported():
                error = unsupported(policy, source).error
                report.steps.append(Step("exchange", "skipped", error.message if error else "", error=error))
            case AzureClientSecret():
                with _step(report, "references") as found:
                    secrets(source.client_secret)
                    found.detail = _reference(source.client_secret)
                self._exchange(report, policy, source, secrets)
            case AwsOidc() | AzureOidc():
                token = self._token(report, source.oidc, secrets)
                report.advice = _advice(policy.key, source, token)
                self._exchange(report, policy, source, secrets)

    def _token(self, report: Report, client: OidcClient, secrets: SecretReader) -> SubjectToken:
        """Take the steps up to the issuer's token."""
        issuers = self._exchanger.issuers
        with _step(report, "references") as found:
            request = token_request(client, secrets)
            found.detail = _reference(client.client_secret)
        with _step(report, "allowed") as found:
            transport = issuers.transport_for(client.issuer)
            found.detail = f"issuer {client.issuer}"
        with _step(report, "name") as found:
            found.detail = name_addresses(client.issuer, transport)
        with _step(report, "tls") as found:
            found.detail = name_certificate(client.issuer, transport)
        with _step(report, "discovery") as found:
            found.detail = f"not needed: the policy names {client.token_endpoint}"
            if not client.token_endpoint:
                found.detail = f"token endpoint {issuers.metadata(client.issuer).token_endpoint}"
        with _step(report, "token") as found:
            token = issuers.subject_token(request)
            found.detail = _claims(token)
        _check_audience(report, client, token)
        return token

    def _exchange(self, report: Report, policy: Policy, source: Rotatable, secrets: SecretReader) -> None:
        with _step(report, "exchange") as found:
            match self._exchanger(policy.key, source, secrets):
                case AwsCredential() as aws:
                    found.detail = f"access key {aws.access_key_id[:4]}…, until {show_time(aws.expires_at)}"
                case AzureToken() as azure:
                    found.detail = f"access token, until {show_time(azure.expires_at)}"


@dataclass
class _Found:
    detail: str = ""


@contextlib.contextmanager
def _step(report: Report, name: str) -> Iterator[_Found]:
    """Time one step and add it to the report.

    Raises:
        StopHere: It failed; the report says how.
    """
    started_s, found = time.monotonic(), _Found()
    try:
        yield found
    except RotationError as error:
        failure = Failure(error.kind, error.reason, error.message, error.hint)
        report.steps.append(Step(name, "failed", "", time.monotonic() - started_s, failure))
        raise StopHere from error
    report.steps.append(Step(name, "ok", printable(found.detail), time.monotonic() - started_s))


def _reference(ref: SecretKeyRef) -> str:
    return f"Secret {ref.secret}, key {ref.key}"


def _claims(token: SubjectToken) -> str:
    shown = [f"{name} {printable(token.claims[name], 80)}" for name in SHOWN if name in token.claims]
    return ", ".join([*shown, f"good until {show_time(token.expires_at)}"])


def _check_audience(report: Report, client: OidcClient, token: SubjectToken) -> None:
    """An issuer may ignore the audience parameter (RFC 6749 does not have it), which the exchange then suffers from."""
    if client.audience and client.audience not in audiences(token.claims):
        got = ", ".join(audiences(token.claims)) or "none"
        what = f"the policy asks for audience {printable(client.audience)}, the token has {got}"
        todo = "set it at the issuer (an audience mapper, an API identifier), which ignores the parameter"
        report.warnings += (f"{what}: {todo}",)


def _advice(policy: ObjectKey, source: AwsOidc | AzureOidc, token: SubjectToken) -> dict[str, Any]:
    match source:
        case AwsOidc():
            return {"awsTrustPolicy": aws_trust_policy(source, token.claims)}
        case AzureOidc():
            return {"entraFederatedCredential": entra_federated_credential(policy, token.claims)}
