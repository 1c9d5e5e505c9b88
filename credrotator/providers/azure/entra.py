"""Microsoft Entra client credentials: a federated assertion by azure-identity, a client secret by msal.

Owns the Azure side of an exchange. azure-identity posts an assertion straight to the token endpoint, one call instead
of msal's two; for a secret it would go through msal anyway. Both send through our transport, whose hook classes every
refusal by Entra's own AADSTS codes before either library can turn it into prose. A fresh credential object each time:
a kept one would answer from its cache. Source: RFC 6749 §4.4, RFC 7523 §2.2;
https://learn.microsoft.com/entra/identity-platform/reference-error-codes
"""

from __future__ import annotations

import re
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msal
from azure.core.exceptions import AzureError
from azure.core.pipeline.transport import RequestsTransport
from azure.identity import ClientAssertionCredential

from credrotator.core.claims import claim_time, read_claims
from credrotator.core.errors import Denied, Outage, RotationError, Settling, StaleToken, Throttled, Transient, printable
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
from credrotator.providers.azure.access_tokens import check_token
from credrotator.providers.azure.source import AzureClientSecret, AzureOidc, AzureToken, EntraApp

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import requests

    from credrotator.core.model import Credential, Rotatable, SubjectToken
    from credrotator.core.sensitive import Sensitive

ENTRA = Endpoint(
    "Entra",
    "Microsoft Entra",
    proxy_variable="AI_GATEWAY_AZURE_PROXY_URL",
    address_setting="AZURE_AUTHORITY_HOST, or the policy's authority host",
)
# ExternalServerRetryableError, RequestTimeout, RequestBudgetExceededError, MsodsServiceUnavailable.
OUTAGE_CODES = {90006, 90012, 90024, 90033}
"""What Entra says of itself, at whatever status."""
# Among them 90055 (the tenant is throttled) and 90061 (the issuer's own endpoint failed). Tried again like an outage,
# but others who ask this authority are served, so their circuit must not open.
ELSEWHERE_CODES = {50001, 50196, 90055, 90061}
"""What passes too, and is of one tenant, application or issuer."""
TRANSIENT_CODES = OUTAGE_CODES | ELSEWHERE_CODES
# The assertion is outside its validity: a fresh token from the issuer may well be accepted.
STALE_CODES = {700024}
# Of the issuer and the rest, the issuer, audience, subject; of the subject where only the case of its letters differs.
SETTLING_CODES = {70021, 700211, 700212, 700213, 7002137, 7002138}
FEDERATION_SETTLES = Settling(span=timedelta(minutes=10))
"""A new federated credential takes minutes to work everywhere."""
UNAUTHORIZED = 401
# Codes have five to eight digits. A proxy's answer may hold any number, and a reason is a label of metrics.
CODE_LIMIT = 10**8
FEDERATION = (
    "run credrotator check, which prints the federated credential that fits the token; a new one takes up to 10 min "
    "to work"
)
HINTS = {
    7000215: "put the secret's value (not its id) into the Secret that the policy names",
    7000222: "make a new client secret in Entra and put it into the Secret that the policy names",
    700016: "correct clientID, or consent to the application in this tenant",
    90002: "correct tenantID, or the authority host of the tenant's cloud",
    700024: "compare the clocks of the issuer and this machine",
    700027: "see that the issuer's published keys are those it signs with",
    70021: f"no federated credential of the application has the token's issuer, audience and subject: {FEDERATION}",
    700211: f"no federated credential of the application has the token's issuer: {FEDERATION}",
    700212: f"no federated credential of the application has the token's audience: {FEDERATION}",
    700213: f"no federated credential of the application has the token's subject: {FEDERATION}",
    7002137: f"the federated credential's subject must be written as the token has it, by case too: {FEDERATION}",
    7002138: f"the federated credential's subject must be written as the token has it, by case too: {FEDERATION}",
    700222: "name an issuer outside Entra: tokens of Entra itself are not taken as federated assertions",
    7000112: "enable the application (Entra, enterprise applications), or correct clientID",
    50027: "have the issuer give this client JWTs that Entra can read (RS256, with kid)",
    50013: "see that the issuer's published keys are those it signs with",
    500011: "correct the scope (credrotator.io/azure-scope): nothing in this tenant has that name",
    70003: "report this: the request's grant type is refused",
    7000218: "report this: the request came without client secret or assertion",
    7000229: "make the application's service principal in this tenant (az ad sp create --id CLIENT-ID)",
    900144: "report this: the request lacks a parameter",
    70011: "correct the scope (credrotator.io/azure-scope)",
    1002012: "correct the scope (credrotator.io/azure-scope)",
}


