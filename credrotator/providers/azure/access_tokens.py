"""What an access token of Microsoft Entra says of itself, compared with what the policy asks for. Pure.

A token that cannot be read (encrypted for its audience) is left to its audience. Source:
https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from credrotator.core.claims import audiences, read_claims
from credrotator.core.errors import printable
from credrotator.exchange.credential_checks import check_claims, rejected

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credrotator.core.ports import Clock
    from credrotator.core.sensitive import Sensitive
    from credrotator.providers.azure.source import EntraApp

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
AUDIENCE_HINT = "correct the scope (credrotator.io/azure-scope, --azure-scope)"


def check_token(app: EntraApp, token: Sensitive, clock: Clock) -> None:
    """See whether a token is current, for the resource of the scope, of the tenant, and of the application.

    Raises:
        Rejected: It is not.
    """
    claims = read_claims(token)
    if claims is None:
        return
    check_claims(claims, clock)
    _check_audience(app, claims)
    _check_tenant(app, claims)
    client = claims.get("appid", claims.get("azp"))
    if isinstance(client, str) and client.lower() != app.client_id.lower():
        raise rejected(f"the token is of application {printable(client, 80)} (appid)", "see what answers as Entra")


def _check_audience(app: EntraApp, claims: Mapping[str, object]) -> None:
    resource = app.scope.removesuffix("/.default").rstrip("/").lower()
    wanted, named = {resource, *(match[0] for match in _ID.finditer(resource))}, audiences(claims)
    found = {each.rstrip("/").lower() for each in named}
    # In a v2.0 token the resource goes by its application's id, which a scope that is a URL does not tell.
    untold = not _ID.search(resource) and any(_ID.fullmatch(each) for each in found)
    if found and not untold and not found & wanted:
        raise rejected(f"the token is for {', '.join(named)} (aud), not for {printable(resource, 120)}", AUDIENCE_HINT)


def _check_tenant(app: EntraApp, claims: Mapping[str, object]) -> None:
    """A tenant may be named by a domain, which no token repeats."""
    named, tenant = claims.get("tid"), app.tenant_id.lower()
    if not isinstance(named, str) or not _ID.fullmatch(tenant):
        return
    if named.lower() != tenant or tenant not in printable(claims.get("iss", "")).lower():
        what = f"the token is of tenant {printable(named, 80)} (tid), issuer {printable(claims.get('iss'), 120)}"
        raise rejected(f"{what}, not of {tenant}", "correct tenantID, or see what answers as Entra")
