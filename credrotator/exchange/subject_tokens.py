"""Where one policy's subject token comes from, and what is done about one that the vendor calls stale.

Three kinds with one face: an issuer and the API server, which are asked for another, and a file, which is read again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from credrotator.core.errors import PolicyError, Transient

if TYPE_CHECKING:
    from datetime import datetime

    from credrotator.core.errors import Denied
    from credrotator.core.model import ObjectKey, SubjectToken, TokenFile
    from credrotator.core.ports import AccountTokens, Clock
    from credrotator.exchange.http.single_flight import Shared
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
        # Only if the shared token is still this one: another policy may have fetched a fresh one meanwhile.
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
        # The file was replaced between reading and refusal: the new one deserves its own try.
        if current.token != stale.token:
            return current
        # By our clock it is good, so the refusal is about something else, and waiting for a new file would not help.
        if current.expires_at > self.clock():
            raise refusal
        raise Transient(
            "TokenFileExpired",
            f"the token in token file {self.named.name} expired at {current.expires_at:%Y-%m-%dT%H:%M:%SZ}",
            hint="see why nobody has written a new one: the kubelet does at four fifths of the life, while it runs",
        ) from refusal


@dataclass(frozen=True, slots=True)
class ServiceAccountTokens:
    """Of a service account, by the API server.

    Attributes:
        kept: Tokens that are good for more exchanges, by policy, account and audience: no policy is shown another's.
            None where each is good for one.
        ask: Gets a new one.
    """

    kept: Shared[SubjectToken] | None
    ask: AccountTokens
    clock: Clock
    policy: ObjectKey
    account: ObjectKey
    audience: str

    def token(self) -> SubjectToken:
        """See ``SubjectTokenSource``."""
        if self.kept is None:
            return self.ask(self.account, self.audience)
        try:
            return self.kept.get(self._key, self._fetch)
        except TimeoutError as error:
            message = f"the API server gave no token of service account {self.account} in time"
            raise Transient("TimeUp", message, hint="see whether the API server is overloaded") from error

    def fresh(self, stale: SubjectToken, refusal: Denied) -> SubjectToken:  # noqa: ARG002 - another one is made
        """See ``SubjectTokenSource``."""
        if self.kept:
            self.kept.drop(self._key, stale)
        return self.token()

    @property
    def _key(self) -> tuple[ObjectKey, ObjectKey, str]:
        return self.policy, self.account, self.audience

    def _fetch(self) -> tuple[SubjectToken, datetime]:
        token, now = self.ask(self.account, self.audience), self.clock()
        # NOTE: half of the life; some vendors' credentials live no longer than the token that they were got with.
        return token, now + (token.expires_at - now) / 2


def no_cluster(account: ObjectKey, audience: str) -> SubjectToken:  # noqa: ARG001 - nobody is asked
    """Refuse: the ``AccountTokens`` of who has no API server.

    Raises:
        PolicyError: Always.
    """
    raise PolicyError(
        "ServiceAccountNeedsCluster",
        f"a token of service account {account} comes from the API server, and policies are read from manifests here",
        hint="use credrotator.io/token-source with a token file here (--token-file), or run credrotator in the cluster",
    )
