"""Google Cloud: token exchange, impersonation of a service account, and service-account keys, by google-auth.

Owns the Google side of an exchange. google-auth writes the requests and signs; our transport sends them, and the
answers are read here as they came: the library reckons expiries, and an assertion's times, by the machine's clock, and
repeats by itself what fails. Refusals are classed before it sees them. Of a key file only the key and the account are
used: its other fields say where to send things, and a policy's author wrote them.
Source: RFC 8693 §2 (token exchange), RFC 7523 §2.1 (assertion), https://cloud.google.com/iam/docs/reference/sts/rest,
https://cloud.google.com/iam/docs/reference/credentials/rest, https://google.aip.dev/193 (errors).
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from google.auth import impersonated_credentials, jwt
from google.auth.exceptions import GoogleAuthError
from google.oauth2 import credentials, sts

from credrotator.core.errors import Denied, Outage, RotationError, StaleToken, Throttled, Transient, printable
from credrotator.core.secretdata import read_time
from credrotator.core.sensitive import Sensitive
from credrotator.exchange.http.endpoint import Endpoint
from credrotator.exchange.http.foreign import masking, said_to
from credrotator.exchange.http.transport import (
    SERVER_ERROR,
    TOO_MANY_REQUESTS,
    json_object,
    refuse_failure,
    retry_after,
    text,
)
from credrotator.exchange.lifetimes import expiry, unusable
from credrotator.exchange.token_values import token_value
from credrotator.exchange.vendors import ExchangeSteps, NetworkEndpoint, Vendor, VendorContext
from credrotator.policies.annotations import DURATION
from credrotator.providers.gcp.key_files import TOKEN_AUDIENCE, UNIVERSE, read_key_file
from credrotator.providers.gcp.source import GcpServiceAccount, GcpToken, GcpWorkloadIdentity
from credrotator.providers.gcp.token_info import CLOUD_PLATFORM, check_token_info

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import requests

    from credrotator.core.model import Credential, Rotatable, SubjectToken
    from credrotator.core.ports import Clock
    from credrotator.exchange.http.transport import Transport

GOOGLE = Endpoint(
    "Google",
    "Google",
    custom="generateAccessToken",
    proxy_variable="AI_GATEWAY_GCP_AUTH_PROXY_URL",
    address_setting="CLOUDSDK_API_ENDPOINT_OVERRIDES_… and CLOUDSDK_AUTH_TOKEN_HOST",
)
STS_VARIABLE = "CLOUDSDK_API_ENDPOINT_OVERRIDES_STS"
IAM_VARIABLE = "CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS"
TOKEN_VARIABLE = "CLOUDSDK_AUTH_TOKEN_HOST"
"""gcloud's own variables, which people behind Private Service Connect have set; the last names the whole address."""

IAM = "https://www.googleapis.com/auth/iam"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
JWT = "urn:ietf:params:oauth:token-type:jwt"
# Google takes an hour at most. The assertion is used once, at once; ten minutes leave room for a clock that is wrong.
ASSERTION_LIFE = timedelta(minutes=10)
# What generateAccessToken gives by itself; more needs the organization policy
# allowServiceAccountCredentialLifetimeExtension.
DEFAULT_LIFE = timedelta(hours=1)

