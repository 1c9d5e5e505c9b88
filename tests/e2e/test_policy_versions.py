"""The policy's API as the releases of the gateway serve it, side by side: what a reader of policies has to take."""

from collections.abc import Iterator

import pytest

from tests.e2e.cluster_policies import GROUP, NAMESPACE, POLICIES, aws
from tests.e2e.parts import cluster, gateway_crds
from tests.e2e.parts.api import ApiError, Json, Name, Resource
from tests.e2e.parts.cluster import Cluster
from tests.e2e.parts.kubernetes import Programs

_ALPHA = Resource(f"{GROUP}/v1alpha1", POLICIES.plural)
_ISSUER = "https://issuer.example"


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


def _alpha(name: str) -> Json:
    """Return a policy as v0.2 has it, which points to nothing and is pointed to."""
    policy = aws(name, _ISSUER)
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
