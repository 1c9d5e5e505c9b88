"""Many policies over a directory, a sandbox behind them, and a reader that believes nobody.

Owns the manifests, and the judgement of what a consumer of the directory sees: each credential is whole, one of the
policy's own sessions, accepted by the sandbox's STS, and not expired.
"""

from __future__ import annotations

import configparser
import json
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from credrotator.core.model import ObjectKey
from credrotator.providers.aws.sts_answers import session_name
from credrotator.sandbox import DEFAULT_CLIENT, DEFAULT_CLIENT_SECRET, Role, Sandbox
from credrotator.sandbox.answers import Refused
from credrotator.sandbox.sigv4 import SignedRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from credrotator.sandbox.issuer import Issuer
    from credrotator.sandbox.sigv4 import Session

NAMESPACE = "default"
REGION = "eu-central-1"
CALL = "Action=GetCallerIdentity&Version=2011-06-15"
SHORT_FRACTION = 0.5
"""Share of a life of ten minutes or less after which it is renewed, at the latest (reliability.md, Timing)."""


class Broken(AssertionError):
    """A credential that no consumer should ever see: torn, mixed, another policy's, or refused by STS."""


def role_of(life: timedelta) -> str:
    """Name the role whose sessions live so long."""
    return f"arn:aws:iam::123456789012:role/lives-{life.total_seconds():.0f}s"


def aws_policy(name: str, issuer: str, role: str, namespace: str = NAMESPACE) -> dict[str, Any]:
    """Return a policy that assumes a role with the issuer's token."""
    client = {"clientID": DEFAULT_CLIENT, "clientSecret": {"name": "oidc-client"}}
    exchange = {"aud": "sts.amazonaws.com", "awsRoleArn": role, "oidc": {"provider": {"issuer": issuer}, **client}}
    return {
        "apiVersion": "aigateway.envoyproxy.io/v1beta1",
        "kind": "BackendSecurityPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "type": "AWSCredentials",
            "awsCredentials": {"region": REGION, "oidcExchangeToken": exchange},
            "targetRefs": [{"group": "aigateway.envoyproxy.io", "kind": "AIServiceBackend", "name": name}],
        },
    }


def client_secret(value: str = DEFAULT_CLIENT_SECRET, namespace: str = NAMESPACE) -> dict[str, Any]:
    """Return the Secret that all policies refer to."""
    metadata = {"name": "oidc-client", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"client-secret": value}}


def allow(sandbox: Sandbox, role: str, life: timedelta, issuer: Issuer | None = None) -> None:
    """Let the sandbox's default client assume a role, for so long at a time."""
    trusted = (issuer or sandbox.issuer).url
    sandbox.sts.roles[role] = Role(trusted, subject=DEFAULT_CLIENT, forced_life=life)


def read_profile(text: str) -> tuple[str, str, str]:
    """Read access key id, secret access key and session token as an SDK would.

    Raises:
        Broken: One is not there.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
        found = parser["default"]
        return found["aws_access_key_id"], found["aws_secret_access_key"], found["aws_session_token"]
    except (configparser.Error, KeyError) as error:
        raise Broken(f"a credentials file of {len(text)} characters that is none: {type(error).__name__}") from error


def session_of(sandbox: Sandbox, policy: str, text: str) -> Session:
    """Return the session that a policy's credentials file holds; it is one session, whole, and the policy's own.

    Raises:
        Broken: It is not.
    """
    access_key_id, secret_access_key, session_token = read_profile(text)
    session = sandbox.sts.sessions.get(access_key_id)
    if session is None:
        raise Broken(f"{policy}: STS never gave the access key id {access_key_id}")
    if (session.secret_access_key, session.session_token) != (secret_access_key, session_token):
        raise Broken(f"{policy}: the parts of the credential {access_key_id} are of different sessions")
    if session.arn.rpartition("/")[2] != session_name(ObjectKey(NAMESPACE, policy)):
        raise Broken(f"{policy}: the credential {access_key_id} is of another policy, {session.arn}")
    return session


def present(sandbox: Sandbox, session: Session) -> None:
    """Call GetCallerIdentity with a session, past the wire and its faults.

    Raises:
        Broken: STS refuses it.
    """
    url = f"{sandbox.sts.url}/"
    request = AWSRequest("POST", url, data=CALL, headers={"Content-Type": "application/x-www-form-urlencoded"})
    credentials = Credentials(session.access_key_id, session.secret_access_key, session.session_token)
    SigV4Auth(credentials, "sts", REGION).add_auth(request)
    headers = {**dict(request.headers.items()), "Host": url.split("/")[2]}
    try:
        sandbox.sts.verify(SignedRequest("POST", url, headers, CALL.encode()))
    except Refused as error:
        raise Broken(f"STS refuses {session.arn}: {error.code}") from error


@dataclass
class Fleet:
    """Policies over a directory: ``count`` of them, whose credentials live for ``lives``, in turn."""

    sandbox: Sandbox
    directory: Path
    count: int
    lives: Sequence[timedelta]
    policies: dict[str, timedelta] = field(init=False)

    def __post_init__(self) -> None:
        self.policies = {f"policy-{number:04}": self.lives[number % len(self.lives)] for number in range(self.count)}

    @property
    def manifests(self) -> Path:
        """Where the policies are."""
        return self.directory / "policies"

    @property
    def out(self) -> Path:
        """Where their credentials are published."""
        return self.directory / "out"

    def write(self) -> None:
        """Write the manifests, and let the sandbox know the roles."""
        for life in self.lives:
            allow(self.sandbox, role_of(life), life)
        items = [aws_policy(name, self.sandbox.issuer.url, role_of(life)) for name, life in self.policies.items()]
        self.manifests.mkdir(mode=0o700)
        listed = {"apiVersion": "v1", "kind": "List", "items": [client_secret(), *items]}
        (self.manifests / "all.json").write_text(json.dumps(listed))

    def read(self, policy: str) -> str:
        """Read a policy's credentials file as a consumer does."""
        return (self.out / NAMESPACE / f"ai-eg-bsp-{policy}" / "credentials").read_text()