class Entra(Vendor):
    """Gets access tokens of Microsoft Entra; safe to share between threads."""

    def __init__(self, context: VendorContext) -> None:
        self.transport = context.transport(ENTRA)
        self._clock = context.clock
        # The transport is shared, so that threads share connections; what came back must not be.
        self._received = _Received()
        self.transport.hooks["response"] = [self._checked]

    def credential(self, source: Rotatable, steps: ExchangeSteps) -> AzureToken:
        """See ``Vendor``."""
        match source:
            case AzureOidc(app=app):
                return steps.exchange(source.asked, lambda token: self.by_assertion(app, token))
            case AzureClientSecret(app=app):
                # Outside of the exchange: a Secret that is missing is the policy's fault, and must not count against
                # Entra's circuit.
                secret = steps.secret(source.client_secret)
                return steps.ask(source.asked, lambda: self.by_secret(app, secret))
            case _:
                pass
        raise TypeError(type(source))

    def verify(self, source: Rotatable, credential: Credential, steps: ExchangeSteps) -> None:  # noqa: ARG002 - no call
        """See ``Vendor``: what the token says of itself; an API of Entra's that took it would be another's audience."""
        assert isinstance(source, AzureOidc | AzureClientSecret)  # noqa: S101 - the sources of this provider
        assert isinstance(credential, AzureToken)  # noqa: S101 - what they give
        check_token(source.app, credential.token, self._clock)

    def endpoint(self, source: Rotatable) -> NetworkEndpoint:
        """See ``Vendor``."""
        assert isinstance(source, AzureOidc | AzureClientSecret)  # noqa: S101 - the sources of this provider
        return NetworkEndpoint("entra", ENTRA.title, source.app.authority, self.transport)

    def by_assertion(self, app: EntraApp, token: SubjectToken) -> AzureToken:
        """Present the issuer's token as federated client assertion.

        Raises:
            RotationError: With Entra's own code as reason where it sent one.
        """
        credential = ClientAssertionCredential(
            app.tenant_id,
            app.client_id,
            # A function, as azure-identity wants it: it is called when the request is written, and the value is held no
            # longer.
            token.token.reveal,
            authority=app.authority,
            # Else msal asks login.microsoftonline.com about the authority first, which a national cloud or a closed
            # network cannot reach.
            disable_instance_discovery=True,
            # Not the owner: the session outlives this credential, and azure-core would close it with the first one.
            transport=RequestsTransport(session=self.transport, session_owner=False),
            # Retries are the queue's. azure-core would sleep between its own, and hold a worker.
            retry_total=0,
        )
        with masking(token.token):
            return self._receive(lambda: credential.get_token(app.scope))

    def by_secret(self, app: EntraApp, client_secret: Sensitive) -> AzureToken:
        """Present the application's client secret.

        Raises:
            RotationError: With Entra's own code as reason where it sent one.
        """

        def acquire() -> None:
            application = msal.ConfidentialClientApplication(
                app.client_id,
                authority=f"{app.authority}/{app.tenant_id}",
                client_credential=client_secret.reveal(),
                http_client=self.transport,
                # As above for assertions.
                instance_discovery=False,
                # Or MSAL_FORCE_REGION would send these requests, and not those by assertion, to another host.
                azure_region=msal.ConfidentialClientApplication.DISABLE_MSAL_FORCE_REGION,
            )
            application.acquire_token_for_client([app.scope])

        with masking(client_secret):
            return self._receive(acquire)

    def _receive(self, ask: Callable[[], object]) -> AzureToken:
        """Have a library ask, and return what was received meanwhile; a token of before must never do for it."""
        self._received.take()
        failure: Exception | None = None
        try:
            ask()
        except (AzureError, ValueError, KeyError, TypeError) as error:
            # Of no interest where the token is there: the library stumbled over something beside it.
            failure = error
        token = self._received.take()
        if token is None:
            # Not "from" it: a library may quote what it was sent, and what came.
            raise unusable(ENTRA, type(failure).__name__ if failure else "no token came") from None
        return token

    def _checked(self, response: requests.Response, **_: object) -> None:
        """Let the libraries see nothing but success; called for each response of the transport.

        The token is read here, as it came: the libraries reckon its expiry by the machine's clock.
        """
        # A redirect would take the secret to another host; and what has no AADSTS code is a proxy's or a load
        # balancer's answer.
        if response.is_redirect or (not response.ok and b"error_codes" not in response.content):
            refuse_failure(response, ENTRA, self._clock)
        answer = json_object(response)
        if not response.ok:
            raise _refusal(answer, response, self._clock())
        # The tenant's discovery document comes through here as well, by GET; only the token endpoint's answer is a
        # token.
        if response.request.method == "POST":
            self._received.token = self._token(answer, response.headers.get("x-ms-request-id"))

    def _token(self, answer: dict[str, Any], request_id: str | None) -> AzureToken:
        """Read the token response (RFC 6749 §5.1)."""
        if str(answer.get("token_type")).lower() != "bearer":
            raise unusable(ENTRA, "token_type is not Bearer")
        token, now = token_value(ENTRA, answer, "access_token"), self._clock()
        # The earlier of expires_in and the token's own exp: whoever verifies the token goes by the latter.
        expires_at = expiry(ENTRA, answer.get("expires_in"), claim_time(read_claims(token), "exp"), now)
        return AzureToken(token, now, expires_at, printable(request_id, 60) if request_id else None)


