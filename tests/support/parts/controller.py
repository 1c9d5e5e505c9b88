"""The gateway's controller: it copies what Secrets hold into the filter's configuration, and has a rotator of its own.

NOTE: its metrics and its rate limit service have fixed ports, so one runs at a time on a machine; a second test run
waits for the first to end.
"""

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import trustme

from tests.support.parts.api import Json
from tests.support.parts.cache import Cache
from tests.support.parts.cluster import Cluster
from tests.support.parts.go_tool import build
from tests.support.parts.ports import free_port
from tests.support.parts.process import Process, running

SYSTEM_NAMESPACE = "envoy-gateway-system"

_VERSION = "1.0.0"
_PACKAGE = "github.com/envoyproxy/ai-gateway/cmd/controller"
_START = timedelta(minutes=1)


def executable(cache: Cache) -> Path:
    """Return the controller's program, built from the gateway's Go module on the first call."""
    return build(cache, "controller", package=_PACKAGE, version=_VERSION, module="ext_proc")


@contextmanager
def serving(
    program: Path, cluster: Cluster, *, directory: Path, namespaces: tuple[str, ...], env: Mapping[str, str]
) -> Iterator[Process]:
    """Run the controller on a cluster that has its CRDs, as admin, for some namespaces.

    Args:
        program: The executable.
        cluster: Where it works.
        directory: Where its log and its certificates go.
        namespaces: What it watches beside its own.
        env: Where its rotator finds STS and which CA it trusts.
    """
    certificates = _certificates(directory / "webhook")
    cluster.apply(_webhook())
    argv = (
        str(program),
        "-enableLeaderElection=false",
        f"-port=127.0.0.1:{free_port()}",
        f"-webhookPort={free_port()}",
        f"-tlsCertDir={certificates}",
        "-extProcImage=unused",
        f"-envoyGatewayNamespace={SYSTEM_NAMESPACE}",
        f"-watchNamespaces={','.join((*namespaces, SYSTEM_NAMESPACE))}",
    )
    environment = {
        "KUBECONFIG": str(cluster.admin),
        "POD_NAMESPACE": SYSTEM_NAMESPACE,
        "AWS_EC2_METADATA_DISABLED": "true",
        "DISABLE_PPROF": "1",
        **env,
    }
    with (
        _alone(cluster.programs.cache),
        running("controller", *argv, directory=directory, env=environment) as process,
    ):
        process.wait_until(lambda: _watches_policies(process.log), within=_START)
        yield process


def _watches_policies(log: Path) -> bool:
    started = (line for line in log.read_text(errors="replace").splitlines() if "Starting workers" in line)
    return any('"controllerKind": "BackendSecurityPolicy"' in line for line in started)


@contextmanager
def _alone(cache: Cache) -> Iterator[None]:
    with (cache.root / ".controller-runs.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _certificates(directory: Path) -> Path:
    """Write what the webhook's server insists on having, though nothing here calls it."""
    directory.mkdir(parents=True, exist_ok=True)
    ca = trustme.CA()
    issued = ca.issue_cert("localhost")
    ca.cert_pem.write_to_path(str(directory / "ca.crt"))
    issued.private_key_pem.write_to_path(str(directory / "tls.key"))
    (directory / "tls.crt").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    return directory


def _webhook() -> Json:
    """Return the object that the controller looks for at its start; it selects no Pod."""
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": f"envoy-ai-gateway-gateway-pod-mutator.{SYSTEM_NAMESPACE}"},
        "webhooks": [
            {
                "name": "pods.gateway.example",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "clientConfig": {"url": "https://127.0.0.1:1/mutate"},
                "objectSelector": {"matchLabels": {"nothing": "has-this"}},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
            }
        ],
    }
