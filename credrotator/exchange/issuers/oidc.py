"""Subject tokens from OIDC issuers: which endpoint is asked, as whom and how often, and one request for all who ask it.

Owns the issuer's side of an exchange: what is shared, remembered and limited. Discovery, client authentication, the
request, its answer and its refusals have modules of their own beside this one.
Sources: OpenID Connect Discovery 1.0 §4; RFC 6749 §4.4.
"""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from credrotator.core.circuit_key import CircuitKey, client_account
from credrotator.core.clock import suspend_aware
from credrotator.core.errors import Denied, PolicyError, RotationError, Transient, printable
from credrotator.core.instrumentation import NO_INSTRUMENTATION
from credrotator.core.model import SubjectUse
from credrotator.exchange.http.circuit import CircuitBreakers
from credrotator.exchange.http.endpoint import ISSUER
from credrotator.exchange.http.foreign import masking
from credrotator.exchange.http.single_flight import Shared
from credrotator.exchange.http.transport import Transport, json_object, refuse_failure
from credrotator.exchange.issuers.client_auth import ClientAuthMethod, WorkingMethods, assertion_methods, methods_for
from credrotator.exchange.issuers.discovery import Metadata, discover, discovery_url
from credrotator.exchange.issuers.refusals import (
    AuthenticationRefused,
    by_every_method,
    for_asker,
    has_error,
    refusal_of,
)
from credrotator.exchange.issuers.token_request import TokenRequest, TokenResponse, send
from credrotator.exchange.issuers.token_response import read_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import requests

    from credrotator.core.instrumentation import Instrumentation
    from credrotator.core.model import OidcClient, SubjectToken
    from credrotator.core.ports import Clock
    from credrotator.core.sensitive import Sensitive
    from credrotator.exchange.issuers.allowed import AllowedIssuers

__all__ = ["Issuers", "TokenRequest"]

# The time limit of one exchange: a token from the cache has to last until the vendor has seen it.
TOKEN_MARGIN = timedelta(seconds=30)
# Any tenant may name as many as it likes; what is forgotten costs a lane its wider limit and nothing else.
MOST_ISSUERS = 2048
_ENDPOINT = ISSUER.name.lower()


