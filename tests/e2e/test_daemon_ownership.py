"""Whose a Secret is, whom a doorbell reached, what a condition says: true on a server that collects garbage."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta

import pytest

from credrotator.sandbox import Sandbox
from tests.e2e import gateway_site
from tests.e2e.gateway_site import Destination
from tests.support import cluster_policies
from tests.support.cluster_policies import ISSUER_CLIENT, NAMESPACE, POLICIES, SECRETS, secret_of
from tests.support.parts import cluster, daemon
from tests.support.parts.api import Json, Name, Resource
from tests.support.parts.daemon import Daemon
from tests.support.parts.kubernetes import Programs
from tests.support.waiting import eventually

_GRANTS = Resource("gateway.networking.k8s.io/v1beta1", "referencegrants")
_NAMESPACES = Resource("v1", "namespaces")
_CRDS = Resource("apiextensions.k8s.io/v1", "customresourcedefinitions")
_LABEL, _POLICY, _RUNG = "app.kubernetes.io/managed-by", "credrotator.io/policy", "credrotator.io/rung-at"
# From the moment on at which the garbage collector, or somebody, took it away.
_BACK = timedelta(seconds=20)
_TRUE = timedelta(seconds=15)
_START_S = 40.0
_ELSEWHERE = "elsewhere"

Run = Callable[[], AbstractContextManager[Daemon]]


@pytest.fixture(scope="module")
def kubernetes(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[cluster.Cluster]:
    """A cluster with the built-in controllers, of which the garbage collector matters."""
    with cluster.serving(programs, directory=tmp_path_factory.mktemp("cluster"), collecting=True) as running:
        yield running


@pytest.fixture(scope="module")
def prepared(kubernetes: cluster.Cluster, sandbox: Sandbox) -> Iterator[Destination]:
    """The cluster with the gateway's definitions, and nobody who serves them."""
    with gateway_site.prepared(kubernetes, sandbox) as site:
        yield site


@pytest.fixture
def run(prepared: Destination) -> Run:
    """Run the daemon, which has no other beside it."""
    site = prepared.cluster
    return lambda: daemon.serving(site.admin, prepared.sandbox, "--no-leader-elect", directory=site.directory)


class Owned:
    """A policy, its Secret, and whether the one is the other's."""

    def __init__(self, site: Destination, name: str, manifest: Json, secret: str) -> None:
        self.api, self.name, self.manifest = site.cluster.api, name, manifest
        self.secret_name = secret

    def create(self) -> None:
        self.api.create(POLICIES, self.manifest)

    def delete(self) -> None:
        self.api.delete(POLICIES, Name(NAMESPACE, self.name))

    def secret(self) -> Json | None:
        return self.api.find(SECRETS, Name(NAMESPACE, self.secret_name))

    def patch_secret(self, metadata: Json) -> None:
        self.api.patch(SECRETS, Name(NAMESPACE, self.secret_name), {"metadata": metadata})

    def is_right(self) -> bool:
        """Tell whether there is a credential, owned, labelled and annotated for the policy that is there now."""
        found, policy = self.secret(), self.api.find(POLICIES, Name(NAMESPACE, self.name))
        if not found or not policy or not found.get("data"):
            return False
        metadata = found["metadata"]
        owners = {reference["uid"] for reference in metadata.get("ownerReferences") or ()}
        return (
            owners == {policy["metadata"]["uid"]}
            and (metadata.get("labels") or {}).get(_LABEL) == "credrotator"
            and metadata["annotations"].get(_POLICY) == self.name
        )

    def stays_right(self, within: timedelta = _BACK) -> None:
        """See that it is right after a while, and that the garbage collector takes it no more."""
        eventually(self.is_right, within.total_seconds() + _START_S)
        time.sleep(5)
        assert self.is_right()

    def ready(self) -> str:
        """What our condition says."""
        policy = self.api.find(POLICIES, Name(NAMESPACE, self.name)) or {}
        conditions = (policy.get("status") or {}).get("conditions") or ()
        return next((each["status"] for each in conditions if each["type"] == "credrotator.io/Ready"), "")


