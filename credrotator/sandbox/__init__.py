"""A local OIDC issuer, AWS STS and Microsoft Entra, to try credrotator without an account and to test it.

Owns servers that verify what they are shown as the real ones do, and switches that make them fail. Must not import
the rest of credrotator: it is the other side of the wire. It needs the extra ``credrotator[sandbox]``.
"""

from credrotator.sandbox.apps import (
    DEFAULT_APP,
    DEFAULT_APP_SECRET,
    DEFAULT_TENANT,
    App,
    FederatedCredential,
)
from credrotator.sandbox.clients import DEFAULT_CLIENT, DEFAULT_CLIENT_SECRET, Client
from credrotator.sandbox.listener import PortTaken
from credrotator.sandbox.recording import RecordedRequest, RequestLog
from credrotator.sandbox.roles import Role
from credrotator.sandbox.site import Sandbox
from credrotator.sandbox.sts import DEFAULT_ROLE

__all__ = [
    "DEFAULT_APP",
    "DEFAULT_APP_SECRET",
    "DEFAULT_CLIENT",
    "DEFAULT_CLIENT_SECRET",
    "DEFAULT_ROLE",
    "DEFAULT_TENANT",
    "App",
    "Client",
    "FederatedCredential",
    "PortTaken",
    "RecordedRequest",
    "RequestLog",
    "Role",
    "Sandbox",
]
