"""The part of a preflight that needs no network: shape, references, what the operator allows, and what trust would fit.

For manifests on their way into a cluster, in CI or before a commit. Owns what counts as an error there: Secrets are
rarely kept beside policies, so one that is not among the manifests is a note, while one that is there and cannot work
is an error. Nothing is resolved, connected to or written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.core.errors import RotationError
from credrotator.core.model import InvalidPolicy, OidcClient, Policy, RotatablePolicy, SecretKeyRef, Unsupported
from credrotator.core.outcome import Failure
from credrotator.diagnosis.preflight import Report, Step
from credrotator.providers import provider_of
from credrotator.providers.provider import Advice
from credrotator.rotation.not_rotated import check_static

if TYPE_CHECKING:
    from collections.abc import Callable

    from credrotator.core.ports import SecretReader
    from credrotator.exchange.exchanger import Exchanger

ELSEWHERE = "SecretNotFound"
"""The reason that is none here: the Secret may come another way than the policy."""
SUBJECT = "SUBJECT-OF-THE-TOKEN"
"""Stands for what only the issuer knows, in the trust that is printed."""


class OfflineCheck:
    """Checks policies one by one, by the rules of a rotation.

    Args:
        exchanger: The exchange that rotations would use: it knows which issuers are allowed. Nothing is asked of it.
    """

    def __init__(self, exchanger: Exchanger) -> None:
        self._exchanger = exchanger

    def __call__(self, policy: Policy | InvalidPolicy, secrets: SecretReader) -> Report:
        """Check one policy; what is wrong becomes part of the report."""
        report = Report.of(policy)
        if isinstance(policy, InvalidPolicy):
            return report
        if isinstance(policy, RotatablePolicy):
            for reference in policy.references:
                _refer(report, reference, secrets)
            self._allowed(report, policy)
            self._advise(report, policy)
        # Of what a newer gateway knows, references are not known either.
        elif not isinstance(policy.source, Unsupported):
            _static(report, policy, secrets)
        return report

    def _allowed(self, report: Report, policy: RotatablePolicy) -> None:
        client, issuers = policy.source.token_source, self._exchanger.issuers
        if not isinstance(client, OidcClient):
            return

        def issuer() -> str:
            issuers.transport_for(client.issuer)
            return f"issuer {client.issuer}"

        def endpoint() -> str:
            issuers.token_transport(client, client.token_endpoint or "")
            return f"token endpoint {client.token_endpoint}"

        # The endpoint is judged by the issuer's rules, so it would fail for the same reason again.
        if _try(report, "allowed", issuer) and client.token_endpoint:
            _try(report, "allowed", endpoint)

    def _advise(self, report: Report, policy: RotatablePolicy) -> None:
        """Say which trust would fit, as far as the policy tells; the audience has to be known."""
        client = policy.source.token_source
        if report.failed or not isinstance(client, OidcClient) or not client.audience:
            return
        claims = {"iss": client.issuer, "aud": client.audience, "sub": SUBJECT}
        document = provider_of(policy.source).advise(policy.key, policy.source, claims)
        if document is not None:
            report.advice = Advice(policy.key, policy.source, document)


def _static(report: Report, policy: Policy, secrets: SecretReader) -> None:
    def read() -> str:
        check_static(policy.source, secrets)
        return str(policy.secret) if policy.secret else "the filter's own default chain"

    _try(report, "references", read)


def _refer(report: Report, reference: SecretKeyRef, secrets: SecretReader) -> None:
    def read() -> str:
        secrets(reference)
        return f"Secret {reference.secret}, key {reference.key}"

    _try(report, "references", read)


def _try(report: Report, name: str, do: Callable[[], str]) -> bool:
    """Add a step to the report, and return whether it went well."""
    try:
        detail = do()
    except RotationError as error:
        if error.reason == ELSEWHERE:
            report.steps.append(Step(name, "skipped", f"{error.message} among the manifests"))
            # Not tried is no failure: whatever comes after it does not depend on the Secret's value.
            return True
        report.steps.append(Step(name, "failed", "", error=Failure.of(error)))
        return False
    report.steps.append(Step(name, "ok", detail))
    return True
