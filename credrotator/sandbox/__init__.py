"""A local OIDC issuer, AWS STS and Microsoft Entra, to try credrotator without an account and to test it.

Owns servers that verify what they are shown as the real ones do, and switches that make them fail. Must not import
the rest of credrotator: it is the other side of the wire. It needs the extra ``credrotator[sandbox]``.
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
from credrotator.sandbox.apps import (
    DEFAULT_APP,
    DEFAULT_APP_SECRET,
    DEFAULT_TENANT,
    App,
    FederatedCredential,
)
from credrotator.sandbox.bodyfaults import GzipBomb, Huge, garbage, hostile
from credrotator.sandbox.clients import DEFAULT_CLIENT, DEFAULT_CLIENT_SECRET, Client
from credrotator.sandbox.faults import Fault, Faults
from credrotator.sandbox.listener import PortTaken
from credrotator.sandbox.proxy import Proxy
from credrotator.sandbox.recording import RecordedRequest, RequestLog
from credrotator.sandbox.roles import Role
from credrotator.sandbox.site import Sandbox
from credrotator.sandbox.sts import DEFAULT_ROLE
from credrotator.sandbox.wirefaults import Certificate, Drip, Hang, Latency, Mute, Refuse, Reset

__all__ = [
    "DEFAULT_APP",
    "DEFAULT_APP_SECRET",
    "DEFAULT_CLIENT",
    "DEFAULT_CLIENT_SECRET",
    "DEFAULT_ROLE",
    "DEFAULT_TENANT",
    "MISSING",
    "Answer",
    "App",
    "Certificate",
    "Client",
    "CutShort",
    "Drip",
    "Fault",
    "Faults",
    "FederatedCredential",
    "GzipBomb",
    "Hang",
    "Huge",
    "Latency",
    "Mute",
    "Override",
    "PortTaken",
    "Proxy",
    "RecordedRequest",
    "Redirect",
    "Refuse",
    "RequestLog",
    "Reset",
    "Role",
    "Sandbox",
    "ServiceError",
    "SkewedDate",
    "garbage",
    "hostile",
]
