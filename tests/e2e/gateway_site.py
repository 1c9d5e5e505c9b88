"""A cluster with a gateway in it: CRDs, the real controller, one Gateway, and the sandbox for its credentials."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from credrotator.sandbox import Sandbox
from tests.e2e import filter_config, gateway_objects
from tests.e2e.filter_config import FilterConfig
from tests.e2e.gateway_objects import backend, routes
from tests.support import cluster_policies
from tests.support.cluster_policies import NAMESPACE, POLICIES
from tests.support.parts import controller, gateway_crds
from tests.support.parts.api import Json, Name
from tests.support.parts.cluster import Cluster

_SCHEMAS = {
    "AWSCredentials": ("AWSBedrock", None),
    "AzureCredentials": ("AzureOpenAI", "2025-01-01-preview"),
    "GCPCredentials": ("GCPVertexAI", None),
    "APIKey": ("OpenAI", None),
}
# Nothing listens there: what is not the sandbox is refused at once, where a firewall would have it hang.
_NOWHERE = "http://127.0.0.1:1"


@dataclass(frozen=True)
class Destination:
    """The running parts, and what the controller has made of them so far."""

    cluster: Cluster
    sandbox: Sandbox
    config: FilterConfig

    @property
    def issuer(self) -> str:
        return self.sandbox.issuer.url

    @property
    def exchanges(self) -> int:
        """How many credentials STS was asked for, by whomever."""
        return self.sandbox.sts.requests.count(method="POST")

    @property
    def exchanges_of_gateway(self) -> int:
        """How many tokens and credentials the controller's own rotator asked for: it is the one written in Go."""
        services = (*self.sandbox.issuers, *self.sandbox.vendors)
        asked = [request for service in services for request in service.requests.matching(method="POST")]
        return sum(
            request.headers.get("User-Agent", "").startswith(("Go-", "aws-sdk-go", "azsdk-go")) for request in asked
        )

    def add(self, route: str, policies: Sequence[Json]) -> list[Json]:
        """Create policies, a backend for each, and routes to those; return the policies as the server has them."""
        created = [self.cluster.api.create(POLICIES, policy) for policy in policies]
        names = [policy["metadata"]["name"] for policy in created]
        types = [policy["spec"]["type"] for policy in created]
        backends = [backend(name, *_SCHEMAS[kind]) for name, kind in zip(names, types, strict=True)]
        self.cluster.apply(*backends, *routes(route, names))
        return created

    def policy(self, name: str) -> Json:
        return self.cluster.api.get(POLICIES, Name(NAMESPACE, name))

    @contextmanager
    def controlled(self, program: Path) -> Iterator[None]:
        """Run the gateway's controller until the block ends."""
        directory = self.cluster.directory
        env = _environment(self.sandbox)
        with controller.serving(program, self.cluster, directory=directory, namespaces=(NAMESPACE,), env=env):
            yield


@contextmanager
def prepared(cluster: Cluster, sandbox: Sandbox) -> Iterator[Destination]:
    """Make an empty cluster one with a Gateway, still without a route, and without the controller."""
    # First the namespace: where there are controllers, they make its service account meanwhile, for the Pod.
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": controller.SYSTEM_NAMESPACE}})
    cluster.apply_crds(gateway_crds.current(cluster.programs.cache))
    cluster.apply(*gateway_objects.gateway(), *cluster_policies.client_secrets())
    with filter_config.following(cluster.api, cluster.directory / "filter-config.yaml") as config:
        yield Destination(cluster, sandbox, config)


def _environment(sandbox: Sandbox) -> dict[str, str]:
    """Return the variables with which the controller's own rotator finds the sandbox and trusts it."""
    ca = str(sandbox.ca_file)
    return {
        "SSL_CERT_FILE": ca,
        "SSL_CERT_DIR": "",
        "AWS_CA_BUNDLE": ca,
        "AWS_ENDPOINT_URL_STS": sandbox.sts.url,
        "AZURE_AUTHORITY_HOST": sandbox.entra.url,
        "HTTPS_PROXY": _NOWHERE,
        "NO_PROXY": sandbox.environment()["NO_PROXY"],
    }
