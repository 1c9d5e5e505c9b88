"""How to reach the API server: from a kubeconfig, or from inside a pod.

Owns where the configuration is found and what of it is accepted; the one place that imports ``kubernetes``, and only
when there is a kubeconfig to read (it costs 0.7 s and 20 MiB). Must not connect. Source: client-go, ``rest`` and
``clientcmd``; reliability.md 31, 49, security 3.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from credrotator.core.errors import printable
from credrotator.core.model import Sensitive
from credrotator.kube.client.api_errors import ClusterNotNamed, ConfigurationError
from credrotator.kube.client.authorization import BearerTokenFile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credrotator.kube.client.authorization import HeaderSource

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
    """

    server: str
    credentials: HeaderSource
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    proxy: str | None = None
    namespace: str = "default"


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
    at_home = Path.home() / ".kube" / "config"
    paths = kubeconfig or environment.get("KUBECONFIG") or (str(at_home) if context or at_home.exists() else None)
    if paths:
        return _from_kubeconfig(paths, context)
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
    config = _Kubeconfig(paths, context)
    server = str(config.found.host)
    secure = server.startswith("https://")
    if not secure and not server.startswith("http://"):
        raise ConfigurationError(f"the API server's address {printable(server)} is neither https nor http")
    if not config.found.verify_ssl:
        raise ConfigurationError(
            "the kubeconfig says insecure-skip-tls-verify; give its certificate-authority-data instead"
        )
    proxy = config.cluster.get("proxy-url")
    scheme = urlsplit(proxy).scheme if proxy else ""
    if proxy and scheme not in {"http", "https"}:
        # The rest of it is not shown: there may be a password in it.
        raise ConfigurationError(
            f"the kubeconfig's proxy-url is neither http nor https, but {printable(scheme) or 'no URL'}"
        )
    return Connection(
        server=server,
        credentials=config.token_source(),
        tls=_tls_context(config.found.ssl_ca_cert, config.found.cert_file, config.found.key_file) if secure else None,
        server_name=config.cluster.get("tls-server-name"),
        proxy=proxy or None,
        namespace=config.context.get("namespace") or "default",
    )


class _Kubeconfig:
    """One context of a kubeconfig, by the vendor's loader."""

    def __init__(self, paths: str, context: str | None) -> None:
        self._paths, self._context = paths, context
        self.found, entry, merged = _load(paths, context)
        self.context: dict[str, Any] = entry["context"]
        # Read by hand, because the loader falls back to the environment's proxies where the cluster names none.
        self.cluster: dict[str, Any] = merged["clusters"].get_with_name(self.context["cluster"])["cluster"].value
        users = merged["users"].get_with_name(self.context.get("user"), safe=True)
        self._user: dict[str, Any] = (users.safe_get("user") or {}) if users else {}
        self._folder = Path(users.path).parent if users else Path()
        if "exec" in self._user and not (self._header() or self.found.cert_file):
            raise ConfigurationError("the kubeconfig's credential plug-in gave nothing; see what it logged")

    def token_source(self) -> HeaderSource:
        # A file wins over a literal, as in client-go.
        if named := self._user.get("tokenFile"):
            return BearerTokenFile(self._folder / named)
        return self

    def read(self, *, afresh: bool) -> Sensitive | None:
        """Return the header; the loader runs an exec plug-in again when its credential's own expiry has come."""
        if afresh:
            self.found = _load(self._paths, self._context)[0]
        return self._header()

    def _header(self) -> Sensitive | None:
        header = self.found.get_api_key_with_prefix("BearerToken")
        return Sensitive(header.strip()) if header else None


def _load(paths: str, context: str | None) -> tuple[Any, Any, Any]:
    from kubernetes.client import Configuration  # noqa: PLC0415 - slow; see above
    from kubernetes.config import kube_config  # noqa: PLC0415
    from kubernetes.config.config_exception import ConfigException  # noqa: PLC0415
    from yaml import YAMLError  # noqa: PLC0415

    vendor: Any = kube_config
    try:
        merged = vendor.KubeConfigMerger(paths).config
        if merged is None:
            raise ConfigurationError(f"there is no kubeconfig {printable(paths)}")
        loader = vendor.KubeConfigLoader(merged, active_context=context, config_base_path=None)
        found = Configuration()
        loader.load_and_set(found)
    except (ConfigException, OSError, YAMLError, LookupError, TypeError, ValueError) as error:
        raise ConfigurationError(f"the kubeconfig {printable(paths)} cannot be used: {printable(error)}") from error
    return found, loader.current_context, merged


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
