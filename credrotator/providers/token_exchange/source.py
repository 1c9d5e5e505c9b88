"""What policies ask for whose subject token any OAuth token endpoint exchanges. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from credrotator.providers.bearer import BearerSource, bearer_kind

if TYPE_CHECKING:
    from credrotator.core.model import SourceKind, TokenSource

KIND = bearer_kind("token-exchange")


@dataclass(frozen=True, slots=True)
class TokenExchange(BearerSource):
    """RFC 8693 or RFC 7523 §2.1 at an endpoint that the policy names.

    ``parameters``: further ones, in the order of their names.
    """

    oidc: TokenSource
    token_endpoint: str
    grant: Literal["token-exchange", "jwt-bearer"]
    encoding: Literal["form", "json"]
    audience: str | None = None
    resources: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    requested_token_type: str | None = None
    subject_token_type: str | None = None
    parameters: tuple[tuple[str, str], ...] = ()

    @property
    def kind(self) -> SourceKind:
        """See ``Rotatable``."""
        return KIND

    @property
    def identity(self) -> str:
        """See ``Rotatable``: whom the token is for, or who gives it."""
        return self.audience or next(iter(self.resources), urlsplit(self.token_endpoint).netloc)

    @property
    def asked(self) -> str:
        """See ``Rotatable``: the endpoint."""
        # A query may have a tenant's key in it, and this name may be shown.
        return f"tokenexchange {self.token_endpoint.partition('?')[0]}"