def _drop_in(site: Destination, name: str) -> Owned:
    return Owned(site, name, cluster_policies.aws(name, site.issuer), secret_of(name))


def _managed(site: Destination, name: str, secret: str) -> Owned:
    manifest = cluster_policies.aws_managed(name, site.issuer)
    manifest["spec"]["awsCredentials"]["credentialsFile"]["secretRef"]["name"] = secret
    return Owned(site, name, manifest, secret)


@pytest.mark.parametrize(
    "edit",
    [{"labels": {_LABEL: "another"}}, {"annotations": {_POLICY: None}}, {"ownerReferences": None}],
    ids=["label", "annotation", "owner"],
)
def test_fault_64_metadata_is_put_right(prepared: Destination, run: Run, edit: Json) -> None:
    """At once, from the same data; a label that was overwritten does not make a deletion go unnoticed."""
    owned = _drop_in(prepared, f"edited-{next(iter(edit)).lower()}")
    owned.create()
    with run():
        eventually(owned.is_right, _START_S)
        before, asked = (owned.secret() or {})["data"], prepared.exchanges
        owned.patch_secret(edit)
        owned.stays_right()
        assert (owned.secret() or {})["data"] == before
        assert prepared.exchanges == asked
        owned.patch_secret(edit)
        owned.api.delete(SECRETS, Name(NAMESPACE, owned.secret_name))
        owned.stays_right()


def test_fault_64_made_anew(prepared: Destination, run: Run) -> None:
    """With a daemon that looks, and while nobody does: the Secret survives the garbage collector, or is back."""
    owned = _drop_in(prepared, "anew")
    owned.create()
    with run():
        eventually(owned.is_right, _START_S)
        owned.delete()
        owned.create()
        owned.stays_right()
    owned.delete()
    owned.create()
    with run():
        owned.stays_right()


def test_fault_64_renamed_and_shared(prepared: Destination, run: Run) -> None:
    """Of two policies of one Secret one is refused, and has the Secret when the other one is gone."""
    first, second = (_managed(prepared, name, "one-for-two") for name in ("managed-first", "managed-second"))
    first.create()
    with run():
        eventually(first.is_right, _START_S)
        second.create()
        eventually(lambda: second.ready() == "False", _START_S)
        assert first.is_right()
        first.delete()
        second.stays_right()
        eventually(lambda: second.ready() == "True", _START_S)


def test_fault_63_killed_before_the_doorbell(prepared: Destination, run: Run) -> None:
    """The next one finds a bell that is older than its credential, and rings it; where all is told it does not."""
    owned, bell = _drop_in(prepared, "unrung"), Name(NAMESPACE, "unrung")
    owned.create()
    with run() as running:
        # The first credential needs no bell.
        eventually(owned.is_right, _START_S)
        owned.api.patch(POLICIES, bell, {"metadata": {"annotations": {"credrotator.io/renew-requested-at": "now"}}})
        eventually(lambda: owned.api.find(SECRETS, bell), _START_S)
        running.process.send(signal.SIGTERM)
    old = {"metadata": {"annotations": {_RUNG: "2026-01-01T00:00:00Z x"}}}
    owned.api.patch(SECRETS, bell, old)
    with run():
        eventually(lambda: not _rung_at(owned, bell).startswith("2026-01-01"), _START_S)
    rung = _rung_at(owned, bell)
    with run():
        time.sleep(_TRUE.total_seconds())
    assert _rung_at(owned, bell) == rung


def _rung_at(owned: Owned, bell: Name) -> str:
    return str(owned.api.get(SECRETS, bell)["metadata"]["annotations"][_RUNG])


