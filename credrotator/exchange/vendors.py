"""What an exchange needs of a vendor, and what a vendor is given for it.

A provider implements :class:`Vendor` with the vendor's SDK. Who may ask at this moment, for how long a stale token is
worth another try, and what is measured, is decided here and is the same for all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

from credrotator.core.errors import RotationError, StaleToken
from credrotator.exchange.single_use import used_before

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from credrotator.core.circuit_key import CircuitKey
    from credrotator.core.errors import Denied
    from credrotator.core.instrumentation import Instrumentation, Stage
    from credrotator.core.model import (
        Credential,
        ObjectKey,
        OidcClient,
        Rotatable,
        SecretKeyRef,
        SubjectToken,
        TokenSource,
    )
    from credrotator.core.ports import Clock, SecretReader
    from credrotator.core.sensitive import Sensitive
    from credrotator.exchange.http.circuit import CircuitBreakers
    from credrotator.exchange.http.endpoint import Endpoint
    from credrotator.exchange.http.transport import Transport
    from credrotator.exchange.single_use import UsedTokens
    from credrotator.exchange.subject_tokens import SubjectTokenSource

Given = TypeVar("Given")
"""What one step of an exchange gives."""


@dataclass(frozen=True, slots=True)
class NetworkEndpoint:
    """An address that an exchange goes to, and how.

    Attributes:
        name: Stable, fit for machines: ``issuer``, ``token``, or the vendor's.
        title: For people.
        url: Where it is.
        transport: How it is reached.
    """

    name: str
    title: str
    url: str
    transport: Transport


class TransportMaker(Protocol):
    """Makes the transport to one kind of endpoint."""

    def __call__(self, endpoint: Endpoint) -> Transport:
        """Make it, with the operator's CA files and proxies."""


class NamedTransportMaker(Protocol):
    """Finds the transport to an address that a policy names."""

    def __call__(self, endpoint: Endpoint, url: str, token_source: TokenSource | None) -> Transport:
        """Return it, by the operator's rules for issuers; what lies below the policy's issuer is as good as that.

        Raises:
            Denied: Nothing may be sent there.
        """


class IssuerAddress(Protocol):
    """Tells where a client's issuer is."""

    def __call__(self, client: OidcClient) -> NetworkEndpoint:
        """Return it.

        Raises:
            Denied: The operator does not allow it.
        """


# Tests and vendors with fixed addresses make a context without these; a call is a bug, not a refusal.
def _none_is_named(*_: Any, **__: Any) -> NoReturn:
    raise TypeError("made for vendors whose address no policy names")


@dataclass(frozen=True, slots=True)
class VendorContext:
    """What a vendor's side of exchanges is made from.

    Attributes:
        transport: To an address that the vendor or the operator names.
        clock: The present moment.
        environment: Holds the vendor's variables.
        named: To an address that a policy names.
        issuer: Where an issuer is, for who asks nobody else.
    """

    transport: TransportMaker
    clock: Clock
    environment: Mapping[str, str]
    named: NamedTransportMaker = _none_is_named
    issuer: IssuerAddress = _none_is_named


class Vendor(ABC):
    """A vendor's side of exchanges; safe to share between threads."""

    @abstractmethod
    def credential(self, source: Rotatable, steps: ExchangeSteps) -> Credential:
        """Get a credential.

        Raises:
            RotationError: Of the class that says what to do next.
        """

    def verify(self, source: Rotatable, credential: Credential, steps: ExchangeSteps) -> None:  # noqa: B027
        """See whether a new credential is what it should be, by one cheap call or by what it says of itself.

        A provider without such a call leaves this as it is, and says so in docs/verified-credentials.md.

        Raises:
            Rejected: It is not.
            RotationError: Any other: it could not be seen.
        """

    @abstractmethod
    def endpoint(self, source: Rotatable) -> NetworkEndpoint:
        """Return where the exchange takes place; the issuer, where nobody else is asked.

        Raises:
            RotationError: The vendor's SDK cannot tell, or nothing may be sent there.
        """


class ExchangeSteps:
    """One policy's exchange while it is made: each step at the vendor is taken through here.

    Args:
        policy: Whose.
        secrets: Reads what the policy refers to.
        subject: Where the subject token comes from; None where the exchange needs none.
        used: Knows the tokens that were exchanged already; None where a token is good for many exchanges.
        circuits: Tell who may be asked at this moment.
        instrumentation: Told of stages.
        stage: What the steps at the vendor are counted as.
    """

    def __init__(
        self,
        policy: ObjectKey,
        secrets: SecretReader,
        subject: SubjectTokenSource | None,
        *,
        used: UsedTokens | None = None,
        circuits: CircuitBreakers,
        instrumentation: Instrumentation,
        stage: Stage = "exchange",
    ) -> None:
        self.policy = policy
        self._stage: Stage = stage
        self._secrets = secrets
        self._subject = subject
        self._used = used
        self._circuits = circuits
        self._instrumentation = instrumentation

    def secret(self, reference: SecretKeyRef) -> Sensitive:
        """Read what the policy refers to.

        Raises:
            PolicyError: It is missing, or may not be read by this policy.
        """
        return self._secrets(reference)

    def ask(self, asked: CircuitKey | str, ask: Callable[[], Given]) -> Given:
        """Take a step that needs no subject token.

        Args:
            asked: Who is asked, and as whom (``Rotatable.asked``).
            ask: The step.

        Raises:
            RotationError: What the step raised, or the circuit breaker in its place.
        """
        # The stage around the slot: waiting for a slot is time that the exchange takes, and metrics have to show it.
        with self._instrumentation.stage(self._stage), self._circuits.of(asked).slot():
            return ask()

    def exchange(self, asked: CircuitKey | str, exchange: Callable[[SubjectToken], Given]) -> Given:
        """Exchange the subject token; one that the vendor calls stale is replaced once, in the same attempt.

        Raises:
            RotationError: As for ``ask``; or there is no token to be had.
        """
        token = self.subject_token()
        try:
            return self._exchanged(asked, exchange, token)
        except StaleToken as error:
            fresh = self._fresh(token, error)
        # Once only: a vendor that calls a fresh token stale means something else by it.
        return self._exchanged(asked, exchange, fresh)

    def subject_token(self) -> SubjectToken:
        """Return the subject token, for whom it is the credential itself.

        Raises:
            RotationError: There is none to be had.
            TypeError: The source has no token source: a provider's defect.
        """
        if self._subject is None:
            raise TypeError(f"{self.policy}: this source has no subject token")
        with self._instrumentation.stage("token"):
            return self._subject.token()

    def _fresh(self, stale: SubjectToken, refusal: Denied) -> SubjectToken:
        assert self._subject is not None  # noqa: S101 - it gave the stale one
        with self._instrumentation.stage("token"):
            return self._subject.fresh(stale, refusal)

    def _exchanged(
        self, asked: CircuitKey | str, exchange: Callable[[SubjectToken], Given], token: SubjectToken
    ) -> Given:
        """Show a token to the vendor; one that it takes once only is not shown twice."""
        if self._used is None:
            return self.ask(asked, lambda: exchange(token))
        if not self._used.claim(token):
            # It may have been cached, or lie in a file; a source that has no other says so.
            token = self._fresh(token, used_before())
            if not self._used.claim(token):
                raise used_before()
        try:
            return self.ask(asked, lambda: exchange(token))
        except RotationError as error:
            if not isinstance(error, StaleToken):
                # What was never taken may be shown again; whether it was, the vendor will say.
                self._used.release(token)
            raise
