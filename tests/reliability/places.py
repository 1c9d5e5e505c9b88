"""The two places where credentials are published, for tests that hold for both: a directory and an API server.

Owns how a policy gets there, how it is edited, and what a consumer finds; each policy has roles of its own, so that a
session tells for which policy, and for which of its edits, it was made.
"""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from credrotator.core.model import ObjectKey
from credrotator.core.secretdata import EXPIRY, TRUE_EXPIRY, read_time
from credrotator.providers.aws.sts_answers import session_name
from tests.reliability.fleet import NAMESPACE, Broken, allow, aws_policy, client_secret, session_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from credrotator.sandbox import Sandbox
    from credrotator.sandbox.sigv4 import Session
    from tests.support.kube.simulator import ApiServer

LIFE = timedelta(minutes=30)


class Place(Protocol):
    """Where policies are, and their credentials."""

    sandbox: Sandbox
    roles: dict[str, str]

    def edit(self, policy: str) -> None:
        """Give a policy, new or old, another role, so that it is due at once."""

    def published(self, policy: str) -> Session | None:
        """Return the session that is published for a policy, None for none; the Secret is whole.

        Raises:
            Broken: It is not.
        """

    def history(self) -> Iterator[str]:
        """Name the access key ids of all that was ever published, as far as the place remembers."""

    def command(self, name: str) -> list[str]:
        """Return the arguments of ``run`` or ``rotate`` over this place."""


@dataclass
class _Roles:
    sandbox: Sandbox
    roles: dict[str, str] = field(default_factory=dict)

    def next_role(self, policy: str) -> str:
        """Make a role that nobody else has."""
        number = int(self.roles.get(policy, "-0").rpartition("-")[2]) + 1
        role = self.roles[policy] = f"arn:aws:iam::123456789012:role/{policy}-{number}"
        allow(self.sandbox, role, LIFE)
        return role

    def environment(self) -> dict[str, str]:
        """Return what leads a process to the sandbox."""
        return {**os.environ, **self.sandbox.environment()}

    def judged(self, policy: str, text: str, notes: Mapping[str, str]) -> Session:
        """Return the session of a Secret whose data and annotations belong together.

        Raises:
            Broken: They do not.
        """
        session = session_of(self.sandbox, policy, text)
        told = read_time(notes.get(TRUE_EXPIRY, notes.get(EXPIRY)))
        if told != session.expires.replace(microsecond=0):
            raise Broken(f"{policy}: the annotations say {told}, the credential expires at {session.expires}")
        return session


@dataclass
class DirectoryPlace(_Roles):
    """Manifests and ``--out``."""

    directory: Path = field(kw_only=True)
    out: Path = field(init=False)

    def __post_init__(self) -> None:
        self.out = self.directory / "out"
        (self.directory / "policies").mkdir(mode=0o700)
        (self.directory / "policies" / "secret.json").write_text(json.dumps(client_secret()))

    def edit(self, policy: str) -> None:
        manifest = json.dumps(aws_policy(policy, self.sandbox.issuer.url, self.next_role(policy)))
        new = self.directory / f"{policy}.new"
        new.write_text(manifest)
        new.replace(self.directory / "policies" / f"{policy}.json")

    def published(self, policy: str) -> Session | None:
        secret = self.out / NAMESPACE / f"ai-eg-bsp-{policy}"
        link = secret / "..data"
        if not link.exists():
            return None
        generation = secret / link.readlink()
        try:
            text = (secret / "credentials").read_text()
            same = text == (generation / "credentials").read_text()
            notes = json.loads((generation / "..annotations.json").read_text())
        except FileNotFoundError:
            same, text, notes = False, "", {}
        if secret / link.readlink() != generation:
            # Published while it was read, between one reading and the next: what is there now is judged.
            return self.published(policy)
        if not same:
            raise Broken(f"{policy}: the link leads elsewhere than the generation")
        return self.judged(policy, text, notes)

    def history(self) -> Iterator[str]:
        return iter(())

    def command(self, name: str) -> list[str]:
        return [name, "-f", str(self.directory / "policies"), "--out", str(self.out)]


@dataclass
class ClusterPlace(_Roles):
    """A simulated API server."""

    server: ApiServer = field(kw_only=True)
    kubeconfig: Path = field(kw_only=True)

    def __post_init__(self) -> None:
        self.server.create("secrets", client_secret())

    def edit(self, policy: str) -> None:
        manifest = aws_policy(policy, self.sandbox.issuer.url, self.next_role(policy))
        if self.server.get("backendsecuritypolicies", policy) is None:
            self.server.create("backendsecuritypolicies", manifest)
        else:
            self.server.patch("backendsecuritypolicies", policy, {"spec": manifest["spec"]})

    def published(self, policy: str) -> Session | None:
        found = self.server.get("secrets", f"ai-eg-bsp-{policy}")
        if found is None:
            return None
        text = base64.b64decode(found["data"]["credentials"]).decode()
        return self.judged(policy, text, found["metadata"]["annotations"])

    def history(self) -> Iterator[str]:
        names = {f"ai-eg-bsp-{policy}": policy for policy in self.roles}
        for change in list(self.server.objects.history):
            if change.plural != "secrets" or change.new is None:
                continue
            policy = names.get(change.new["metadata"]["name"])
            if policy and change.new.get("data"):
                text = base64.b64decode(change.new["data"]["credentials"]).decode()
                yield self.judged(policy, text, change.new["metadata"]["annotations"]).access_key_id

    def command(self, name: str) -> list[str]:
        elect = ["--no-leader-elect"] if name == "run" else []
        return [name, "--kubeconfig", str(self.kubeconfig), "-n", NAMESPACE, *elect]


def sessions_of(place: Place) -> dict[str, list[Session]]:
    """Return all sessions that STS ever gave, by policy, oldest first."""
    by_name: dict[str, list[Session]] = {}
    for session in list(place.sandbox.sts.sessions.values()):
        by_name.setdefault(session.arn.rpartition("/")[2], []).append(session)
    return {policy: by_name.get(session_name(ObjectKey(NAMESPACE, policy)), []) for policy in place.roles}
