"""Ten rotations by the daemon while requests flow: from the cluster through the gateway's own data plane."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING, cast

import pytest

from credrotator.sandbox import (
    DEFAULT_APP,
    DEFAULT_APP_SECRET,
    DEFAULT_CLIENT,
    DEFAULT_ROLE,
    DEFAULT_TENANT,
    App,
    Role,
    Sandbox,
)
from tests.e2e import chain, published_secrets, traffic
from tests.e2e.chain import Backend
from tests.e2e.gateway_site import Destination
from tests.e2e.published import AwsCredential
from tests.e2e.published_secrets import Publication, PublishedSecrets
from tests.e2e.timing import assert_p99, show
from tests.e2e.traffic import Answers
from tests.e2e.upstream.bearer import BearerVerifier
from tests.e2e.upstream.journal import Journal
from tests.e2e.upstream.server import Verifier
from tests.e2e.upstream.sigv4 import SigV4Verifier
from tests.support import cluster_policies
from tests.support.cluster_policies import NAMESPACE, POLICIES, secret_of
from tests.support.parts import daemon
from tests.support.parts.api import Json, Name
from tests.support.parts.cache import Cache

if TYPE_CHECKING:
    from joserfc.jwk import KeySetSerialization

_ROTATIONS = 10
_PER_SECOND = 5
_IN_USE_WITHIN = timedelta(seconds=6)
_START = timedelta(seconds=30)
# Without a pause each publish would follow the filter's last look, at one and the same distance from the next.
_PAUSE_STEP_S = 0.5

_ROLES = (DEFAULT_ROLE, f"{DEFAULT_ROLE}-2")
_APPS = (DEFAULT_APP, "bbbbbbbb-bbbb-cccc-dddd-eeeeeeeeeeee")

# What the filter signs for is the region's host, so the two AWS policies share one.
_HOSTS = {
    "aws": "bedrock-runtime.us-east-1.amazonaws.com",
    "managed-aws": "bedrock-runtime.us-east-1.amazonaws.com",
    "azure": "drop-in.openai.azure.com",
    "managed-azure": "managed.openai.azure.com",
}

each_policy = pytest.mark.parametrize("policy", _HOSTS)


@dataclass(frozen=True)
class Run:
    """What was published, what was answered, and what the upstream saw."""

    answers: Mapping[str, Answers]
    journal: Journal
    published: PublishedSecrets
    delays: dict[str, list[float]] = field(default_factory=lambda: {policy: [] for policy in _HOSTS})

    def settle(self, step: int) -> None:
        """Wait until each policy's newest credential is in use, and note how long that took from its publish."""
        for policy in _HOSTS:
            publication = self.published.wait(secret_of(policy), step, within=_START)
            assert publication, f"{policy} was not rotated"
            used_at = self.journal.first_use(publication.credential, within=_START)
            assert used_at, f"{policy}: the new credential is not used {_START} after its publish"
            self.delays[policy].append((used_at - publication.at).total_seconds())

    def publications(self, policy: str) -> list[Publication]:
        return list(self.published.of(secret_of(policy)))


@pytest.fixture(scope="module")
def run(prepared: Destination, parts: Cache, request: pytest.FixtureRequest) -> Iterator[Run]:
    """The daemon, the gateway's controller, its filter and its proxy; every policy edited ten times under traffic."""
    sandbox, cluster = prepared.sandbox, prepared.cluster
    for role in _ROLES:
        sandbox.sts.roles[role] = Role(prepared.issuer, subject=DEFAULT_CLIENT)
    for app in _APPS:
        sandbox.entra.tenants[DEFAULT_TENANT][app] = App(secrets={DEFAULT_APP_SECRET: None})
    with (
        published_secrets.following(cluster.api) as published,
        daemon.serving(cluster.admin, sandbox, "--no-leader-elect", directory=cluster.directory),
    ):
        prepared.add("rotations", _policies(prepared.issuer, 0))
        for policy in _HOSTS:
            assert published.wait(secret_of(policy), 0, within=_START), policy
        request.getfixturevalue("site")
        backends = _backends(prepared, published)
        with (
            chain.serving(
                parts, prepared.config.mount, _judges(sandbox), directory=cluster.directory, backends=backends
            ) as data_plane,
            traffic.flowing(data_plane.url, list(_HOSTS), per_second=_PER_SECOND) as answers,
        ):
            run = Run(answers, data_plane.journal, published)
            run.settle(0)
            for step in range(1, 1 + _ROTATIONS):
                time.sleep(step * _PAUSE_STEP_S)
                for manifest in _policies(prepared.issuer, step):
                    _edit(prepared, manifest)
                run.settle(step)
        yield run


