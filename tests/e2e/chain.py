"""The data plane, put together: Envoy, the gateway's filter on a rendered configuration, and the upstream."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from tests.e2e import traffic
from tests.e2e.command import Credrotator
from tests.e2e.entra import Entra
from tests.e2e.published import Published
from tests.e2e.upstream import server
from tests.e2e.upstream.journal import Journal
from tests.e2e.upstream.server import Verifier
from tests.e2e.upstream.sigv4 import PublishedKeys, SigV4Verifier
from tests.support.parts import envoy, ext_proc
from tests.support.parts.cache import Cache


@dataclass(frozen=True)
class Backend:
    """A backend behind the gateway; it bears the name of the policy whose credential it gets."""

    name: str
    model: str
    host: str


AWS = Backend("aws-bedrock", "us.amazon.nova-micro-v1:0", "bedrock-runtime.us-east-1.amazonaws.com")
FEDERATED = Backend("azure-federated", "gpt-federated", "federated.openai.azure.com")
SECRET = Backend("azure-secret", "gpt-secret", "secret.openai.azure.com")
BACKENDS = (AWS, FEDERATED, SECRET)


@dataclass(frozen=True)
class Chain:
    """A running data plane."""

    url: str
    journal: Journal

    def ask(self, backend: Backend) -> int:
        """Send one request to a backend's model and return the status of the answer."""
        with requests.Session() as session:
            return traffic.ask(session, self.url, backend.model)


StartChain = Callable[[Credrotator], AbstractContextManager[Chain]]


def verifiers(published: Published, entra: Entra) -> Mapping[str, Verifier]:
    """Return what each backend checks: AWS the signature, by the keys ever published, Azure the tenant's token."""
    bearer = entra.verifier()
    return {
        AWS.host: SigV4Verifier(PublishedKeys(published).find),
        FEDERATED.host: bearer,
        SECRET.host: bearer,
    }


@contextmanager
def serving(
    cache: Cache,
    filter_file: Path,
    judges: Mapping[str, Verifier],
    *,
    directory: Path,
    backends: Sequence[Backend] = BACKENDS,
) -> Iterator[Chain]:
    """Run the data plane on a rendered filter configuration, from the upstream forward."""
    with (
        server.serving(judges) as upstream,
        ext_proc.serving(ext_proc.executable(cache), filter_file, directory=directory) as filter_port,
        envoy.serving(
            envoy.executable(cache),
            "gateway.yaml.j2",
            directory=directory,
            backends=backends,
            filter_port=filter_port,
            upstream_port=upstream.port,
        ) as port,
    ):
        yield Chain(f"http://127.0.0.1:{port}", upstream.journal)