@dataclass(frozen=True)
class Credential:
    """A credential as it was first seen. ``late`` is by how much it was issued after its predecessor was due."""

    session: Session
    issued: datetime
    late: timedelta | None


class Reader(threading.Thread):
    """Reads every policy's credential, again and again; what it should not have seen is in ``complaints``.

    Attributes:
        seen: All credentials of each policy, oldest first.
        complaints: What went wrong, in words.
        expiries: Policies whose credential was expired when it was read, and when.
    """

    def __init__(self, fleet: Fleet, poll: timedelta) -> None:
        super().__init__(name="reader", daemon=True)
        self.seen: dict[str, list[Credential]] = {}
        self.complaints: list[str] = []
        self.expiries: list[tuple[str, datetime]] = []
        self.reads = 0
        self._fleet = fleet
        self._poll_s = poll.total_seconds()
        self._texts: dict[str, str] = {}
        self._stopping = threading.Event()
        self._read_all = threading.Condition()

    def run(self) -> None:
        """Read until stopped."""
        while not self._stopping.wait(self._poll_s):
            for policy, life in self._fleet.policies.items():
                try:
                    self._look(policy, life)
                except Broken as error:
                    self.complaints.append(str(error))
            with self._read_all:
                self._read_all.notify_all()

    def stop(self) -> None:
        """Stop reading."""
        self._stopping.set()
        self.join()

    def wait_for(self, policies: Iterable[str], since: Mapping[str, int], within: timedelta) -> bool:
        """Tell whether each of the policies gets another credential than the ``since`` first ones, in that time."""

        def all_there() -> bool:
            return all(len(self.seen.get(policy, ())) > since.get(policy, 0) for policy in policies)

        with self._read_all:
            return self._read_all.wait_for(all_there, within.total_seconds())

    def counts(self) -> dict[str, int]:
        """Tell how many credentials each policy has had so far."""
        return {policy: len(credentials) for policy, credentials in self.seen.copy().items()}

    def latest(self, policy: str) -> Credential:
        """Return the credential that was seen last."""
        return self.seen[policy][-1]

    def _look(self, policy: str, life: timedelta) -> None:
        try:
            text = self._fleet.read(policy)
        except FileNotFoundError as error:
            if policy in self.seen:
                raise Broken(f"{policy}: its credential is gone") from error
            return
        read_at, known = datetime.now(UTC), self.seen.setdefault(policy, [])
        self.reads += 1
        if text != self._texts.get(policy):
            session = session_of(self._fleet.sandbox, policy, text)
            present(self._fleet.sandbox, session)
            issued = session.expires - life
            late = issued - (known[-1].issued + life * SHORT_FRACTION) if known else None
            known.append(Credential(session, issued, late))
            self._texts[policy] = text
        if known and known[-1].session.expires <= read_at:
            self.expiries.append((policy, read_at))
