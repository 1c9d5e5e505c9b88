"""The bench: one API server, one set of vendors, and a namespace with policies for each measurement."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING

import requests
import trustme

from credrotator.core.planning import renewal_time
from credrotator.core.secret_document import Published
from credrotator.core.secretdata import content_hash
from credrotator.kube.store import stored_secret
from tests.bench.vendors import ISSUERS, Counts, Settings
from tests.support import cluster_policies
from tests.support.builders import parse_as
from tests.support.cluster_policies import POLICIES, SECRETS
from tests.support.parts import cluster, controller, gateway_crds
from tests.support.parts.watching import Seen, watching

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.parts.api import Json
    from tests.support.parts.cluster import Cluster
    from tests.support.parts.kubernetes import Programs

ROLE = "arn:aws:iam::123456789012:role/bench"
SHARD = "bench/shard"
_CREATING = 8
_PREFIX = "ai-eg-bsp-"
_PROVIDER, _KEY = "aws-oidc", "credentials"


class NotDone(AssertionError):
    """What was waited for did not come; the message says how far it was."""


@dataclass(frozen=True)
class VendorServer:
    """The vendors' process. ``url`` is the STS; an issuer is below it."""

    url: str
    ca: Path
    session: requests.Session

    def issuer(self, number: int) -> str:
        """Return the URL of an issuer."""
        return f"{self.url}{ISSUERS}{number}"

    def set(self, settings: Settings) -> None:
        """Change how they behave, and count from nought."""
        answer = self.session.post(f"{self.url}/bench/settings", data=json.dumps(asdict(settings)), timeout=30)
        answer.raise_for_status()

    def counts(self) -> Counts:
        """Tell what they were asked."""
        return Counts(**self.session.get(f"{self.url}/bench/counts", timeout=30).json())


class Ledger:
    """What happened to the Secrets of a namespace: a watch of its own, which believes no rotator.

    Args:
        uids: Of the policies, by name.
        prefix: What comes before a policy's name in that of its Secret.

    Attributes:
        writes: How often each policy's Secret got another credential.
        lateness_s: For each renewal, by how much it was published after it was due.
    """

    def __init__(self, uids: dict[str, str], prefix: str = _PREFIX) -> None:
        self.writes: Counter[str] = Counter()
        self.lateness_s: list[float] = []
        self.expired: set[str] = set()
        self.last_at = 0.0
        self._uids = uids
        self._prefix = prefix
        self._first_at: dict[str, float] = {}
        self._published: dict[str, Published] = {}
        self._contents: dict[str, str] = {}
        self._grew = threading.Condition()

    def heed(self, seen: Seen) -> None:
        """Take note of a version of a Secret."""
        policy = seen.name.removeprefix(self._prefix)
        with self._grew:
            # A doorbell has the policy's own name.
            if seen.name == self._prefix + policy and policy in self._uids and seen.kind != "DELETED":
                self._note(policy, seen)
            self._grew.notify_all()

    def expect(self, policy: str) -> None:
        """Have an eye on a policy that is about to be created."""
        with self._grew:
            self._uids[policy] = ""

    def first_at(self, policy: str, *, within: timedelta) -> float:
        """Return when a policy got its first credential, in Unix time.

        Raises:
            NotDone: It got none, in time.
        """
        with self._grew:
            if not self._grew.wait_for(lambda: policy in self._first_at, within.total_seconds()):
                raise NotDone(f"{policy} was not written within {within}")
            return self._first_at[policy]

    def expiries(self) -> int:
        """Tell how many policies' credentials were or are expired."""
        now = datetime.now(UTC)
        with self._grew:
            late = {policy for policy, published in self._published.items() if published.expires_at <= now}
            return len(self.expired | late)

    def mark(self) -> None:
        """Forget what happened so far, but not what is published."""
        with self._grew:
            self.writes.clear()
            self.expired.clear()
            self.lateness_s.clear()

    def wait_for(self, policies: int, *, within: timedelta) -> None:
        """Wait until so many policies have been written.

        Raises:
            NotDone: They were not, in time.
        """
        with self._grew:
            if not self._grew.wait_for(lambda: len(self.writes) >= policies, within.total_seconds()):
                raise NotDone(f"{len(self.writes)} of {policies} written in {within}")

    def _note(self, policy: str, seen: Seen) -> None:
        document = stored_secret(seen.object).document
        found, content = parse_as(document, _PROVIDER, _KEY), content_hash(document.data)
        before = self._published.get(policy)
        if not isinstance(found, Published) or self._contents.get(policy) == content:
            return
        self._contents[policy] = content
        self.writes[policy] += 1
        self.last_at = seen.at.timestamp()
        self._published[policy] = found
        if before is None:
            self._first_at[policy] = self.last_at
        elif self._uids[policy]:
            self.lateness_s.append((seen.at - renewal_time(before, self._uids[policy])).total_seconds())
            if before.expires_at <= seen.at:
                self.expired.add(policy)


