"""Memory twins of the ports, and the nouns that tests are made of.

Owns a SecretStore in memory, an Exchange that answers from a script, and a clock that stands still until it is moved.
They keep the ports' promises (``tests/unit/directory`` holds the store to the same class of tests as the real one).
"""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from credrotator.core.errors import Conflict, PolicyError
from credrotator.core.model import (
    Credential,
    ObjectKey,
    OidcClient,
    Policy,
    RotatablePolicy,
    SecretKeyRef,
    Static,
    generated_secret,
)
from credrotator.core.secret_document import SecretDocument, StoredSecret
from credrotator.core.sensitive import Sensitive
from credrotator.providers.aws.source import AwsCredential, AwsOidc
from credrotator.providers.azure.source import AzureToken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from credrotator.core.model import InvalidPolicy, Rotatable
    from credrotator.core.outcome import Outcome
    from credrotator.core.ports import SecretReader

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
KEY = ObjectKey("default", "bedrock")
SECRET = generated_secret(KEY)


class StandingClock:
    """A clock that a test moves."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def seconds(self) -> float:
        """Return seconds that only grow, as long as the test lets them."""
        return self.now.timestamp()


class Told:
    """What a leader election tells, passed on."""

    def __init__(self, started: Callable[[], None], stopped: Callable[[], None], lost: Callable[[], None]) -> None:
        self._started, self._stopped, self._lost = started, stopped, lost

    def started(self) -> None:
        self._started()

    def stopped(self) -> None:
        self._stopped()

    def lost(self) -> None:
        self._lost()


class Listener:
    """An OutcomeListener that passes on what it is told, by default to nobody."""

    def __init__(
        self,
        told: Callable[[Policy | InvalidPolicy, Outcome], None] = lambda _policy, _outcome: None,
        gone: Callable[[ObjectKey], None] = lambda _key: None,
    ) -> None:
        self._told, self._gone = told, gone

    def __call__(self, policy: Policy | InvalidPolicy, outcome: Outcome) -> None:
        self._told(policy, outcome)

    def forget(self, key: ObjectKey) -> None:
        self._gone(key)


class MemoryStore:
    """A SecretStore in memory.

    ``before_publish`` is run once, before the next write is compared: it is where a test lets somebody else be
    quicker. ``writes`` lists what was written; ``broken`` is raised by every call while it is set.
    """

    def __init__(self) -> None:
        self.secrets: dict[ObjectKey, StoredSecret] = {}
        self.writes: list[SecretDocument] = []
        self.before_publish: list[Callable[[], None]] = []
        self.broken: Exception | None = None
        self._lock = threading.Lock()
        self._versions = 0

    def read(self, key: ObjectKey) -> StoredSecret | None:
        if self.broken:
            raise self.broken
        with self._lock:
            return self.secrets.get(key)

    def publish(self, document: SecretDocument, expected: str | None) -> None:
        if self.broken:
            raise self.broken
        if self.before_publish:
            self.before_publish.pop(0)()
        with self._lock:
            stored = self.secrets.get(document.key)
            if (stored.version if stored else None) != expected:
                raise Conflict(str(document.key))
            self._put(document)
            self.writes.append(document)

    def put(self, document: SecretDocument) -> None:
        """Write as somebody else would: without asking for the version, and not listed in ``writes``."""
        with self._lock:
            self._put(document)

    def _put(self, document: SecretDocument) -> None:
        self._versions += 1
        self.secrets[document.key] = StoredSecret(document, str(self._versions))


class ScriptedExchange:
    """An Exchange that gives or raises what its script says, the last line for ever; ``calls`` lists who asked.

    ``verdicts`` are raised one by one when credentials are verified, None for a good one, as are all after the last.
    """

    def __init__(self, *script: Credential | Exception) -> None:
        self.script = list(script)
        self.calls: list[ObjectKey] = []
        self.verdicts: list[Exception | None] = []
        self.verified: list[ObjectKey] = []

    def __call__(
        self, policy: ObjectKey, source: Rotatable, secrets: SecretReader, *, ignore_retry_after: bool = False
    ) -> Credential:
        self.calls.append(policy)
        line = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(line, Exception):
            raise line
        return line

    def verify(
        self, policy: ObjectKey, source: Rotatable, credential: Credential, *, ignore_retry_after: bool = False
    ) -> None:
        self.verified.append(policy)
        verdict = self.verdicts.pop(0) if self.verdicts else None
        if verdict is not None:
            raise verdict


class ExchangeBy:
    """An Exchange by a function; every credential is a good one."""

    def __init__(self, get: Callable[..., Credential]) -> None:
        self._get = get

    def __call__(
        self, policy: ObjectKey, source: Rotatable, secrets: SecretReader, *, ignore_retry_after: bool = False
    ) -> Credential:
        return self._get(policy, source, secrets, ignore_retry_after=ignore_retry_after)

    def verify(
        self, policy: ObjectKey, source: Rotatable, credential: Credential, *, ignore_retry_after: bool = False
    ) -> None:
        pass


def no_secrets(ref: SecretKeyRef) -> Sensitive:
    """Be the SecretReader of a policy whose Secrets nobody created."""
    raise PolicyError("SecretNotFound", f"there is no Secret {ref.secret}", hint=f"create Secret {ref.secret}")


def aws_source(role: str = "bedrock", region: str = "us-east-1") -> AwsOidc:
    """Return what a policy asks of AWS."""
    client_secret = SecretKeyRef(ObjectKey("default", "oidc"), "client-secret", "spec.x.clientSecret")
    client = OidcClient("https://idp.example", "gateway", client_secret)
    return AwsOidc(client, f"arn:aws:iam::123456789012:role/{role}", region)


def static_policy(source: Static, key: ObjectKey = KEY) -> Policy:
    """Return a policy with nothing to rotate."""
    return Policy(key, source, f"uid-of-{key}", "v1beta1", "test.yaml", source.secret.secret if source.secret else None)


def aws_policy(key: ObjectKey = KEY, role: str = "bedrock") -> RotatablePolicy:
    """Return a policy that is rotated at AWS."""
    return RotatablePolicy(key, aws_source(role), f"uid-of-{key}", "v1beta1", "test.yaml", generated_secret(key))


def aws_credential(issued_at: datetime = NOW, life: timedelta = HOUR, tag: str = "A") -> AwsCredential:
    """Return a credential of AWS whose values end in ``tag``."""
    return AwsCredential(
        access_key_id=f"ASIA{tag}",
        secret_access_key=Sensitive(f"secret-{tag}"),
        session_token=Sensitive(f"session-{tag}"),
        region="us-east-1",
        issued_at=issued_at,
        expires_at=issued_at + life,
        request_id=f"request-{tag}",
    )


def azure_token(issued_at: datetime = NOW, life: timedelta = HOUR, tag: str = "A") -> AzureToken:
    """Return a token of Entra."""
    return AzureToken(Sensitive(f"token-{tag}"), issued_at, issued_at + life)


def document(key: ObjectKey = SECRET, annotations: Iterable[tuple[str, str]] = (), **data: str) -> SecretDocument:
    """Return a Secret with these values."""
    return SecretDocument(key, {name: Sensitive(value) for name, value in data.items()}, dict(annotations))


def with_annotation(of: SecretDocument, name: str, value: str | None) -> SecretDocument:
    """Return the Secret with one annotation changed, or removed by None."""
    others = {key: text for key, text in of.annotations.items() if key != name}
    return replace(of, annotations={**others, name: value} if value is not None else others)
