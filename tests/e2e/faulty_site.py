"""A cluster behind a door that a test can jam, daemons that come through it, and what must hold all the same."""

import base64
import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from credrotator.sandbox import DEFAULT_CLIENT, DEFAULT_ROLE, Role
from tests.e2e import published_secrets
from tests.e2e.gateway_site import Destination
from tests.e2e.published import AwsCredential
from tests.e2e.published_secrets import Publication, PublishedSecrets
from tests.support import cluster_policies
from tests.support.cluster_policies import NAMESPACE, POLICIES, SECRETS, secret_of
from tests.support.parts import daemon, front, kubeconfig
from tests.support.parts.api import Json, Name
from tests.support.parts.daemon import Daemon
from tests.support.parts.front import Front

START = timedelta(seconds=40)
_ACCOUNT = Name(NAMESPACE, "behind-the-door")
_ROLES = [f"{DEFAULT_ROLE}-{number}" for number in range(4)]


@dataclass(frozen=True)
class FaultySite:
    """One test's door, and the policies that it makes.

    Attributes:
        kubeconfig: Leads through the door, with the token in `token`.
    """

    site: Destination
    front: Front
    published: PublishedSecrets
    directory: Path
    kubeconfig: Path
    token: Path
    _roles: Iterator[str] = field(default_factory=lambda: itertools.cycle(_ROLES))
    _made: list[str] = field(default_factory=list)

    def daemon(self, *options: str, name: str = "daemon", wait: bool = True) -> AbstractContextManager[Daemon]:
        """Run a daemon behind the door; without `options`, one that need not be elected."""
        sandbox, options = self.site.sandbox, options or ("--no-leader-elect",)
        return daemon.serving(self.kubeconfig, sandbox, *options, directory=self.directory, name=name, wait=wait)

    def add(self, name: str) -> None:
        """Create a policy, past the door."""
        self.site.cluster.api.create(POLICIES, cluster_policies.aws(name, self.site.issuer))
        self._made.append(name)

    def edit(self, name: str) -> None:
        """Give a policy another role, past the door."""
        spec = {"awsCredentials": cluster_policies.aws_exchange(self.site.issuer, next(self._roles))}
        self.site.cluster.api.patch(POLICIES, Name(NAMESPACE, name), {"spec": spec})

    def count(self, name: str) -> int:
        """Return how many credentials of a policy were published so far."""
        return len(self.published.of(secret_of(name)))

    def wait(self, name: str, number: int, *, within: timedelta = START) -> Publication:
        """Wait for the credential of that number, the first being 0, see that it is whole and right, and return it."""
        publication = self.published.wait(secret_of(name), number, within=within)
        assert publication, f"nothing was published for {name} within {within}"
        self.assert_whole(name)
        return publication

    def secret(self, name: str) -> Json:
        return self.site.cluster.api.get(SECRETS, Name(NAMESPACE, secret_of(name)))

    def assert_whole(self, name: str) -> None:
        """A Secret is one credential that STS gave, all of it, for the role of the policy as it is, and fresh."""
        found = self.secret(name)
        credential = AwsCredential.parse(base64.b64decode(found["data"]["credentials"]).decode())
        session = self.site.sandbox.sts.sessions[credential.key_id]
        assert (credential.secret, credential.session_token) == (session.secret_access_key, session.session_token)
        expiry = session.expires.strftime("%Y-%m-%dT%H:%M:%SZ")
        assert found["metadata"]["annotations"]["rotators/expiration-time"] == expiry
        role = self.site.policy(name)["spec"]["awsCredentials"]["oidcExchangeToken"]["awsRoleArn"]
        assert f":assumed-role/{role.rpartition('/')[2]}/" in session.arn

    def clear(self) -> None:
        """Remove the policies, so that no later test's daemon finds work that is left."""
        api = self.site.cluster.api
        for name in self._made:
            for resource, found in ((POLICIES, name), (SECRETS, secret_of(name)), (SECRETS, name)):
                if api.find(resource, Name(NAMESPACE, found)):
                    api.delete(resource, Name(NAMESPACE, found))

    def writes(self, name: str) -> list[int]:
        """Return what each write of a policy's Secret was answered at the door, 0 where it was not."""
        made = self.front.seen("create", "secrets", namespace=NAMESPACE)
        asked = [
            request
            for request in [*made, *self.front.seen("update", "secrets", name=secret_of(name))]
            if request.body["metadata"]["name"] == secret_of(name)
        ]
        return [request.status for request in self.front.requests if any(request is each for each in asked)]


@contextmanager
def behind(site: Destination, directory: Path) -> Iterator[FaultySite]:
    """Put a door before the API server of a site for the time of one test."""
    account = {"kind": "ServiceAccount", "namespace": _ACCOUNT.namespace, "name": _ACCOUNT.name}
    everything = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    site.cluster.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": NAMESPACE, "name": _ACCOUNT.name}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": _ACCOUNT.name},
            "roleRef": everything,
            "subjects": [account],
        },
    )
    for role in _ROLES:
        site.sandbox.sts.roles[role] = Role(site.issuer, subject=DEFAULT_CLIENT)
    directory.mkdir(parents=True)
    token = directory / "token"
    token.write_text(new_token(site))
    with front.before(site.cluster) as door, published_secrets.following(site.cluster.api) as published:
        ca = site.cluster.ca
        config = kubeconfig.for_token_file(
            directory / "kubeconfig", server=door.url, ca=ca, file=token, namespace=NAMESPACE
        )
        faulty = FaultySite(site, door, published, directory, config, token)
        yield faulty
        faulty.clear()


def new_token(site: Destination) -> str:
    """Return one more token of the account by which daemons come through the door."""
    return site.cluster.token(_ACCOUNT)
