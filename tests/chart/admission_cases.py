"""Policies, and whether they can work: what ``check --offline`` and the chart's admission policy both have to say.

One table for both, so that neither drifts from the other. ``None`` is a policy that is accepted; otherwise a word of
the message with which it is refused at admission.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

NAMESPACE = "team"


@dataclass(frozen=True)
class Case:
    """A policy that differs from a sound one in one thing.

    Attributes:
        block: ``aws`` or ``azure``.
        changes: Values by their path in the manifest, dots between; None removes a field.
        refused: A word of the message; None: accepted.
        allowed_issuers: The operator's list.
    """

    name: str
    changes: dict[str, Any] = field(default_factory=dict)
    refused: str | None = None
    block: str = "aws"
    allowed_issuers: tuple[str, ...] = ()

    def manifest(self) -> dict[str, Any]:
        """Return the policy."""
        manifest = copy.deepcopy(_SOUND[self.block])
        for path, value in self.changes.items():
            *parents, last = path.split("/")
            place = manifest
            for parent in parents:
                place = place.setdefault(parent, {})
            if value is None:
                del place[last]
            else:
                place[last] = value
        return manifest


_OIDC = {
    "provider": {"issuer": "https://idp.example.com/realms/a"},
    "clientID": "credrotator",
    "clientSecret": {"name": "oidc"},
}


def _policy(spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "aigateway.envoyproxy.io/v1beta1",
        "kind": "BackendSecurityPolicy",
        "metadata": {"name": "one", "namespace": NAMESPACE},
        "spec": spec,
    }


_SOUND = {
    "aws": _policy(
        {
            "type": "AWSCredentials",
            "awsCredentials": {
                "region": "us-east-1",
                "oidcExchangeToken": {
                    "awsRoleArn": "arn:aws:iam::123456789012:role/team/bedrock",
                    "aud": "sts.amazonaws.com",
                    "oidc": _OIDC,
                },
            },
        }
    ),
    "azure": _policy(
        {
            "type": "AzureCredentials",
            "azureCredentials": {
                "clientID": "6b0c2d1e-1111-2222-3333-444455556666",
                "tenantID": "contoso.onmicrosoft.com",
                "oidcExchangeToken": {"oidc": _OIDC},
            },
        }
    ),
}
AWS, EXCHANGE = "spec/awsCredentials", "spec/awsCredentials/oidcExchangeToken"
CLIENT = f"{EXCHANGE}/oidc"
ISSUER = f"{CLIENT}/provider/issuer"
REALMS = ("https://*.example.com/realms/*", "https://other.example.net")

CASES = (
    Case("sound"),
    Case("sound, Azure", block="azure"),
    Case("region of another shape", {f"{AWS}/region": "us_east"}, "region"),
    Case("region in capitals", {f"{AWS}/region": "US-EAST-1"}, "region"),
    Case("region that is a host", {f"{AWS}/region": "us-east-1.evil.example"}, "region"),
    Case("region of China", {f"{AWS}/region": "cn-north-1"}, "partition"),
    Case(
        "region and role of China",
        {f"{AWS}/region": "cn-north-1", f"{EXCHANGE}/awsRoleArn": "arn:aws-cn:iam::123456789012:role/x"},
    ),
    Case(
        "role of another partition", {f"{EXCHANGE}/awsRoleArn": "arn:aws-us-gov:iam::123456789012:role/x"}, "partition"
    ),
    Case("role with a short account", {f"{EXCHANGE}/awsRoleArn": "arn:aws:iam::1234:role/x"}, "awsRoleArn"),
    Case("a user in the role's place", {f"{EXCHANGE}/awsRoleArn": "arn:aws:iam::123456789012:user/x"}, "awsRoleArn"),
    Case(
        "a file and an exchange",
        {f"{AWS}/credentialsFile": {"secretRef": {"name": "file"}}},
        "both set",
    ),
    Case("tenant with a slash", {"spec/azureCredentials/tenantID": "a/b"}, "tenantID", block="azure"),
    Case("tenant that leads away", {"spec/azureCredentials/tenantID": "../x"}, "tenantID", block="azure"),
    Case("plain http", {ISSUER: "http://idp.example.com/realms/a"}, "not https"),
    Case("scheme in capitals", {ISSUER: "HTTPS://idp.example.com/realms/a"}),
    Case("another scheme", {ISSUER: "ftp://idp.example.com/realms/a"}, "https URL"),
    Case("no scheme", {ISSUER: "idp.example.com/realms/a"}, "https URL"),
    Case("a blank", {ISSUER: "https://idp.example.com/realms/a b"}, "https URL"),
    Case("a query", {ISSUER: "https://idp.example.com/realms/a?x=y"}, "https URL"),
    Case("a fragment", {ISSUER: "https://idp.example.com/realms/a#x"}, "https URL"),
    Case("a user name", {ISSUER: "https://user@idp.example.com/realms/a"}, "https URL"),
    Case("a backslash", {ISSUER: "https://idp.example.com/realms\\a"}, "https URL"),
    Case("a port", {ISSUER: "https://idp.example.com:8443/realms/a"}),
    Case(
        "an endpoint in clear",
        {f"{CLIENT}/provider/tokenEndpoint": "http://idp.example.com/realms/a/token"},
        "tokenEndpoint",
    ),
    Case("an endpoint", {f"{CLIENT}/provider/tokenEndpoint": "https://idp.example.com/realms/a/token"}),
    Case("no client id", {f"{CLIENT}/clientID": None}, "clientID"),
    Case("two client ids", {f"{CLIENT}/clientIDRef": {"name": "id"}}, "clientID"),
    Case("allowed by a glob", allowed_issuers=REALMS),
    Case("host with other case", {ISSUER: "https://IdP.Example.com/realms/a"}, allowed_issuers=REALMS),
    Case("path with other case", {ISSUER: "https://idp.example.com/Realms/a"}, "allows", allowed_issuers=REALMS),
    Case("the second of two globs", {ISSUER: "https://other.example.net"}, allowed_issuers=REALMS),
    Case("another host", {ISSUER: "https://idp.example.org/realms/a"}, "allows", allowed_issuers=REALMS),
    Case("a host that ends so", {ISSUER: "https://evil.org/.example.com/realms/a"}, "allows", allowed_issuers=REALMS),
    Case("below the glob's path", {ISSUER: "https://other.example.net/x"}, "allows", allowed_issuers=REALMS),
    Case("a dot for any letter", {ISSUER: "https://otherXexample.net"}, "allows", allowed_issuers=REALMS),
    Case("up again", {ISSUER: "https://idp.example.com/realms/../x"}, "path", allowed_issuers=REALMS),
    Case("up again, encoded", {ISSUER: "https://idp.example.com/realms/%2e%2e/x"}, "path", allowed_issuers=REALMS),
    Case("a parameter in the path", {ISSUER: "https://idp.example.com/realms/..;/x"}, "path", allowed_issuers=REALMS),
    Case("http that is allowed", {ISSUER: "http://dev.local/x"}, allowed_issuers=("http://dev.local/*",)),
    Case("an annotation too long", {"metadata/annotations": {"credrotator.io/note": "x" * 65537}}, "64 KiB"),
    Case("verify: true", {"metadata/annotations": {"credrotator.io/verify": "true"}}),
    Case("verify: yes", {"metadata/annotations": {"credrotator.io/verify": "yes"}}, "expected"),
    Case("somebody else's annotation", {"metadata/annotations": {"example.com/note": "x" * 65537}}),
)