CLOCKS = "compare the clocks of the issuer and this machine"
FEDERATION = "run credrotator check, which prints the provider's settings that fit the token"
HINTS = {
    "invalid_target": "correct projectID (the pool's project, by its number), workloadIdentityPoolName and "
    "workloadIdentityProviderName; see that neither is disabled or deleted",
    "unauthorized_client": f"the provider's attribute condition does not let this token in; {FEDERATION}",
    "UNAUTHENTICATED": "see that the pool's provider maps google.subject",
    "NOT_FOUND": "correct serviceAccountName and projectName, or make the service account",
    "SERVICE_DISABLED": "enable the IAM Service Account Credentials API in the pool's project",
}
KEY_HINT = "see that the account and this key of it are there and enabled; make a new key if in doubt"
PERMISSION_HINT = "grant roles/iam.workloadIdentityUser on the service account to the pool's principal; {}"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where Google is asked: base addresses of two APIs, without a slash at the end, and the token endpoint."""

    sts: str
    iam: str
    token: str

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Endpoints:
        """Read the overrides.

        Raises:
            Denied: One is no https address.
        """
        return cls(
            _address(environment, STS_VARIABLE, f"https://sts.{UNIVERSE}"),
            _address(environment, IAM_VARIABLE, f"https://iamcredentials.{UNIVERSE}"),
            _address(environment, TOKEN_VARIABLE, TOKEN_AUDIENCE),
        )

    @property
    def token_info(self) -> str:
        """Where a token can be looked up: beside the token endpoint."""
        return self.token.rpartition("/")[0] + "/tokeninfo"


_ADDRESS = re.compile(r"https://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?")


def _address(environment: Mapping[str, str], variable: str, default: str) -> str:
    answer = environment.get(variable, "").strip() or default
    if not _ADDRESS.fullmatch(answer):
        hint = f"correct or remove {variable} in credrotator's environment"
        raise Denied("GoogleConfig", f"{variable}={printable(answer, 80)}: expected an https address", hint=hint)
    return answer.rstrip("/")


class Google(Vendor):
    """Gets access tokens of Google Cloud; safe to share between threads.

    Raises:
        Denied: GoogleConfig: an override in the environment is no https address.
    """

    def __init__(self, context: VendorContext) -> None:
        self.transport = context.transport(GOOGLE)
        self.endpoints = Endpoints.of(context.environment)
        self._clock = context.clock

    def credential(self, source: Rotatable, steps: ExchangeSteps) -> GcpToken:
        """See ``Vendor``."""
        match source:
            case GcpWorkloadIdentity(service_account=None):
                return steps.exchange(source.asked, lambda token: self.exchange(source, token))
            case GcpWorkloadIdentity(service_account=email):
                federated = steps.exchange(source.asked, lambda token: self.exchange(source, token))
                # A circuit of its own: the quota of impersonation is the account's, and STS has nothing to do with it.
                return steps.ask(f"google iamcredentials {email}", lambda: self.impersonate(source, federated))
            case GcpServiceAccount(key_file=reference):
                key_file = steps.secret(reference)
                return steps.ask(source.asked, lambda: self.by_key(source, key_file))
            case _:
                pass
        raise TypeError(type(source))

    def verify(self, source: Rotatable, credential: Credential, steps: ExchangeSteps) -> None:
        """See ``Vendor``: tokeninfo, for a token of a service account; of a pool's own token it knows nothing."""
        assert isinstance(credential, GcpToken)  # noqa: S101 - what this vendor gave
        if isinstance(source, GcpWorkloadIdentity) and source.service_account is None:
            return
        steps.ask("google tokeninfo", lambda: self.look_up(credential.token))

    def look_up(self, token: Sensitive) -> None:
        """Ask Google what an access token is good for; in the body, since addresses are logged.

        Raises:
            Rejected: For nothing, or not for the gateway's calls.
            RotationError: As for ``exchange``.
        """
        with masking(token):
            url = self.endpoints.token_info
            response = self.transport.request("POST", url, data={"access_token": token.reveal()})
            refuse_failure(response, GOOGLE, self._clock)
            check_token_info(response.status_code, json_object(response))

    def endpoint(self, source: Rotatable) -> NetworkEndpoint:
        """See ``Vendor``: the first that is asked."""
        # The first request of an exchange goes there, and `check` looks at the network from there on.
        url = self.endpoints.token if isinstance(source, GcpServiceAccount) else self.endpoints.sts
        return NetworkEndpoint("google", GOOGLE.title, url, self.transport)

    def exchange(self, source: GcpWorkloadIdentity, token: SubjectToken) -> GcpToken:
        """Exchange the issuer's token at Google's STS; only good for impersonation where that is to follow.

        Raises:
            RotationError: With Google's own code in the reason where it sent one.
        """
        client = sts.Client(f"{self.endpoints.sts}/v1/token")
        wire = _Wire(self.transport, self._clock, f"provider {source.pool.audience}", FEDERATION)
        with masking(token.token):
            answer = wire.ask(
                lambda: client.exchange_token(
                    wire,
                    grant_type=TOKEN_EXCHANGE,
                    audience=source.pool.audience,
                    # The least that the next step needs; without one, what the gateway's calls need.
                    scopes=[IAM if source.service_account else CLOUD_PLATFORM],
                    requested_token_type=ACCESS_TOKEN,
                    subject_token=token.token.reveal(),
                    subject_token_type=JWT,
                )
            )
            return self._token(answer, source)

    def impersonate(self, source: GcpWorkloadIdentity, federated: GcpToken) -> GcpToken:
        """Turn the pool's token into one of the policy's service account (``generateAccessToken``).

        Raises:
            RotationError: As for ``exchange``.
        """
        email, life = source.service_account, source.duration or DEFAULT_LIFE
        permission = PERMISSION_HINT.format(FEDERATION)
        hint = (
            f"the account's tokens live for an hour at most, or the organisation's policy says more: lower {DURATION}"
        )
        wire = _Wire(self.transport, self._clock, f"service account {email}", hint if source.duration else permission)
        asked_s = time.monotonic()
        impersonated = impersonated_credentials.Credentials(
            # Without a refresh token and an expiry, so google-auth can do nothing with it but send it.
            credentials.Credentials(federated.token.reveal()),
            target_principal=email,
            target_scopes=[CLOUD_PLATFORM],
            lifetime=int(life.total_seconds()),
            # Without it google-auth asks the universe's address, and not that of Private Service Connect.
            iam_endpoint_override=f"{self.endpoints.iam}/v1/projects/-/serviceAccounts/{email}:generateAccessToken",
        )
        with masking(federated.token):
            answer = wire.ask(lambda: impersonated.refresh(wire))
        expires_at, now = read_time(text(answer, "expireTime")), self._clock()
        if expires_at is None:
            raise unusable(GOOGLE, "expireTime is missing or not a time")
        if expires_at <= now:
            raise Outage(
                "CredentialExpired",
                f"Google gave a token that expired at {expires_at:%Y-%m-%dT%H:%M:%SZ}",
                hint="compare the clock of this machine with Google's",
            )
        # Measured backwards from the answer: its Date may just have put the clock right.
        issued_at = now - timedelta(seconds=time.monotonic() - asked_s)
        return GcpToken(
            token_value(GOOGLE, answer, "accessToken"), issued_at, expires_at, None, source.project, source.region
        )

    def by_key(self, source: GcpServiceAccount, key_file: Sensitive) -> GcpToken:
        """Sign an assertion with a service account's key, and present it.

        Raises:
            PolicyError: The key file cannot be used.
            RotationError: As for ``exchange``.
        """
        account = read_key_file(key_file, source)
        issued_at = self._clock()
        claims = {
            "iss": account.email,
            "scope": CLOUD_PLATFORM,
            # Google's own name of the endpoint, also where the operator's override sends the request elsewhere: it is
            # signed for Google.
            "aud": TOKEN_AUDIENCE,
            "iat": int(issued_at.timestamp()),
            "exp": int((issued_at + ASSERTION_LIFE).timestamp()),
        }
        assertion = jwt.encode(account.signer, claims)
        form = {"grant_type": JWT_BEARER, "assertion": assertion.decode()}
        wire = _Wire(self.transport, self._clock, f"service account {account.email}", KEY_HINT)
        with masking(Sensitive(form["assertion"])):
            answer = wire.ask(lambda: wire(self.endpoints.token, "POST", form))
            return self._token(answer, None)

    def _token(self, answer: dict[str, Any], source: GcpWorkloadIdentity | None) -> GcpToken:
        """Read a token response (RFC 6749 §5.1, RFC 8693 §2.2.1)."""
        if text(answer, "token_type").lower() != "bearer":
            raise unusable(GOOGLE, "token_type is not Bearer")
        token, now = token_value(GOOGLE, answer, "access_token"), self._clock()
        expires_at = expiry(GOOGLE, answer.get("expires_in"), None, now)
        return GcpToken(
            token, now, expires_at, None, source.project if source else None, source.region if source else None
        )


