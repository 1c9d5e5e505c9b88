"""Plain Envoy on the configuration of docs/how-to/envoy.md: ten rotations under traffic."""

import re
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
import yaml

from credrotator.sandbox import DEFAULT_CLIENT_SECRET, Sandbox
from tests.e2e.command import Credrotator
from tests.e2e.published import Published, token_id
from tests.e2e.upstream import server
from tests.e2e.upstream.journal import Journal, Request, Verdict
from tests.e2e.upstream.sigv4 import PublishedKeys, SigV4Verifier
from tests.support.parts import envoy
from tests.support.parts.cache import Cache
from tests.support.parts.ports import free_port

if TYPE_CHECKING:
    from tests.e2e.upstream.server import Verifier

_PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "envoy.md"
_ROTATIONS = 10
_PER_SECOND = 20
_PATIENCE = timedelta(seconds=15)
_AWS_HOST, _AZURE_HOST = "bedrock-runtime.us-east-1.amazonaws.com", "example.openai.azure.com"
_PATHS = {"aws-bedrock": "/model/nova/converse", "azure-openai": "/openai/deployments/gpt/chat/completions"}


@dataclass(frozen=True)
class PublishedTokens:
    """Judges a request by the token that it carries: it has to be one that was published."""

    published: Published

    def verify(self, request: Request) -> Verdict:
        """Tell which token came."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        known = token_id(token) in _known_tokens(self.published)
        return Verdict(token_id(token), None if scheme == "Bearer" and known else "no token that was published")


def _known_tokens(published: Published) -> set[str]:
    """Name the tokens of all generations that are still there: the one before the present one is."""
    found = published.directory.glob("default/ai-eg-bsp-azure-openai/..2*/azureAccessToken")
    return {token_id(path.read_text()) for path in found}


@dataclass(frozen=True)
class Run:
    """How requests were answered, what the upstream saw, and how long each new credential took to be used."""

    answers: dict[str, Counter[int]]
    journal: Journal
    delays: dict[str, list[float]]


def _shown(title: str) -> str:
    """Return a file of the page."""
    block = re.search(rf'^```yaml title="{re.escape(title)}"\n(.*?)^```$', _PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert block, title
    return block[1]


def _configuration(upstream: int, port: int, admin: int, replaced: dict[str, str]) -> str:
    """Return the page's configuration with other addresses, and nothing else changed."""
    text = _shown("/etc/envoy/envoy.yaml")
    for theirs, ours in replaced.items():
        assert theirs in text
        text = text.replace(theirs, ours)
    whole: dict[str, Any] = yaml.safe_load(text)
    whole["admin"]["address"]["socket_address"]["port_value"] = admin
    (listener,) = whole["static_resources"]["listeners"]
    listener["address"]["socket_address"]["port_value"] = port
    for cluster in whole["static_resources"]["clusters"]:
        (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
        endpoint["endpoint"]["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": upstream}
        # The upstream of the test speaks plainly.
        del cluster["transport_socket"]
    return yaml.safe_dump(whole)


@contextmanager
def _flowing(url: str) -> Iterator[dict[str, Counter[int]]]:
    """Send requests to both upstreams until the block ends."""
    answers = {policy: Counter[int]() for policy in _PATHS}
    stop = threading.Event()

    def flow(policy: str) -> None:
        with requests.Session() as session:
            while not stop.wait(1 / _PER_SECOND):
                answers[policy][_ask(session, url + _PATHS[policy])] += 1

    threads = [threading.Thread(target=flow, args=(policy,)) for policy in _PATHS]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _ask(session: requests.Session, url: str) -> int:
    try:
        return session.post(url, json={"messages": []}, timeout=10).status_code
    except requests.RequestException:
        return 0


@pytest.fixture(scope="module")
def run(parts: Cache, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Ten forced rotations of both policies, under steady traffic."""
    directory = tmp_path_factory.mktemp("envoy")
    (directory / "sds").mkdir(mode=0o700)
    credrotator = Credrotator(directory, sandbox.environment(), ("--allowed-issuer", sandbox.issuer.url))
    text = _shown("policies.yaml").replace("https://idp.example.com", sandbox.issuer.url)
    credrotator.manifests.write_text(text.replace("THE-CLIENTS-SECRET", DEFAULT_CLIENT_SECRET))
    rotate = ("--template", f"preset:envoy-sds:{directory}/sds/credentials.yaml")
    assert credrotator.rotate(*rotate).exit_code == 0
    published = credrotator.published
    judges: dict[str, Verifier] = {
        _AWS_HOST: SigV4Verifier(PublishedKeys(published).find),
        _AZURE_HOST: PublishedTokens(published),
    }
    port, admin = free_port(), free_port()
    delays: dict[str, list[float]] = {policy: [] for policy in _PATHS}
    replaced = {"/var/lib/credrotator": str(published.directory), "/etc/envoy/sds": f"{directory}/sds"}
    with server.serving(judges) as upstream:
        configuration = _configuration(upstream.port, port, admin, replaced)
        with (
            envoy.configured(envoy.executable(parts), configuration, admin, directory=directory / "envoy"),
            _flowing(f"http://127.0.0.1:{port}") as answers,
        ):
            for step in range(1 + _ROTATIONS):
                if step:
                    assert credrotator.rotate("--force", *rotate).exit_code == 0
                for policy in _PATHS:
                    generation = published.generation(policy)
                    used_at = upstream.journal.first_use(generation.credential, within=_PATIENCE)
                    assert used_at, f"{policy}: the new credential is not used {_PATIENCE} after its publication"
                    delays[policy].append((used_at - generation.published_at).total_seconds())
                time.sleep(0.2)
    return Run(answers, upstream.journal, delays)


@pytest.mark.parametrize("policy", _PATHS)
def test_no_request_fails(run: Run, policy: str, figures: list[str]) -> None:
    """A rotation is invisible to clients, and each new credential is in use soon after its publication."""
    assert set(run.answers[policy]) == {200}, run.answers[policy]
    assert len(run.delays[policy]) == 1 + _ROTATIONS
    delays = sorted(run.delays[policy][1:])
    figures.append(
        f"plain Envoy, {policy}: {_ROTATIONS} rotations, {run.answers[policy].total()} requests, first use after "
        f"{delays[0]:.2f} / {statistics.median(delays):.2f} / {delays[-1]:.2f} s (min / median / max)"
    )


def test_every_request_carries_a_published_credential(run: Run) -> None:
    """No signature that does not verify, and no token that was not published, reaches an upstream."""
    assert run.journal.faults() == []
