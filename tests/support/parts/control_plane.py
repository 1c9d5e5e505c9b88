"""The programs of a control plane: how each is told where its data, its keys and the others are."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from tests.support.parts import kubeconfig
from tests.support.parts.pki import Pki
from tests.support.parts.ports import free_port
from tests.support.parts.process import answers, running

ISSUER = "https://kubernetes.default.svc"
"""Of the service accounts' tokens: a cluster's own name for its API server, as it is by default."""
_START = timedelta(minutes=2)
_CONTROLLERS = "system:kube-controller-manager"
# What the last of them to be ready says, which is the garbage collector.
_COLLECTS = "Proceeding to collect garbage"


@contextmanager
def etcd(program: Path, *, directory: Path) -> Iterator[str]:
    """Run an empty store and yield its address."""
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    argv = (
        str(program),
        "--data-dir", str(directory / "etcd"),
        "--unsafe-no-fsync",
        "--log-level", "warn",
        "--listen-client-urls", client,
        "--advertise-client-urls", client,
        "--listen-peer-urls", peer,
        "--initial-advertise-peer-urls", peer,
        "--initial-cluster", f"default={peer}",
    )  # fmt: skip
    with running("etcd", *argv, directory=directory) as process:
        process.wait_until(lambda: answers(f"{client}/readyz"), within=_START)
        yield client


@contextmanager
def api_server(program: Path, store: str, keys: Pki, *, directory: Path, collecting: bool) -> Iterator[str]:
    """Run the API server on a store and yield its address.

    Without the controllers nobody makes the service accounts that admission would wait for, one per namespace.
    """
    port = free_port()
    url = f"https://127.0.0.1:{port}"
    argv = [
        str(program),
        "--etcd-servers", store,
        "--bind-address", "127.0.0.1",
        "--secure-port", str(port),
        "--tls-cert-file", str(keys.server.certificate),
        "--tls-private-key-file", str(keys.server.key),
        "--client-ca-file", str(keys.ca),
        "--service-account-issuer", ISSUER,
        "--service-account-key-file", str(keys.service_accounts.certificate),
        "--service-account-signing-key-file", str(keys.service_accounts.key),
        "--authorization-mode", "RBAC",
        "--service-cluster-ip-range", "10.96.0.0/16",
        # Nobody reaches this server through a Service, and its own address must not be a loopback one.
        "--endpoint-reconciler-type", "none",
        "--advertise-address", "192.0.2.1",
        "--profiling=false",
    ]  # fmt: skip
    if not collecting:
        argv += ["--disable-admission-plugins", "ServiceAccount"]
    with running("kube-apiserver", *argv, directory=directory) as process:
        process.wait_until(lambda: answers(f"{url}/readyz", ca=keys.ca), within=_START)
        yield url


@contextmanager
def controllers(program: Path, url: str, keys: Pki, *, directory: Path) -> Iterator[None]:
    """Run the built-in controllers: garbage collection, namespaces, service accounts."""
    port = free_port()
    path = kubeconfig.for_certificate(
        directory / "controllers.kubeconfig", server=url, ca=keys.ca, user=keys.user(_CONTROLLERS)
    )
    argv = (
        str(program),
        "--kubeconfig", str(path),
        "--bind-address", "127.0.0.1",
        "--secure-port", str(port),
        "--service-account-private-key-file", str(keys.service_accounts.key),
        "--root-ca-file", str(keys.ca),
        "--use-service-account-credentials=true",
        "--leader-elect=false",
        "--profiling=false",
    )  # fmt: skip
    with running("kube-controller-manager", *argv, directory=directory) as process:
        process.wait_until(lambda: _COLLECTS in process.log.read_text(errors="replace"), within=_START)
        yield
