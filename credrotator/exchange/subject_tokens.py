"""Where one policy's subject token comes from, and what is done about one that the vendor calls stale.

Two kinds with one face: an issuer, which is asked for another, and a file, which is read again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from credrotator.core.errors import Transient

if TYPE_CHECKING:
    from credrotator.core.errors import Denied
    from credrotator.core.model import SubjectToken, TokenFile
    from credrotator.core.ports import Clock
    from credrotator.exchange.issuers.oidc import Issuers, TokenRequest
    from credrotator.exchange.token_files import TokenFiles


class SubjectTokenSource(Protocol):
    """Gives tokens for one policy; both raise RotationError."""

    def token(self) -> SubjectToken:
        """Return a token that is good for an exchange now."""

    def fresh(self, stale: SubjectToken, refusal: Denied) -> SubjectToken:
        """Return another token than the one that was refused."""


@dataclass(frozen=True, slots=True)
class IssuerTokens:
    """Of an issuer, by client credentials; shared with others who ask for the same, unless the request says not."""

    issuers: Issuers
    request: TokenRequest

    def token(self) -> SubjectToken:
        """See ``Subject``."""
        return self.issuers.subject_token(self.request)

    def fresh(self, stale: SubjectToken, refusal: Denied) -> SubjectToken:  # noqa: ARG002 - the issuer may give it again
        """See ``Subject``."""
        self.issuers.forget(self.request, stale)
        return self.token()


@dataclass(frozen=True, slots=True)
class FileTokens:
    """Of a file that somebody else keeps fresh."""

    files: TokenFiles
    namespace: str
    named: TokenFile
    clock: Clock

    def token(self) -> SubjectToken:
        """See ``Subject``.

        NOTE: one that has expired by our clock is given too. The vendor is to judge, and its date puts the clock right;
        refused here, a clock that is ahead would never be put right (reliability.md 23).
        """
        return self.files.token(self.namespace, self.named)

    def fresh(self, stale: SubjectToken, refusal: Denied) -> SubjectToken:
        """See ``Subject``; what the file still holds would be refused again."""
        current = self.token()
        if current.token != stale.token:
            return current
        if current.expires_at > self.clock():
            raise refusal
        raise Transient(
            "TokenFileExpired",
            f"the token in token file {self.named.name} expired at {current.expires_at:%Y-%m-%dT%H:%M:%SZ}",
            hint="see why nobody has written a new one: the kubelet does at four fifths of the life, while it runs",
        ) from refusal
