"""The real parts as fixtures: built once, started once per session, thrown away with it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from credrotator.sandbox import Sandbox
from tests.e2e import chain, entra, gateway_site, minio, realms
from tests.e2e.chain import Chain, StartChain
from tests.e2e.command import Credrotator
from tests.e2e.gateway_site import Destination
from tests.support.parts import cache, cluster, envoy, keycloak
from tests.support.parts.fixtures import gateway_program, parts, programs
from tests.support.parts.kubernetes import Programs

__all__ = ["gateway_program", "parts", "programs"]

_HERE = Path(__file__).parent
# The first test that needs a part waits until it is built, which takes minutes on a cold machine.
_LIMIT_S = 40 * 60
_FIGURES = pytest.StashKey[list[str]]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything here, so that no test of this directory runs where the real parts are not asked for."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(_LIMIT_S))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was measured."""
    for line in config.stash.get(_FIGURES, []):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> list[str]:
    """Lines to be printed at the end of the run."""
    return pytestconfig.stash.setdefault(_FIGURES, [])


@pytest.fixture(scope="session")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the servers of this session keep their state and logs."""
    return tmp_path_factory.mktemp("parts")


@pytest.fixture(scope="session")
def identity(parts: cache.Cache, run_directory: Path) -> Iterator[keycloak.Keycloak]:
    """Keycloak, still without a realm of ours."""
    with keycloak.serving(keycloak.distribution(parts), directory=run_directory) as server:
        yield server


@pytest.fixture(scope="session")
def tenant(parts: cache.Cache, identity: keycloak.Keycloak, run_directory: Path) -> Iterator[entra.Entra]:
    """Keycloak in the place of Entra."""
    with entra.serving(envoy.executable(parts), identity, directory=run_directory) as authority:
        yield authority


@pytest.fixture(scope="session")
def issuer(identity: keycloak.Keycloak, tenant: entra.Entra) -> str:
    """Keycloak as the OIDC issuer of the policies."""
    identity.create(realms.issuer_realm(entra=tenant.tenant))
    return identity.issuer(realms.ISSUER)


@pytest.fixture(scope="session")
def sts(parts: cache.Cache, issuer: str, run_directory: Path) -> Iterator[minio.MinIO]:
    """MinIO as the STS that trusts the issuer."""
    trust = minio.Trust(f"{issuer}/.well-known/openid-configuration", realms.AWS_AUDIENCE)
    with minio.serving(minio.executable(parts), trust, directory=run_directory) as server:
        yield server


@pytest.fixture(scope="session")
def make_credrotator(sts: minio.MinIO, tenant: entra.Entra) -> Callable[[Path], Credrotator]:
    """Make a credrotator that publishes under a directory, pointed at the real parts."""
    environment = {"AWS_ENDPOINT_URL_STS": sts.url, "AZURE_AUTHORITY_HOST": tenant.authority}
    return lambda directory: Credrotator(directory, environment, ("--ca-file", str(tenant.ca)))


@pytest.fixture
def credrotator(make_credrotator: Callable[[Path], Credrotator], tmp_path: Path) -> Credrotator:
    """A credrotator with nothing published yet."""
    return make_credrotator(tmp_path)


@pytest.fixture(scope="session")
def start_chain(parts: cache.Cache, tenant: entra.Entra) -> StartChain:
    """Start the data plane on the filter configuration that a credrotator has rendered."""

    def start(credrotator: Credrotator) -> AbstractContextManager[Chain]:
        judges = chain.verifiers(credrotator.published, tenant)
        return chain.serving(parts, credrotator.filter_file, judges, directory=credrotator.directory)

    return start


@pytest.fixture(scope="module")
def kubernetes(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[cluster.Cluster]:
    """An empty cluster for the tests of one file."""
    with cluster.serving(programs, directory=tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """An issuer, an STS and an Entra that keep count of what they are asked."""
    with Sandbox(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.fixture(scope="module")
def prepared(kubernetes: cluster.Cluster, sandbox: Sandbox) -> Iterator[Destination]:
    """The cluster with a Gateway, whose controller does not run yet."""
    with gateway_site.prepared(kubernetes, sandbox) as site:
        yield site


@pytest.fixture(scope="module")
def site(prepared: Destination, gateway_program: Path) -> Iterator[Destination]:
    """The cluster with the gateway's controller at work."""
    with prepared.controlled(gateway_program):
        yield prepared
