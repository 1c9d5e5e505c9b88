"""The policy's API as the releases of the gateway serve it, side by side: what a reader of policies has to take."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from credrotator.core.model import Policy
from credrotator.kube.client.api import KubeApi
from credrotator.kube.served_schema import read_schema
from credrotator.policies.reader import Defaults
from credrotator.providers import policy_reader
from credrotator.sandbox import Sandbox
from tests.e2e import published_secrets
from tests.support.cluster_policies import GROUP, NAMESPACE, POLICIES, SECRETS, aws, client_secrets, secret_of
from tests.support.parts import cluster, daemon, gateway_crds
from tests.support.parts.api import ApiError, Json, Name, Resource
from tests.support.parts.cluster import Cluster
from tests.support.parts.kubernetes import Programs
from tests.support.waiting import eventually

_ALPHA = Resource(f"{GROUP}/v1alpha1", POLICIES.plural)
_ISSUER = "https://issuer.example"
_START = timedelta(seconds=30)


@pytest.fixture(scope="module")
def older(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with the policies of v0.2."""
    with cluster.serving(programs, directory=tmp_path_factory.mktemp("older")) as running:
        running.apply_crds(gateway_crds.V02)
        yield running


@pytest.fixture(scope="module")
def newer(kubernetes: Cluster) -> Cluster:
    """A cluster with the policies of v1."""
    kubernetes.apply_crds(gateway_crds.current(kubernetes.programs.cache))
    return kubernetes


def _alpha(name: str, issuer: str = _ISSUER) -> Json:
    """Return a policy as v0.2 has it, which points to nothing and is pointed to."""
    policy = aws(name, issuer)
    del policy["spec"]["targetRefs"]
    return policy | {"apiVersion": _ALPHA.api_version}


def test_v02_serves_v1alpha1_alone(older: Cluster) -> None:
    """A policy is read at the version that the server names, for there is no v1beta1 to ask for."""
    older.api.create(_ALPHA, _alpha("only"))
    with pytest.raises(ApiError, match="404"):
        older.api.get(POLICIES, Name(NAMESPACE, "only"))


def test_v1_serves_both(newer: Cluster) -> None:
    """A policy that was written for v0.2 lives on, and is the same object at both versions."""
    newer.api.create(_ALPHA, _alpha("both"))
    at = Name(NAMESPACE, "both")
    old, new = newer.api.get(_ALPHA, at), newer.api.get(POLICIES, at)
    assert old["metadata"]["uid"] == new["metadata"]["uid"]
    assert old["spec"] == new["spec"]


def test_only_v1_checks_that_type_and_credentials_match(older: Cluster, newer: Cluster) -> None:
    """v0.2 takes a policy that says API key and holds AWS credentials; v1 refuses it."""
    mixed = _alpha("mixed")
    mixed["spec"]["type"] = "APIKey"
    older.api.create(_ALPHA, mixed)
    with pytest.raises(ApiError, match="422"):
        newer.api.create(_ALPHA, mixed)


_KEY: Json = {"secretRef": {"name": "key"}}
_TARGET: Json = {"group": GROUP, "kind": "AIServiceBackend", "name": "claude"}
_POOL: Json = {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "claude"}
_PROJECT: Json = {"projectName": "my-project", "region": "us-central1"}


def _specs() -> dict[str, Json]:
    """Return what a policy of v1alpha1 may say in one release or another, or in none."""
    rotated = _alpha("x")["spec"]
    key_file = _PROJECT | {"credentialsFile": {"secretRef": {"name": "key"}}}
    return {
        "aws": rotated,
        "aimed": rotated | {"targetRefs": [_TARGET]},
        "aimed-at-a-pool": rotated | {"targetRefs": [_POOL]},
        "aimed-and-mixed": rotated | {"targetRefs": [_TARGET], "apiKey": _KEY},
        "google": {"type": "GCPCredentials", "gcpCredentials": key_file},
        "google-mixed": {"type": "GCPCredentials", "gcpCredentials": key_file, "apiKey": _KEY},
        "google-by-itself": {"type": "GCPCredentials", "gcpCredentials": _PROJECT},
        "azure-key": {"type": "AzureAPIKey", "azureAPIKey": _KEY},
        "anthropic-key": {"type": "AnthropicAPIKey", "anthropicAPIKey": _KEY},
        "without-its-key": {"type": "APIKey"} | {key: rotated[key] for key in rotated if key != "type"},
    }


