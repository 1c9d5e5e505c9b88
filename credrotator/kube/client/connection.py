"""How to reach the API server: from a kubeconfig, or from inside a pod.

Owns where the configuration is found and what of it is accepted. Must not connect. Source: client-go, ``rest`` and
``clientcmd``; reliability.md 31, 49, security 3.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from credrotator.core.errors import printable
from credrotator.kube.client.api_errors import ClusterNotNamed, ConfigurationError
from credrotator.kube.client.authorization import BearerTokenFile
from credrotator.kube.client.kubeconfig import Kubeconfig, usable_files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credrotator.kube.client.authorization import HeaderSource

AT_HOME = "~/.kube/config"
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class Connection:
    """What a client needs to know.

    Attributes:
        server: Base URL, perhaps with a path, without a slash at its end.
        tls: Verifying context with the client certificate in it; None for plain http.
        server_name: Expected in the certificate instead of the host.
        proxy: URL of the proxy that the kubeconfig names. The environment's are for issuers and vendors.
        namespace: The context's, or the pod's.
        headers: For each request, such as those by which the server takes us for somebody else.
    """

    server: str
    credentials: HeaderSource
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    proxy: str | None = None
    namespace: str = "default"
    headers: tuple[tuple[str, str], ...] = ()


def find_connection(
    kubeconfig: str | None,
    context: str | None,
    *,
    environment: Mapping[str, str] = os.environ,
    service_account: Path = SERVICE_ACCOUNT,
) -> Connection:
    """Look where kubectl looks: the named file, KUBECONFIG, ``~/.kube/config``, then the pod's service account.

    Raises:
        ConfigurationError: Nothing there (ClusterNotNamed), or nothing that can be used.
    """
    named = kubeconfig or environment.get("KUBECONFIG") or ""
    # A user without a home and without an entry in passwd has the ~ as it is, which is no file.
    if paths := usable_files(named or AT_HOME, required=bool(named or context)):
        return _from_kubeconfig(paths, context)
    if kubeconfig:
        raise ConfigurationError(f"the kubeconfig {printable(kubeconfig)} is empty")
    if environment.get("KUBERNETES_SERVICE_HOST"):
        return _from_pod(environment, service_account)
    raise ClusterNotNamed("there is no kubeconfig, and this is no pod")


def _from_pod(environment: Mapping[str, str], service_account: Path) -> Connection:
    host, port = environment["KUBERNETES_SERVICE_HOST"], environment.get("KUBERNETES_SERVICE_PORT", "443")
    namespace = service_account / "namespace"
    return Connection(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        credentials=BearerTokenFile(service_account / "token"),
        tls=_tls_context(str(service_account / "ca.crt")),
        namespace=(namespace.read_text().strip() if namespace.exists() else "") or "default",
    )


def _from_kubeconfig(paths: str, context: str | None) -> Connection:
    config = Kubeconfig(paths, context)
    loaded = config.loaded
    secure = loaded.server.startswith("https://")
    if not secure and not loaded.server.startswith("http://"):
        raise ConfigurationError(f"the API server's address {printable(loaded.server)} is neither https nor http")
    if not loaded.verified:
        raise ConfigurationError(
            "the kubeconfig says insecure-skip-tls-verify; give its certificate-authority-data instead"
        )
    proxy = loaded.cluster.get("proxy-url")
    scheme = urlsplit(proxy).scheme if proxy else ""
    if proxy and scheme not in {"http", "https"}:
        # The rest of it is not shown: there may be a password in it.
        raise ConfigurationError(
            f"the kubeconfig's proxy-url is neither http nor https, but {printable(scheme) or 'no URL'}"
        )
    with loaded.tls_files() as files:
        tls = _tls_context(files.ca, files.certificate, files.key) if secure else None
    return Connection(
        server=loaded.server,
        credentials=config.token_source(),
        tls=tls,
        server_name=loaded.cluster.get("tls-server-name"),
        proxy=proxy or None,
        namespace=loaded.context.get("namespace") or "default",
        headers=config.impersonation(),
    )


def _tls_context(ca: str | None, certificate: str | None = None, key: str | None = None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca)
        # Python 3.13 insists on extensions that the CAs of some providers lack; client-go does not.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate:
            context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(file for file in (ca, certificate, key) if file)
        raise ConfigurationError(
            f"the API server's CA or the client certificate ({printable(files)}) cannot be used"
        ) from error
    return context