def test_fault_65_a_condition_that_another_wrote(prepared: Destination) -> None:
    """A leader that was frozen, and leads again, makes true what was written meanwhile."""
    owned, site = _drop_in(prepared, "regained"), prepared.cluster
    owned.create()
    lease = ("--lease", f"{NAMESPACE}/regained")
    with daemon.serving(site.admin, prepared.sandbox, *lease, directory=site.directory, name="regained") as running:
        eventually(lambda: owned.ready() == "True", _START_S)
        running.process.send(signal.SIGSTOP)
        # Longer than the Lease is believed in.
        time.sleep(12)
        condition = {
            "type": "credrotator.io/Ready",
            "status": "False",
            "reason": "AccessDenied",
            "message": "of another leader",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        patch = json.dumps({"status": {"conditions": [condition]}})
        place = ("--namespace", NAMESPACE, "--subresource", "status", "--type", "merge", "--patch", patch)
        site.kubectl("patch", POLICIES.plural, owned.name, *place)
        running.process.send(signal.SIGCONT)
        eventually(lambda: owned.ready() == "True", _TRUE.total_seconds() + _START_S)


def test_fault_66_a_grant_that_comes_late(prepared: Destination, run: Run) -> None:
    """A policy that was refused a Secret of another namespace has it within seconds of the grant."""
    api = prepared.cluster.api
    api.create(_NAMESPACES, {"metadata": {"name": _ELSEWHERE}})
    for secret in cluster_policies.client_secrets(_ELSEWHERE):
        api.create(SECRETS, secret)
    owned = _drop_in(prepared, "granted")
    oidc = owned.manifest["spec"]["awsCredentials"]["oidcExchangeToken"]["oidc"]
    oidc["clientSecret"] = {"name": ISSUER_CLIENT, "namespace": _ELSEWHERE}
    owned.create()
    with run():
        eventually(lambda: owned.ready() == "False", _START_S)
        # Long enough for the back-off to be longer than what is allowed.
        time.sleep(5)
        source = {"group": "aigateway.envoyproxy.io", "kind": "BackendSecurityPolicy", "namespace": NAMESPACE}
        grant = {
            "apiVersion": _GRANTS.api_version,
            "kind": "ReferenceGrant",
            "metadata": {"name": "granted", "namespace": _ELSEWHERE},
            "spec": {"from": [source], "to": [{"group": "", "kind": "Secret"}]},
        }
        api.create(_GRANTS, grant)
        eventually(owned.is_right, _TRUE.total_seconds())


def test_fault_66_another_version_is_served(prepared: Destination, run: Run) -> None:
    """A definition that stops serving the version in use: found in the one that is left."""
    owned = _drop_in(prepared, "served")
    name = f"{POLICIES.plural}.{POLICIES.api_version.partition('/')[0]}"
    kept = prepared.cluster.kubectl("get", "crd", name, "--output", "jsonpath={.spec.versions[*].name}").split()
    if len(kept) < 2:
        pytest.skip("the definition has one version only")
    owned.create()
    with run() as running:
        eventually(owned.is_right, _START_S)
        number = kept.index("v1beta1")
        off = '[{"op":"replace","path":"/spec/versions/%d/served","value":%s}]'
        prepared.cluster.kubectl("patch", "crd", name, "--type", "json", "--patch", off % (number, "false"))
        try:
            alpha = Resource(f"{POLICIES.api_version.partition('/')[0]}/v1alpha1", POLICIES.plural)
            later = cluster_policies.aws("served-later", prepared.issuer) | {"apiVersion": alpha.api_version}
            prepared.cluster.api.create(alpha, later)
            at = Name(NAMESPACE, secret_of("served-later"))
            # A watch of the version that is gone may stand for a minute, and is not deaf as long as it does.
            eventually(lambda: (prepared.cluster.api.find(SECRETS, at) or {}).get("data"), 90)
            assert running.answers("/readyz", within=_TRUE)
        finally:
            prepared.cluster.kubectl("patch", "crd", name, "--type", "json", "--patch", off % (number, "true"))
