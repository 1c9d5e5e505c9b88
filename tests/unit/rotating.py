"""A store, an exchange and a clock for tests of single rotations."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from credrotator.core.errors import Denied, PolicyError, Transient
from credrotator.core.model import fingerprint
from credrotator.core.secretdata import render
from credrotator.observability.audit import Audit
from credrotator.rotation.rotation import Rotation
from tests.support.twins import (
    SECRET,
    MemoryStore,
    ScriptedExchange,
    StandingClock,
    aws_credential,
    aws_policy,
    aws_source,
)

if TYPE_CHECKING:
    from credrotator.core.model import Credential
    from credrotator.core.secret_document import SecretDocument

MINUTE = timedelta(minutes=1)
FAILURES = [
    Transient("IssuerUnreachable", "refused", hint="look"),
    Denied("AccessDenied", "no", hint="grant"),
    PolicyError("SecretNotFound", "none", hint="create"),
]


class Backend:
    """A store, an exchange, a clock, and the rotation between them."""

    def __init__(self, *script: Credential | Exception) -> None:
        self.store = MemoryStore()
        self.exchange = ScriptedExchange(*script or (aws_credential(tag="NEW"),))
        self.clock = StandingClock()
        self.rotation = Rotation(self.store, self.exchange, self.clock, audit=Audit())
        self.policy = aws_policy()

    def publish(self, credential: Credential, role: str = "bedrock") -> SecretDocument:
        """Let the store hold a credential, as an earlier pass would have left it."""
        written = render(SECRET, credential, fingerprint(aws_source(role)))
        self.store.put(written)
        return written

    @property
    def stored(self) -> SecretDocument | None:
        """What the store holds."""
        found = self.store.read(SECRET)
        return found.document if found else None