class Issuers:
    """Gets subject tokens; safe to share between threads.

    Args:
        guarded: Transport for issuers that only policies name.
        named: Transport for issuers that the operator named.
        own: Transport for an issuer that is reached in a way of its own, guarded or not; None for all others.
        seconds: Seconds that only grow.
    """

    def __init__(
        self,
        *,
        guarded: Transport,
        named: Transport,
        own: Callable[[str, bool], Transport | None] = lambda *_: None,
        allowed: AllowedIssuers,
        clock: Clock,
        circuits: CircuitBreakers | None = None,
        instrumentation: Instrumentation = NO_INSTRUMENTATION,
        seconds: Callable[[], float] = suspend_aware,
    ) -> None:
        self._circuits = circuits or CircuitBreakers()
        self._instrumentation = instrumentation
        self._guarded = guarded
        self._named = named
        self._own = own
        self._allowed = allowed
        self._clock = clock
        self._metadata: Shared[Metadata] = Shared(clock, seconds)
        # A token is kept with its claims, which take about three times as much.
        self._tokens: Shared[SubjectToken] = Shared(
            clock, seconds, size_bytes=lambda token: 1024 + 4 * len(token.token.reveal())
        )
        # By issuer, for the queue's lanes: while a token is good, its policies do not hang at the issuer.
        self._token_valid_until: dict[str, datetime] = {}
        self._working_methods = WorkingMethods()

    def subject_token(self, request: TokenRequest) -> SubjectToken:
        """Return a token that is good for an exchange now; one that nobody else is given, where it is not to be shared.

        Raises:
            RotationError: The issuer is not allowed, cannot be reached, refuses, or answers nonsense.
        """
        if request.use is not SubjectUse.SHARED:
            return self._fetch(request)[0]
        # Whether this thread's own request was flown, or another's answer was shared: metrics tell the two apart.
        flown = False

        def fetch() -> tuple[SubjectToken, datetime]:
            nonlocal flown
            flown = True
            return self._fetch(request)

        try:
            with _in_time(request.client.issuer):
                # Only the issuer's token is shared. What a vendor gives for it carries the policy's identity, and is
                # asked for each time.
                token = self._tokens.get(request.key, fetch)
        except RotationError as error:
            worded = for_asker(error, request)
            try:
                if worded is error:
                    raise
                raise worded from error
            finally:
                # Its traceback holds this frame, and the frame would hold it: a megabyte of an answer would wait for
                # the garbage collector.
                del worded
        if not flown:
            self._instrumentation.token(shared=True)
        return token

    def has_valid_token(self, issuer: str) -> bool:
        """Tell whether an issuer's last answer was a token that is still good: most of its policies need none then."""
        until = self._token_valid_until.get(issuer)
        return until is not None and self._clock() < until

    def forget(self, request: TokenRequest, token: SubjectToken) -> None:
        """Drop a token that a vendor called expired, so that the next one is fresh."""
        self._tokens.drop(request.key, token)

    def transport_for(self, issuer: str) -> Transport:
        """Return how an issuer is talked to.

        Raises:
            Denied: The operator does not allow it.
        """
        return self._route_to(issuer, named=self._allowed.check(issuer))

    def token_transport(self, client: OidcClient, endpoint: str) -> Transport:
        """Return how a client's token endpoint is talked to.

        Raises:
            Denied: No client secret may be sent there.
        """
        named = self._allowed.check(client.issuer)
        trusted = self._allowed.names_endpoint(
            endpoint, client.issuer, issuer_named=named, discovered=client.token_endpoint is None
        )
        return self._route_to(client.issuer, named=trusted)

    def _route_to(self, issuer: str, *, named: bool) -> Transport:
        return self._own(issuer, not named) or (self._named if named else self._guarded)

    def metadata(self, issuer: str) -> Metadata:
        """Discover an issuer (OpenID Connect Discovery 1.0 §4), cached for as long as its answer allows.

        Raises:
            RotationError: As for ``subject_token``.
        """
        transport = self.transport_for(issuer)
        with _in_time(issuer):
            return self._metadata.get(issuer, lambda: self._discover(issuer, transport))

    def _fetch(self, request: TokenRequest) -> tuple[SubjectToken, datetime]:
        # What leaves here is kept for others, logged and shown: whatever it was made from, it holds no secret.
        with masking(*request.secrets):
            return self._fetch_within(request)

    def _fetch_within(self, request: TokenRequest) -> tuple[SubjectToken, datetime]:
        metadata = self._endpoint(request.client)
        endpoint = metadata.token_endpoint
        # Before the issuer's circuit breaker: who gives the assertion is another one.
        assertion = request.assertion.prepare() if request.assertion else None
        # Chosen after discovery: the address of the token endpoint decides, not that of the issuer.
        transport = self.token_transport(request.client, endpoint)
        account = client_account(request.client_id, request.proof)
        circuit = self._circuits.of(CircuitKey.of_url(_ENDPOINT, endpoint, account))
        try:
            with circuit.slot():
                # In the slot of the endpoint and the account, all of the ways in which a client may be proved: they are
                # one attempt.
                document = self._ask(request, metadata, transport, assertion)
                token = read_token(document, request, self._clock())
                # A discovery document may lead to a token endpoint elsewhere; the token says whose it really is.
                self._allowed.check_token(token.claims.get("iss"), request.client.issuer)
        except RotationError:
            # A failure says that its policies may hang there again: back to a quarter of the workers.
            self._token_valid_until.pop(request.client.issuer, None)
            raise
        now = self._clock()
        # Long enough for the exchange that it is meant for; half of a life that is shorter than twice the margin, or a
        # token of 40 s would be fetched for each policy.
        good_until = token.expires_at - min(TOKEN_MARGIN, (token.expires_at - now) / 2)
        self._note_valid(request.client.issuer, good_until)
        return token, good_until

    def _note_valid(self, issuer: str, good_until: datetime) -> None:
        # To the end of the dictionary, so that the one that was noted longest ago is dropped first.
        self._token_valid_until.pop(issuer, None)
        self._token_valid_until[issuer] = good_until
        if len(self._token_valid_until) > MOST_ISSUERS:
            self._token_valid_until.pop(next(iter(self._token_valid_until)), None)

    def _endpoint(self, client: OidcClient) -> Metadata:
        """Return the token endpoint and how clients authenticate there, as far as discovery says.

        A policy's own endpoint needs no discovery.
        """
        self._allowed.check(client.issuer)
        if client.token_endpoint:
            return Metadata(client.token_endpoint)
        return self.metadata(client.issuer)

    def _discover(self, issuer: str, transport: Transport) -> tuple[Metadata, datetime]:
        with self._circuits.of(CircuitKey.of_url(_ENDPOINT, discovery_url(issuer))).slot():
            metadata, lifetime = discover(
                issuer, transport, partial(refuse_failure, endpoint=ISSUER, clock=self._clock)
            )
        return metadata, self._clock() + lifetime

    def _ask(
        self,
        request: TokenRequest,
        metadata: Metadata,
        transport: Transport,
        assertion: Callable[[str, Sequence[str]], Sensitive] | None,
    ) -> TokenResponse:
        """Send the token request; where the issuer does not take the client, each other way is tried once."""
        client_id, endpoint = request.client_id, metadata.token_endpoint
        # All of them: which way an issuer wants often shows only in what it says of the others.
        refusals: list[tuple[ClientAuthMethod, AuthenticationRefused]] = []
        for method in self._working_methods.first(endpoint, client_id, _methods(request, metadata)):
            self._instrumentation.token(shared=False)
            # Two revisions of RFC 7523 §3: the token endpoint, and since the revision the issuer (docs/decisions.md).
            audience = request.client.issuer if method is ClientAuthMethod.KEY_FOR_ISSUER else endpoint
            asserted = assertion(audience, metadata.algorithms) if assertion else None
            try:
                document = send(request, endpoint, transport, method, partial(self._check, request), assertion=asserted)
            except AuthenticationRefused as error:
                refusals.append((method, error))
            except Denied:
                # The client is accepted by now, or was never asked for: another way would bring the same.
                self._working_methods.note(endpoint, client_id, method)
                raise
            else:
                self._working_methods.note(endpoint, client_id, method)
                return document
        raise by_every_method(refusals)

    def _check(self, request: TokenRequest, response: requests.Response) -> None:
        """Let nothing but a well-formed success pass."""
        refuse_failure(response, ISSUER, self._clock)
        if not response.ok or has_error(json_object(response)):
            raise refusal_of(response, request)


def _methods(request: TokenRequest, metadata: Metadata) -> tuple[ClientAuthMethod, ...]:
    """Return the ways in which the client may be proved.

    Raises:
        PolicyError: The issuer takes no client secret.
    """
    if request.assertion:
        return assertion_methods(request.assertion)
    methods = methods_for(metadata.auth_methods, request.client_id, request.client_secret.reveal())
    if not methods:
        shown = printable(", ".join(metadata.auth_methods))
        hint = (
            f"allow {ClientAuthMethod.BASIC} or {ClientAuthMethod.POST} for this client at the issuer, or annotate the "
            "policy with credrotator.io/client-assertion"
        )
        raise PolicyError("ClientAuthUnsupported", f"the issuer takes clients by {shown} only", hint=hint)
    return methods


@contextlib.contextmanager
def _in_time(issuer: str) -> Iterator[None]:
    """Name the issuer when waiting for another thread's request took too long."""
    try:
        yield
    except TimeoutError as error:
        hint = "see whether it is overloaded, or a firewall drops the packets"
        message = f"the issuer {printable(issuer)} did not answer in time"
        raise Transient("IssuerTimeout", message, hint=hint, hangs=True) from error
