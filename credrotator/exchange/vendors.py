"""What an exchange needs of a vendor, and what a vendor is given for it.

A provider implements :class:`Vendor` with the vendor's SDK. Who may ask at this moment, for how long a stale token is
worth another try, and what is measured, is decided here and is the same for all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from credrotator.core.errors import StaleToken

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from credrotator.core.instrumentation import Instrumentation
    from credrotator.core.model import Credential, ObjectKey, Rotatable, SecretKeyRef, Sensitive, SubjectToken
    from credrotator.core.ports import Clock, SecretReader
    from credrotator.exchange.http.circuit import CircuitBreakers
    from credrotator.exchange.http.endpoint import Endpoint
    from credrotator.exchange.http.transport import Transport
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


@dataclass(frozen=True, slots=True)
class VendorContext:
    """What a vendor's side of exchanges is made from."""

    transport: TransportMaker
    clock: Clock
    environment: Mapping[str, str]


class Vendor(ABC):
    """A vendor's side of exchanges; safe to share between threads."""

    @abstractmethod
    def credential(self, source: Rotatable, steps: ExchangeSteps) -> Credential:
        """Get a credential.

        Raises:
            RotationError: Of the class that says what to do next.
        """

    @abstractmethod
    def endpoint(self, source: Rotatable) -> NetworkEndpoint:
        """Return where the exchange takes place.

        Raises:
            RotationError: The vendor's SDK cannot tell.
        """


class ExchangeSteps:
    """One policy's exchange while it is made: each step at the vendor is taken through here.

    Args:
        policy: Whose.
        secrets: Reads what the policy refers to.
        subject: Where the subject token comes from; None where the exchange needs none.
        circuits: Tell who may be asked at this moment.
        instrumentation: Told of stages.
    """

    def __init__(
        self,
        policy: ObjectKey,
        secrets: SecretReader,
        subject: SubjectTokenSource | None,
        *,
        circuits: CircuitBreakers,
        instrumentation: Instrumentation,
    ) -> None:
        self.policy = policy
        self._secrets = secrets
        self._subject = subject
        self._circuits = circuits
        self._instrumentation = instrumentation

    def secret(self, reference: SecretKeyRef) -> Sensitive:
        """Read what the policy refers to.

        Raises:
            PolicyError: It is missing, or may not be read by this policy.
        """
        return self._secrets(reference)

    def ask(self, asked: str, ask: Callable[[], Given]) -> Given:
        """Take a step that needs no subject token.

        Args:
            asked: Who is asked, and as whom (``Rotatable.asked``).
            ask: The step.

        Raises:
            RotationError: What the step raised, or the circuit breaker in its place.
        """
        with self._instrumentation.stage("exchange"), self._circuits.of(asked).slot():
            return ask()

    def exchange(self, asked: str, exchange: Callable[[SubjectToken], Given]) -> Given:
        """Exchange the subject token; one that the vendor calls stale is replaced once, in the same attempt.

        Raises:
            RotationError: As for ``ask``; or there is no token to be had.
            TypeError: The source has no token source: a provider's defect.
        """
        subject = self._subject
        if subject is None:
            raise TypeError(f"{asked}: this source has no subject token")
        with self._instrumentation.stage("token"):
            token = subject.token()
        try:
            return self.ask(asked, lambda: exchange(token))
        except StaleToken as error:
            with self._instrumentation.stage("token"):
                fresh = subject.fresh(token, error)
        return self.ask(asked, lambda: exchange(fresh))
