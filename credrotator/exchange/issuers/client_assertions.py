"""How a client proves who it is by an assertion, in place of a client secret.

A token that somebody else signs for it, such as the API server, or one that it signs with a key of its own. Each token
request has a new one, since issuers may take each but once. Source: RFC 7521 §4.2, RFC 7523 §2.2, §3; OpenID Connect
Core 1.0 §9 (private_key_jwt).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from credrotator.core.model import SecretKeyRef, SubjectToken
    from credrotator.core.ports import Clock
    from credrotator.core.sensitive import Sensitive


THE_SECRET = "the client's Secret"
"""Stands in the hint of a refusal, which several namespaces may share, for the Secret that each of them names."""


class ClientProof(Protocol):
    """One client's way to its assertions."""

    @property
    def identity(self) -> Sensitive:
        """What tells this client's proof from any other's."""

    @property
    def signs(self) -> bool:
        """Tell whether the client itself signs, and so chooses for whom an assertion is."""

    @property
    def hint(self) -> str:
        """Say what has to stand at the issuer for the assertion to be taken, as an imperative sentence."""

    def prepare(self) -> Callable[[str, Sequence[str]], Sensitive]:
        """Get what the assertions of one token request are made from.

        Returns:
            What makes the assertion for an audience; the algorithms are those that the issuer takes, none where it
            does not say.

        Raises:
            RotationError: It cannot be had, or is not fit.
        """


@dataclass(frozen=True, slots=True)
class TokenProof:
    """A token that somebody else signs: a service account's, or what lies in a file.

    Attributes:
        who: Whose token it is, for people.
    """

    identity: Sensitive
    who: str
    get: Callable[[], SubjectToken]
    signs: bool = False

    @property
    def hint(self) -> str:
        """See ``ClientProof``."""
        return f"have the issuer take tokens of {self.who} for this client: their issuer, subject and audience"

    def prepare(self) -> Callable[[str, Sequence[str]], Sensitive]:
        """See ``ClientProof``; the token is for the issuer already."""
        token = self.get().token
        # Asked for once per token request, and shown in each way of it: a second one would be the same.
        return lambda _audience, _algorithms: token


@dataclass(frozen=True, slots=True)
class KeyProof:
    """The client's own key.

    Attributes:
        key: A private key, as PEM.
        key_id: By which the issuer knows it.
        reference: Where the key came from, for messages.
    """

    client_id: str
    key: Sensitive
    key_id: str
    reference: SecretKeyRef
    clock: Clock
    signs: bool = True

    @property
    def identity(self) -> Sensitive:
        """See ``ClientProof``."""
        return self.key

    @property
    def hint(self) -> str:
        """See ``ClientProof``."""
        return f"register the public key of {THE_SECRET} for this client at the issuer, under the same key id"

    def prepare(self) -> Callable[[str, Sequence[str]], Sensitive]:
        """See ``ClientProof``."""
        from credrotator.exchange.issuers.signing import signer  # noqa: PLC0415 - JOSE, where a policy needs it

        sign = signer(self.key, self.key_id, self.reference)
        return lambda audience, algorithms: sign(self.client_id, audience, self.clock(), algorithms)