class _Received(threading.local):
    """The token that the thread's own request brought."""

    token: AzureToken | None = None

    def take(self) -> AzureToken | None:
        """Return it, and keep it no longer."""
        token, self.token = self.token, None
        return token


def _refusal(answer: dict[str, Any], response: requests.Response, now: datetime) -> RotationError:
    """Class an error response by its AADSTS codes (``error_codes``, a list of numbers)."""
    whole = text(answer, "error_description")
    listed = answer.get("error_codes")
    codes = [code for code in listed if isinstance(code, int)] if isinstance(listed, list) else []
    # Where the member is missing, the text begins with the code all the same.
    codes = codes or [int(code) for code in _CODE.findall(whole)[:1]]
    # The first line: the rest are a trace id, a correlation id and a timestamp, which differ at every try and would
    # make each failure a new Event.
    described = said_to(response.request, next(iter(whole.splitlines()), ""))
    trace = said_to(response.request, text(answer, "correlation_id") or "none", 60)
    status, error = response.status_code, said_to(response.request, text(answer, "error"), 60)
    message = f"Microsoft Entra answered {status} {error}: {described} (correlation {trace})"
    reason = f"AADSTS{codes[0]}" if codes and 0 < codes[0] < CODE_LIMIT else "EntraRefused"
    if TRANSIENT_CODES & set(codes) or status == TOO_MANY_REQUESTS or status >= SERVER_ERROR:
        hint = "Entra calls this a passing fault; try again"
        its_own = OUTAGE_CODES & set(codes) or (status >= SERVER_ERROR and not ELSEWHERE_CODES & set(codes))
        kind = Throttled if status == TOO_MANY_REQUESTS else Outage if its_own else Transient
        return kind(reason, message, hint=hint, retry_after=retry_after(response.headers, now))
    hint = next((HINTS[code] for code in codes if code in HINTS), "look the AADSTS code up in Entra's error reference")
    if STALE_CODES & set(codes[:1]):
        return StaleToken(reason, message, hint=hint)
    return Denied(reason, message, hint=hint, settling=FEDERATION_SETTLES if SETTLING_CODES & set(codes[:1]) else None)


_CODE = re.compile(r"\AAADSTS([0-9]{5,8})\b")