# What v1alpha1 of each release takes. v0.2 drops targets, which it does not have; it also takes the policy without its
# key, which no release of the gateway can use.
_TAKEN = {
    "v0.2": {"aws", "aimed", "aimed-at-a-pool"},
    "v0.3": {"aws", "aimed", "google"},
    "v0.5": {"aws", "aimed", "aimed-at-a-pool", "google", "azure-key", "anthropic-key"},
}


def _kept(cluster: Cluster, policy: Json) -> Json | None:
    """Return a policy as the server keeps it; None if it refuses it."""
    try:
        return cluster.api.create(_ALPHA, policy)
    except ApiError:
        return None


@pytest.mark.parametrize("release", _TAKEN)
def test_fault_32_v1alpha1_is_judged_as_its_release_does(programs: Programs, tmp_path: Path, release: str) -> None:
    """What this server refuses is wrong here too, and nothing else: the server tells which v1alpha1 it serves."""
    crds = {"v0.2": gateway_crds.V02, "v0.3": gateway_crds.V03, "v0.5": gateway_crds.v05(programs.cache, tmp_path)}
    with cluster.serving(programs, directory=tmp_path / "cluster") as running:
        running.apply_crds(crds[release])
        with closing(KubeApi.from_config(str(running.admin), None, user_agent="tests")) as api:
            # It is told a second after the definition is established.
            eventually(lambda: read_schema(api, "v1alpha1") is not None)
            served = read_schema(api, "v1alpha1")
        reader = policy_reader(Defaults(), served)
        taken, valid = set(), set()
        for name, spec in _specs().items():
            written = _alpha(name) | {"spec": spec}
            kept = _kept(running, written)
            taken |= {name} if kept else set()
            valid |= {name} if isinstance(reader.read(kept or written, "here"), Policy) else set()
    assert taken - {"without-its-key"} == _TAKEN[release]
    # From v0.3 to v0.4 nothing but the server's own rule tells that a pool is no target; such a policy is never stored.
    assert valid - {"aimed-at-a-pool"} == taken - {"aimed-at-a-pool", "without-its-key"}


def test_fault_32_the_daemon_takes_the_version_that_is_served(older: Cluster, sandbox: Sandbox) -> None:
    """With v0.2 the policies, and the owner of what is published, are of v1alpha1; nothing else is different."""
    policy = _alpha("rotated", sandbox.issuer.url)
    older.apply(*client_secrets())
    with (
        published_secrets.following(older.api) as published,
        daemon.serving(older.admin, sandbox, "--no-leader-elect", directory=older.directory),
    ):
        uid = older.api.create(_ALPHA, policy)["metadata"]["uid"]
        assert published.wait(secret_of("rotated"), 0, within=_START)
    (owner,) = older.api.get(SECRETS, Name(NAMESPACE, secret_of("rotated")))["metadata"]["ownerReferences"]
    assert (owner["apiVersion"], owner["uid"]) == (_ALPHA.api_version, uid)


def test_fault_32_the_daemon_waits_for_the_api(programs: Programs, sandbox: Sandbox, tmp_path: Path) -> None:
    """Installed before the gateway, the daemon is not ready, and goes to work by itself when there are policies."""
    with cluster.serving(programs, directory=tmp_path / "bare") as bare:
        waiting = daemon.serving(bare.admin, sandbox, "--no-leader-elect", directory=tmp_path, wait=False)
        with published_secrets.following(bare.api) as published, waiting as running:
            assert running.answers("/healthz", within=_START)
            assert not running.answers("/readyz", within=timedelta(0))
            bare.apply_crds(gateway_crds.current(programs.cache))
            bare.apply(*client_secrets(), aws("late", sandbox.issuer.url))
            assert published.wait(secret_of("late"), 0, within=2 * _START)
            assert running.answers("/readyz", within=_START)
