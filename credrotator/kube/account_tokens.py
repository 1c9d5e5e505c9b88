"""Tokens of service accounts, from the API server.

Owns the request, and the rule that no token which opens the API server itself is ever handed to a vendor: whoever
writes a policy chooses the audience. Keeps nothing. Source: Kubernetes API, TokenRequest (authentication.k8s.io/v1).
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from credrotator.core.claims import audiences, claim_time, read_claims
from credrotator.core.errors import Conflict, Denied, Outage, PolicyError, RotationError, Settling, Transient, printable
from credrotator.core.model import SubjectToken
from credrotator.core.sensitive import Sensitive
from credrotator.exchange.http.deadline import remaining_s
from credrotator.kube.api_refusals import as_rotation_error
from credrotator.kube.client import resource_paths
from credrotator.kube.client.api_errors import ApiError

if TYPE_CHECKING:
    from credrotator.core.model import ObjectKey
    from credrotator.kube.client.api import KubeApi

LIFE: Final = timedelta(hours=1)
"""Ten minutes is the least that the API server takes; some vendors' credentials live no longer than the token."""
# An exchange has 30 s by default; a token that is signed locally takes milliseconds, or something is wrong.
READ_TIMEOUT_S: Final = 10.0
API_SERVER_NAMES: Final = frozenset(
    f"{scheme}{name}"
    for name in ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
    for scheme in ("", "https://")
)
"""Audiences by which API servers usually know themselves."""
NOT_THERE: Final = Settling(tries=3)
"""A chart may make policy and account at the same time."""


class ClusterAccountTokens:
    """See ``ports.AccountTokens``; safe to share between threads."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api

    def __call__(self, account: ObjectKey, audience: str) -> SubjectToken:
        """Get a new token.

        Raises:
            PolicyError: The audience is the API server's own.
            Denied: The right is missing, there is no such account, or an admission policy refuses the request.
            Transient: The API server does not answer, or not with a token.
        """
        spec = {"audiences": [audience], "expirationSeconds": int(LIFE.total_seconds())}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = resource_paths.service_account_token(account)
        try:
            if audience in API_SERVER_NAMES or audience in audiences(read_claims(self._api.own_token()) or {}):
                raise _own_audience(account, audience)
            # After the check by name, and before the one by the answer: the second finds API servers with audiences of
            # their own.
            answer = self._api.post(path, body, read_timeout_s=_read_timeout_s())
        except ApiError as error:
            raise _refusal(error, account, audience) from error
        return _token(answer, account, audience)


def _read_timeout_s() -> float:
    try:
        return remaining_s(READ_TIMEOUT_S) or READ_TIMEOUT_S
    except TimeoutError as error:
        hint = "see whether the API server is overloaded, or give more time with --timeout"
        raise Transient("TimeUp", "no time is left to ask the API server for a token", hint=hint) from error


def _token(answer: dict[str, object], account: ObjectKey, audience: str) -> SubjectToken:
    status = answer.get("status")
    text = status.get("token") if isinstance(status, dict) else None
    token = Sensitive(text if isinstance(text, str) else "")
    claims = read_claims(token)
    expires_at = claim_time(claims, "exp")
    if claims is None or expires_at is None:
        hint = "see whether what answers there is a Kubernetes API server with TokenRequest"
        raise Outage("InvalidResponse", f"the API server gave no token for service account {account}", hint=hint)
    named = audiences(claims)
    if audience not in named:
        got = ", ".join(named) or "none"
        message = f"the token of service account {account} is for {got}, not for {printable(audience)}"
        raise _audience_refused(message)
    if claims.get("iss") in named:
        # An API server that is told no audiences takes tokens for its own issuer.
        raise _own_audience(account, audience)
    return SubjectToken(token, expires_at, claims)


def _own_audience(account: ObjectKey, audience: str) -> PolicyError:
    return PolicyError(
        "ServiceAccountForApiServer",
        f"a token of service account {account} for {printable(audience)} would open the API server itself",
        hint="set aud in the policy to the audience that the vendor expects",
    )


def _audience_refused(message: str) -> Denied:
    hint = "correct aud in the policy, or have the cluster's admission policies allow this audience"
    return Denied("ServiceAccountAudience", message, hint=hint)


def _refusal(error: ApiError, account: ObjectKey, audience: str) -> RotationError:
    """Class a refusal by its status; an admission webhook's 403 has no word of the verb."""
    what = f"get a token of service account {account}"
    sentence = f"cannot {what}: {error.message}"
    match error.status:
        case 403 if "cannot create resource" in error.message:
            rule = f"create on serviceaccounts/token, resourceNames [{account.name}], in namespace {account.namespace}"
            hint = f"grant credrotator's service account {rule} (the chart's value serviceAccountTokens)"
            return Denied("ServiceAccountForbidden", sentence, hint=hint)
        case 404:
            hint = f"create service account {account.name} in namespace {account.namespace}, or correct the annotation"
            message = f"there is no service account {account}"
            return Denied("ServiceAccountMissing", message, hint=hint, settling=NOT_THERE)
        case 400 | 403 | 422:
            return _audience_refused(f"{sentence} (audience {printable(audience, 80)})")
        case _:
            pass
    classed = as_rotation_error(error, what)
    if isinstance(classed, Conflict):
        return Transient("ServiceAccountChanged", sentence, hint="see whether it is being deleted and made again")
    return classed