@dataclass
class Destination:
    """The servers of one run of the benchmark."""

    cluster: Cluster
    vendors: VendorServer
    _numbers: Iterator[int] = field(default_factory=count)

    def scratch(self, name: str) -> Path:
        """Return a new directory."""
        path = self.cluster.directory / f"{name}-{next(self._numbers)}"
        path.mkdir()
        return path

    @contextmanager
    def policies(
        self, number: int, *, issuers: int = 1, shards: int = 1, managed: bool = False
    ) -> Iterator[tuple[str, Ledger]]:
        """Make a namespace with new policies, spread over issuers and shards; yield its name and its ledger.

        It is left behind: nobody watches it any more, and to delete it would take as long as to make it.
        """
        namespace = f"bench-{next(self._numbers)}"
        self.cluster.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
            *cluster_policies.client_secrets(namespace),
        )
        if managed:
            manifests = [self._managed(namespace, index) for index in range(number)]
        else:
            manifests = [self._policy(namespace, index, issuers, shards) for index in range(number)]
        with ThreadPoolExecutor(_CREATING) as pool:
            created = list(pool.map(lambda manifest: self.cluster.api.create(POLICIES, manifest), manifests))
        uids = {policy["metadata"]["name"]: policy["metadata"]["uid"] for policy in created}
        ledger = Ledger(uids, "" if managed else _PREFIX)
        with watching(self.cluster.api, SECRETS, namespace, ledger.heed):
            yield namespace, ledger

    def add(self, namespace: str, index: int) -> None:
        """Create one more policy, of the first issuer and the first shard."""
        self.cluster.api.create(POLICIES, self._policy(namespace, index, 1, 1))

    def requests(self) -> int:
        """Tell how many requests the API server has answered, by its own count; watches count when they end."""
        text = self.cluster.api.text("/metrics")
        lines = (line for line in text.splitlines() if line.startswith("apiserver_request_total{"))
        return sum(int(float(line.rpartition(" ")[2])) for line in lines if 'client=""' not in line)

    def _managed(self, namespace: str, index: int) -> Json:
        name, issuer = f"managed-{policy_name(index)}", self.vendors.issuer(0)
        return cluster_policies.aws_managed(name, issuer, role=ROLE, namespace=namespace)

    def _policy(self, namespace: str, index: int, issuers: int, shards: int) -> Json:
        manifest = cluster_policies.aws(
            policy_name(index), self.vendors.issuer(index % issuers), role=ROLE, namespace=namespace
        )
        manifest["metadata"]["labels"] = {SHARD: str(index % shards)}
        return manifest


def policy_name(index: int) -> str:
    """Name a policy by its number."""
    return f"policy-{index:05}"


@contextmanager
def serving(programs: Programs, directory: Path) -> Iterator[Destination]:
    """Start the API server with the gateway's CRDs, and the vendors."""
    with (
        cluster.serving(programs, directory=directory / "cluster") as running_cluster,
        vendor_servers(directory) as vendors,
    ):
        system = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": controller.SYSTEM_NAMESPACE}}
        running_cluster.apply(system)
        running_cluster.apply_crds(gateway_crds.current(programs.cache))
        yield Destination(running_cluster, vendors)


@contextmanager
def vendor_servers(directory: Path) -> Iterator[VendorServer]:
    """Start the vendors' process."""
    ca = trustme.CA()
    issued = ca.issue_cert("localhost")
    certificate, key, authority = (directory / f"vendors.{name}" for name in ("crt", "key", "ca"))
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(key))
    ca.cert_pem.write_to_path(str(authority))
    command = (sys.executable, "-m", "tests.bench.vendors", str(certificate), str(key))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, requests.Session() as session:
        assert process.stdout is not None
        session.trust_env, session.verify = False, str(authority)
        try:
            yield VendorServer(process.stdout.readline().strip(), authority, session)
        finally:
            process.terminate()
