"""Ten rotations while requests flow: the reason for which credrotator exists."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import groupby
from pathlib import Path

import pytest

from tests.e2e import policies, traffic
from tests.e2e.chain import AWS, BACKENDS, FEDERATED, SECRET, Backend, StartChain
from tests.e2e.command import Credrotator
from tests.e2e.published import Generation
from tests.e2e.traffic import Answers
from tests.e2e.upstream.journal import Journal

_ROTATIONS = 10
_PER_SECOND = 10
# The filter looks at its file every 5 s; the rest is for rendering, loading, and the next request.
_IN_USE_WITHIN = timedelta(seconds=6)
_PATIENCE = timedelta(seconds=15)
# Without a pause each publish would follow the filter's last look, at one and the same distance from the next.
_PAUSE_STEP = timedelta(seconds=0.5)

each_backend = pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)


@dataclass(frozen=True)
class Run:
    """What was published, what was answered, and what the upstream saw."""

    answers: Mapping[str, Answers]
    journal: Journal
    generations: dict[str, list[Generation]] = field(default_factory=lambda: {one.name: [] for one in BACKENDS})
    delays: dict[str, list[timedelta]] = field(default_factory=lambda: {one.name: [] for one in BACKENDS})

    def settle(self, credrotator: Credrotator) -> None:
        """Wait until each published credential is in use, and note how long that took from its publish."""
        for backend in BACKENDS:
            generation = credrotator.published.generation(backend.name)
            used_at = self.journal.first_use(generation.credential, within=_PATIENCE)
            assert used_at, f"{backend.name}: the new credential is not used {_PATIENCE} after its publish"
            self.generations[backend.name].append(generation)
            self.delays[backend.name].append(used_at - generation.published_at)


@pytest.fixture(scope="module")
def run(
    make_credrotator: Callable[[Path], Credrotator],
    issuer: str,
    start_chain: StartChain,
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    """Ten forced rotations of an AWS policy and both kinds of Azure policy, under steady traffic."""
    credrotator = make_credrotator(tmp_path_factory.mktemp("rotations"))
    policies.write(
        credrotator.manifests,
        policies.aws(AWS.name, issuer),
        policies.azure_federated(FEDERATED.name, issuer),
        policies.azure_secret(SECRET.name),
    )
    credrotator.rotate_for_filter()
    models = [backend.model for backend in BACKENDS]
    with (
        start_chain(credrotator) as chain,
        traffic.flowing(chain.url, models, per_second=_PER_SECOND) as answers,
    ):
        run = Run(answers, chain.journal)
        run.settle(credrotator)
        for step in range(_ROTATIONS):
            time.sleep((step * _PAUSE_STEP).total_seconds())
            credrotator.rotate_for_filter("--force")
            run.settle(credrotator)
    return run


@each_backend
def test_no_request_fails(run: Run, backend: Backend) -> None:
    """A rotation is invisible to clients: every request of every model is answered 200."""
    answers = run.answers[backend.model]
    assert answers.failed == 0, answers.by_status
    assert answers.total > _ROTATIONS * _PER_SECOND


def test_every_request_carries_a_valid_credential(run: Run) -> None:
    """No request reaches the upstream with a signature or token that does not verify."""
    assert run.journal.faults() == []


@each_backend
def test_each_credential_is_used_in_its_turn(run: Run, backend: Backend) -> None:
    """The credentials take turns in the order of their publishing: none is skipped and none comes back."""
    used = [entry.verdict.credential for entry in run.journal.entries(backend.host)]
    turns = [credential for credential, _ in groupby(used)]
    assert turns == [generation.credential for generation in run.generations[backend.name]]
    assert len(turns) == 1 + _ROTATIONS


@each_backend
def test_a_new_credential_is_in_use_within_6_s(run: Run, backend: Backend, figures: list[str]) -> None:
    """The time from publishing to the first request that uses the new credential stays below 6 s."""
    delays = sorted(delay.total_seconds() for delay in run.delays[backend.name][1:])
    requests = run.answers[backend.model].total
    figures.append(
        f"{backend.name}: {_ROTATIONS} rotations, {requests} requests, in use after "
        f"{delays[0]:.2f} / {statistics.median(delays):.2f} / {delays[-1]:.2f} s (min / median / max)"
    )
    assert delays[-1] < _IN_USE_WITHIN.total_seconds()
