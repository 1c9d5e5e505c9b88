"""Where policies come from and where their credentials go, as commands see it.

A command asks a backend for what it needs, and never which one it is: a directory with manifests, or a cluster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from credrotator.diagnosis.preflight import Destination

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from credrotator.app.consumers import PassHooks
    from credrotator.app.process import Election, Running, Stop
    from credrotator.app.rendering import Renderer
    from credrotator.core.instrumentation import DaemonInstrumentation
    from credrotator.core.model import ObjectKey, RotatablePolicy
    from credrotator.core.outcome_shape import LastOutcome
    from credrotator.core.ports import AccountTokens, Clock, Exchange, OutcomeListener, SecretStore
    from credrotator.kube.access import Right
    from credrotator.policies.inventory import Inventory


class AskedDestination(Destination, Protocol):
    """Where credentials go, as ``check`` asks of it."""

    @property
    def all_rights(self) -> Sequence[Right] | None:
        """What this account may do there; None where rights are not granted one by one."""


class Snapshot(Protocol):
    """The policies as they were read once, for a command that goes over them and ends."""

    @property
    def inventory(self) -> Inventory:
        """The policies, and what is asked about them."""

    @property
    def problems(self) -> Sequence[str]:
        """What could not be read, a sentence each."""

    @property
    def warnings(self) -> Sequence[str]:
        """What can hardly be meant, and fails nothing; a sentence each."""

    @property
    def notes(self) -> Sequence[str]:
        """What was passed over, which may be as it should; a sentence each."""

    @property
    def namespace(self) -> str:
        """The namespace of names without one."""

    @property
    def origin(self) -> str:
        """Where the policies are, as messages call it."""

    @property
    def may_be_empty(self) -> bool:
        """Tell whether it is no mistake that there are no policies."""

    @property
    def renderer(self) -> Renderer:
        """What renders the files that the templates describe."""

    @property
    def hooks(self) -> PassHooks:
        """What is run after a pass."""

    def last_outcome(self, key: ObjectKey) -> LastOutcome | None:
        """Return the latest outcome for a policy, as ``outcome_document`` has it, with its time under ``at``."""

    def acknowledged_at(self, key: ObjectKey) -> datetime | None:
        """Return when the gateway last wrote a policy's status (aware UTC); None where that is not known."""

    def in_use(self, policy: RotatablePolicy, content: str) -> bool | None:
        """Tell by its hash whether the gateway's filter is configured with what is published; None: not known."""

    def listener(self) -> OutcomeListener:
        """Return what follows each outcome."""

    def request_renewal(self, key: ObjectKey, request: str) -> bool:
        """Ask whoever rotates a policy to renew its credential; False where nobody is asked like this.

        Raises:
            RotationError: The request cannot be left there.
        """

    def destination(self, exchange: Exchange, clock: Clock, lease: str | None) -> AskedDestination | None:
        """Return where the credentials go; None where nobody said."""


class Backend(Protocol):
    """Where policies come from and where their credentials go; nothing is read before it is asked for."""

    @property
    def store(self) -> SecretStore:
        """Where credentials are published.

        Raises:
            UsageError: Nobody said where.
        """

    @property
    def account_tokens(self) -> AccountTokens:
        """What gets tokens of service accounts."""

    def rights(self, lease: str | None) -> Sequence[Right]:
        """Ask what this account may do there, whether the policies can be read or not; nothing without a cluster."""

    def read(self) -> Snapshot:
        """Read everything once.

        Raises:
            UsageError, RotationError: Nothing can be read there at all.
        """

    # Only for processes that come and go, such as twenty that an SDK starts at once for credential_process: each would
    # find the credential due, and make an exchange of its own.
    def renewing(self, key: ObjectKey) -> AbstractContextManager[None]:
        """Let one short-lived process at a time renew a Secret, where there may be many at once.

        Raises:
            RotationError: Another one takes too long, or the lock cannot be had.
        """

    def serve(
        self, workers: int, election: Election, instrumentation: DaemonInstrumentation, stop: Stop
    ) -> AbstractContextManager[Running]:
        """Rotate all policies from now on, so many at a time, until the block ends.

        Raises:
            UsageError: It cannot be done there.
        """
