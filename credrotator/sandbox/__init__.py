"""A local OIDC issuer, clouds and model vendors, to try credrotator without an account and to test it.

Owns servers that verify what they are shown as the real ones do, and switches that make them fail. Must not import
the rest of credrotator: it is the other side of the wire. It needs the extra ``credrotator[sandbox]``.

In a test, the servers are objects to edit and to ask::

    with Sandbox(tmp_path) as sandbox:
        sandbox.issuer.token_life = timedelta(seconds=30)
        sandbox.sts.faults.add(ServiceError("Throttling"), times=3)
        with sandbox.issuer.faults.add(Hang(), path="/token"):
            ...  # act
        assert sandbox.issuer.requests.count("/token") == 1

A fault acts on requests whose path (a glob) and content match, for so many of them or until it is removed. Faults of
different kinds act together; of one kind the oldest acts first, so that several make a script.
"""

from credrotator.sandbox.answerfaults import (
    MISSING,
    Answer,
    CutShort,
    Override,
    Redirect,
    ServiceError,
    SkewedDate,
)
from credrotator.sandbox.anthropic import (
    DEFAULT_ORGANIZATION,
    DEFAULT_RULE,
    DEFAULT_SERVICE_ACCOUNT,
    DEFAULT_WORKSPACE,
    FederationRule,
)
from credrotator.sandbox.apps import (
    DEFAULT_APP,
    DEFAULT_APP_SECRET,
    DEFAULT_TENANT,
    App,
    FederatedCredential,
)
from credrotator.sandbox.assertions import TrustedAssertions
from credrotator.sandbox.bodyfaults import GzipBomb, Huge, garbage, hostile
from credrotator.sandbox.clients import DEFAULT_CLIENT, DEFAULT_CLIENT_SECRET, Client
from credrotator.sandbox.echofaults import Echo
from credrotator.sandbox.faults import Fault, Faults
from credrotator.sandbox.federation import Trusted
from credrotator.sandbox.googleaccounts import DEFAULT_ACCOUNT, DEFAULT_POOL, PoolProvider, ServiceAccount
from credrotator.sandbox.kept import KeptSandbox
from credrotator.sandbox.listener import PortTaken
from credrotator.sandbox.openai import DEFAULT_ACCOUNT_ID, DEFAULT_IDENTITY_PROVIDER, IdentityProvider
from credrotator.sandbox.proxy import Proxy
from credrotator.sandbox.recording import RecordedRequest, RequestLog
from credrotator.sandbox.roles import Role
from credrotator.sandbox.site import Sandbox
from credrotator.sandbox.sts import DEFAULT_ROLE
from credrotator.sandbox.wirefaults import Banner, Certificate, Drip, Handshake, Hang, Latency, Mute, Refuse, Reset

__all__ = [
    "DEFAULT_ACCOUNT",
    "DEFAULT_ACCOUNT_ID",
    "DEFAULT_APP",
    "DEFAULT_APP_SECRET",
    "DEFAULT_CLIENT",
    "DEFAULT_CLIENT_SECRET",
    "DEFAULT_IDENTITY_PROVIDER",
    "DEFAULT_ORGANIZATION",
    "DEFAULT_POOL",
    "DEFAULT_ROLE",
    "DEFAULT_RULE",
    "DEFAULT_SERVICE_ACCOUNT",
    "DEFAULT_TENANT",
    "DEFAULT_WORKSPACE",
    "MISSING",
    "Answer",
    "App",
    "Banner",
    "Certificate",
    "Client",
    "CutShort",
    "Drip",
    "Echo",
    "Fault",
    "Faults",
    "FederatedCredential",
    "FederationRule",
    "GzipBomb",
    "Handshake",
    "Hang",
    "Huge",
    "IdentityProvider",
    "KeptSandbox",
    "Latency",
    "Mute",
    "Override",
    "PoolProvider",
    "PortTaken",
    "Proxy",
    "RecordedRequest",
    "Redirect",
    "Refuse",
    "RequestLog",
    "Reset",
    "Role",
    "Sandbox",
    "ServiceAccount",
    "ServiceError",
    "SkewedDate",
    "Trusted",
    "TrustedAssertions",
    "garbage",
    "hostile",
]