def _policies(issuer: str, step: int) -> list[Json]:
    """Return the policies of a step: each has another identity than in the step before, and so must be rotated."""
    role, app = _ROLES[step % 2], _APPS[step % 2]
    return [
        cluster_policies.aws("aws", issuer, role=role),
        cluster_policies.aws_managed("managed-aws", issuer, role=role),
        cluster_policies.azure_secret("azure", app=app),
        cluster_policies.azure_managed("managed-azure", app=app),
    ]


def _edit(site: Destination, manifest: Json) -> None:
    metadata = manifest["metadata"]
    change = {"metadata": {"annotations": metadata["annotations"]}, "spec": manifest["spec"]}
    site.cluster.api.patch(POLICIES, Name(NAMESPACE, metadata["name"]), change)


def _backends(site: Destination, published: PublishedSecrets) -> list[Backend]:
    """Return the backends of the proxy, by the names that the gateway's controller has given them for the filter."""
    for policy in _HOSTS:
        assert site.config.has(published.of(secret_of(policy))[-1].text, within=_START), policy
    names = {policy: backend["name"] for policy, backend in site.config.backends().items()}
    return [Backend(names[policy], policy, host) for policy, host in _HOSTS.items()]


def _judges(sandbox: Sandbox) -> Mapping[str, Verifier]:
    """Return what each upstream checks: AWS the signature, by the sessions that STS gave, Azure the tenant's token."""

    def find(key_id: str) -> AwsCredential | None:
        session = sandbox.sts.sessions.get(key_id)
        if session is None:
            return None
        return AwsCredential(key_id, session.secret_access_key, session.session_token, cluster_policies.REGION)

    bearer = BearerVerifier(
        cast("KeySetSerialization", sandbox.entra.keys.jwks()),
        issuer=f"{sandbox.entra.url}/{DEFAULT_TENANT}/v2.0",
        audience="https://cognitiveservices.azure.com",
    )
    return {host: SigV4Verifier(find) if host.startswith("bedrock") else bearer for host in _HOSTS.values()}


@pytest.mark.usefixtures("run")
def test_the_gateway_exchanged_nothing(prepared: Destination) -> None:
    """All of it was the daemon's: the gateway's own rotator asked for nothing."""
    assert prepared.exchanges_of_gateway == 0


@each_policy
def test_no_request_fails(run: Run, policy: str) -> None:
    """A rotation is invisible to clients: every request of every model is answered 200."""
    answers = run.answers[policy]
    assert answers.failed == 0, answers.by_status
    assert answers.total > _ROTATIONS * _PER_SECOND


def test_every_request_carries_a_valid_credential(run: Run) -> None:
    """No request reaches the upstream with a signature or token that does not verify."""
    assert run.journal.faults() == []


@each_policy
def test_each_credential_is_used_in_its_turn(run: Run, policy: str) -> None:
    """The credentials take turns in the order of their publishing: none is skipped and none comes back."""
    published = [publication.credential for publication in run.publications(policy)]
    used = [entry.verdict.credential for entry in run.journal.entries() if entry.verdict.credential in published]
    assert [credential for credential, _ in groupby(used)] == published
    assert len(published) == 1 + _ROTATIONS


def test_a_request_is_signed_with_it_within_6_s(run: Run, figures: list[str]) -> None:
    """From the Secret to the first request that uses its credential it takes 6 s, 99 times of 100."""
    for policy, delays in run.delays.items():
        figures.append(show(f"{policy}, {run.answers[policy].total} requests, publish to use", delays[1:]))
    assert_p99([delay for delays in run.delays.values() for delay in delays[1:]], _IN_USE_WITHIN)