class _Wire:
    """One request of google-auth (its ``transport.Request``), with what came back.

    Args:
        transport: Sends it.
        clock: The present moment.
        whom: What it is about, for messages.
        hint: For refusals that have no better one.
    """

    def __init__(self, transport: Transport, clock: Clock, whom: str, hint: str) -> None:
        self._transport = transport
        self._clock = clock
        self._whom = whom
        self._hint = hint
        self._answer: dict[str, Any] | None = None

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: object = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,  # noqa: ARG002 - the deadline is ours
        **_: object,
    ) -> _Response:
        """See google.auth.transport.Request; lets nothing but success return."""
        response = self._transport.request(method, url, data=body, headers=headers)
        if not response.ok or response.is_redirect:
            raise self._refusal(response)
        self._answer = json_object(response)
        return _Response(response.status_code, response.headers, response.content)

    def ask(self, ask: Callable[[], object]) -> dict[str, Any]:
        """Have the library ask, and return the answer as it came."""
        failure: Exception | None = None
        try:
            ask()
        except (GoogleAuthError, ValueError, KeyError, TypeError) as error:
            # Of no interest where the answer is there: the library stumbled over something beside it.
            failure = error
        if self._answer is None:
            # Not "from" it: a library may quote what it was sent, and what came.
            raise unusable(GOOGLE, type(failure).__name__ if failure else "no answer came") from None
        return self._answer

    def _refusal(self, response: requests.Response) -> RotationError:
        """Class a refusal by its code: OAuth's (RFC 6749 §5.2) or that of Google's APIs (AIP-193)."""
        try:
            answer = json_object(response)
        except Transient:
            # A load balancer's HTML. Below, an answer without a code is classed by its status.
            answer = {}
        error = answer.get("error")
        body: Mapping[str, Any] = error if isinstance(error, dict) else answer
        code = _detail(body) or text(body, "status") or text(answer, "error")
        description = text(body, "message") or text(answer, "error_description")
        if not code:
            refuse_failure(response, GOOGLE, self._clock)
        status, shown = response.status_code, said_to(response.request, description)
        code = said_to(response.request, code, 60)
        message = f"Google answered {status} {code}: {shown} ({self._whom})"
        if status == TOO_MANY_REQUESTS or status >= SERVER_ERROR:
            throttled = status == TOO_MANY_REQUESTS
            kind, reason = (Throttled, "GoogleThrottled") if throttled else (Outage, "GoogleFailed")
            wait = "wait until the rate limit has passed, or have the project's quota raised"
            hint = wait if throttled else STATUS_PAGE
            return kind(reason, message, hint=hint, retry_after=retry_after(response.headers, self._clock()))
        # The answer is invalid_grant, like a refusal, but Google could not fetch the issuer's keys: that passes by
        # itself.
        if _ISSUER_AWAY in description:
            hint = "see that the issuer's discovery and keys are public and up, or upload its keys to the provider"
            return Transient("GoogleCannotReachIssuer", message, hint=hint)
        if _OUT_OF_TIME in description:
            # Its Date has just put our clock right, if that was it.
            return Transient("AssertionOutOfTime", message, hint="compare the clock of this machine with Google's")
        if _STALE.search(description):
            return StaleToken("GoogleStaleToken", message, hint=CLOCKS)
        # Reasons are CamelCase and label metrics; a code may be anything that the other side writes.
        reason = "Google" + "".join(part.capitalize() for part in re.findall("[A-Za-z]+", code))[:40]
        if reason == "Google":
            reason = "GoogleRefused"
        return Denied(reason, message, hint=self._hint_for(code))

    def _hint_for(self, code: str) -> str:
        if code == "PERMISSION_DENIED":
            return PERMISSION_HINT.format(FEDERATION)
        return HINTS.get(code, self._hint)


STATUS_PAGE = "see https://status.cloud.google.com"
_ISSUER_AWAY = "connecting to the given credential's issuer"
_OUT_OF_TIME = "in a reasonable timeframe"
_STALE = re.compile(r"is stale to sign-in|token (has|is) expired", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Response:
    """An answer in the shape in which google-auth wants it (its ``transport.Response``)."""

    status: int
    headers: Mapping[str, str]
    data: bytes


def _detail(body: Mapping[str, Any]) -> str:
    """Return the reason of an error's ErrorInfo, where it is one that helps more than the status (AIP-193)."""
    details = body.get("details")
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, dict) and (reason := text(detail, "reason")) in HINTS:
            return reason
    return ""
