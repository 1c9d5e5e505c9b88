"""What the gateway's ``azureCredentials`` may say, and our annotations about it. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from credrotator.core.errors import UsageError, printable
from credrotator.policies.annotations import PREFIX, annotation_path
from credrotator.providers.azure.source import AzureClientSecret, AzureOidc, EntraApp

if TYPE_CHECKING:
    from credrotator.core.model import Source, TokenSource
    from credrotator.policies import schema
    from credrotator.policies.reader import Reading

PATH = "spec.azureCredentials"
AUTHORITY = PREFIX + "azure-authority-host"
SCOPE = PREFIX + "azure-scope"
AUTHORITY_OPTION, SCOPE_OPTION = "azure-authority-host", "azure-scope"
PUBLIC_AUTHORITY = "https://login.microsoftonline.com"
# Scope of Azure OpenAI by national cloud; https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud
COGNITIVE_SERVICES = {
    PUBLIC_AUTHORITY: "https://cognitiveservices.azure.com/.default",
    "https://login.microsoftonline.us": "https://cognitiveservices.azure.us/.default",
    "https://login.chinacloudapi.cn": "https://cognitiveservices.azure.cn/.default",
    "https://login.partner.microsoftonline.cn": "https://cognitiveservices.azure.cn/.default",
}
# Of federated credentials; https://learn.microsoft.com/entra/workload-id/workload-identity-federation-create-trust
AUDIENCES = {
    PUBLIC_AUTHORITY: "api://AzureADTokenExchange",
    "https://login.microsoftonline.us": "api://AzureADTokenExchangeUSGov",
    "https://login.chinacloudapi.cn": "api://AzureADTokenExchangeChina",
    "https://login.partner.microsoftonline.cn": "api://AzureADTokenExchangeChina",
}
_HTTPS_HOST = re.compile(r"https://[A-Za-z0-9.-]+(:[0-9]{1,5})?")


def read_block(reading: Reading, block: schema.AzureCredentials | None) -> Source | None:
    """Check what the block's fields mean together; None where it is not there."""
    if block is None:
        return None
    app = _app(reading, block)
    if exchange := block.oidc_exchange_token:
        return AzureOidc(_token_source(reading, exchange, app.authority), app)
    if ref := block.client_secret_ref:
        return AzureClientSecret(app, reading.secret_key(ref, "client-secret", f"{PATH}.clientSecretRef"))
    return None


def _token_source(reading: Reading, exchange: schema.OidcExchange, authority: str) -> TokenSource:
    # Each national cloud has an audience of its own; a token for the public one is refused there (AADSTS700212).
    audience = AUDIENCES.get(authority, AUDIENCES[PUBLIC_AUTHORITY])
    return reading.token_source(exchange, f"{PATH}.oidcExchangeToken", default_audience=audience)


def operators_authority(host: str) -> str:
    """Read the variable AZURE_AUTHORITY_HOST, which is a host with or without ``https://`` before it.

    Raises:
        UsageError: It is neither.
    """
    authority = _address(host)
    if not _HTTPS_HOST.fullmatch(authority):
        raise UsageError(f"AZURE_AUTHORITY_HOST={printable(host)}: expected a host, or https:// and a host")
    return authority


def _app(reading: Reading, block: schema.AzureCredentials) -> EntraApp:
    authority = _authority(reading)
    own, operators = reading.annotations.get(SCOPE), reading.defaults.options.get(SCOPE_OPTION)
    # Only ``/.default`` is possible with client credentials (RFC 6749 §4.4): there is no user who could consent to
    # single ones.
    scope = own or operators or COGNITIVE_SERVICES.get(authority)
    if scope and not scope.endswith("/.default"):
        path = annotation_path(SCOPE) if own else f"--{SCOPE_OPTION}"
        reading.wrong(path, f"client credentials need a scope that ends in /.default, got {printable(scope, 80)}")
    return EntraApp(block.tenant_id, block.client_id, authority, scope or COGNITIVE_SERVICES[PUBLIC_AUTHORITY])


def _authority(reading: Reading) -> str:
    """A policy may name a national cloud; any other authority is the operator's to set (AZURE_AUTHORITY_HOST)."""
    operators = reading.defaults.options.get(AUTHORITY_OPTION, PUBLIC_AUTHORITY)
    host = reading.annotations.get(AUTHORITY)
    if host is None:
        return operators
    authority = _address(host)
    # The client secret is sent to it, so a tenant cannot name any host.
    if authority not in {*COGNITIVE_SERVICES, operators}:
        known = ", ".join(urlsplit(url).netloc for url in COGNITIVE_SERVICES)
        reading.wrong(annotation_path(AUTHORITY), f"expected one of {known}, got {printable(host, 80)}")
    return authority


def _address(host: str) -> str:
    return "https://" + host.removeprefix("https://").rstrip("/")
