"""Whom a transport talks to, as errors, metrics and the environment name it. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Whom a transport talks to.

    Attributes:
        name: As in reasons (``IssuerUnreachable``); in small letters, in metrics.
        title: As in sentences (``the issuer``).
        post: What metrics call a POST request; ``get`` likewise.
        custom: What metrics call a request whose path ends so, behind a colon.
        proxy_variable: The gateway's own variable for the proxy to it; empty where there is none.
        ca_variables: Variables that name the CA bundle for it; the first that is set counts.
        address_setting: What names its address.
        of_tenants: Policies name its address, so that its word on the time is noted and not believed.
    """

    name: str
    title: str
    post: str = "token"
    get: str = "discovery"
    custom: str = ""
    proxy_variable: str = ""
    ca_variables: tuple[str, ...] = ("REQUESTS_CA_BUNDLE",)
    address_setting: str = ""
    of_tenants: bool = False

    def call(self, method: str | None, url: str | None) -> str:
        """Name a request for metrics."""
        if self.custom and url and url.partition("?")[0].endswith(f":{self.custom}"):
            return self.custom
        return self.get if method == "GET" else self.post


ISSUER = Endpoint("Issuer", "the issuer", address_setting="tokenEndpoint of the policy", of_tenants=True)
