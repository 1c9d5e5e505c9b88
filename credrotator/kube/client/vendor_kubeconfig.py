"""One context of a kubeconfig, by the vendor's loader: credential plug-ins, and whatever is out of the ordinary.

Owns whose words are shown when one cannot be used; the one place that imports ``kubernetes`` (it costs 0.4 s and
12 MiB). Must not connect. Source: client-go, ``plugin/pkg/client/auth/exec``.
"""

from __future__ import annotations

import subprocess
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from credrotator.core.errors import printable
from credrotator.core.sensitive import Sensitive
from credrotator.kube.client.api_errors import ConfigurationError
from credrotator.kube.client.kubeconfig_context import Cluster, Context, LoadedContext, TlsFiles, User

_SHOWN = 300


def load_by_vendor(paths: str, context: str | None) -> LoadedContext:
    """Load a context of the merged files.

    Raises:
        ConfigurationError: It cannot be used.
    """
    settings, entry, merged = _load(paths, context)
    chosen: Context = entry["context"]
    # Read by hand, because the loader falls back to the environment's proxies where the cluster names none.
    cluster: Cluster = merged["clusters"].get_with_name(chosen["cluster"])["cluster"].value
    users = merged["users"].get_with_name(chosen.get("user"), safe=True)
    user: User | None = users.safe_get("user") if users else None

    def header() -> Sensitive | None:
        """Return the header; the loader runs an exec plug-in again when its credential's own expiry has come."""
        text = settings.get_api_key_with_prefix("BearerToken")
        return Sensitive(text.strip()) if text else None

    files = TlsFiles(settings.ssl_ca_cert, settings.cert_file, settings.key_file)
    return LoadedContext(
        server=str(settings.host),
        verified=bool(settings.verify_ssl),
        context=chosen,
        cluster=cluster,
        user=user or {},
        folder=Path(users.path).parent if users else Path(),
        header=header,
        tls_files=lambda: nullcontext(files),
    )


def _load(paths: str, context: str | None) -> tuple[Any, Any, Any]:
    from kubernetes.client import Configuration  # noqa: PLC0415 - slow; see above
    from kubernetes.config import kube_config  # noqa: PLC0415
    from kubernetes.config.config_exception import ConfigException  # noqa: PLC0415
    from yaml import YAMLError  # noqa: PLC0415

    vendor: Any = kube_config

    class Loader(vendor.KubeConfigLoader):  # type: ignore[misc]
        """The vendor's, but for the plug-in, of which it logs the failure and goes on without a credential."""

        def _load_from_exec_plugin(self) -> bool:
            if "exec" not in self._user:
                return False
            folder = self._get_base_path(self._user.path)
            status = _run_plug_in(vendor.ExecProvider, self._user["exec"], folder, self._cluster)
            if token := status.get("token"):
                self.token = f"Bearer {token}"
            for attribute, name in (("cert_file", "clientCertificateData"), ("key_file", "clientKeyData")):
                if status.get(name):
                    data = vendor.FileOrData(status, None, data_key_name=name, base64_file_content=False)
                    setattr(self, attribute, data.as_file())
            if expiry := status.get("expirationTimestamp"):
                self.expiry = vendor.parse_rfc3339(expiry)
            return True

    try:
        merger = vendor.KubeConfigMerger(paths)
        merged = merger.config
        # NOTE: the loader takes the last of several files' contexts, and client-go the first.
        current = [file["current-context"] for file in merger.config_files.values() if file.get("current-context")]
        if current:
            merged.value["current-context"] = current[0]
        loader = Loader(merged, active_context=context, config_base_path=None)
        settings = Configuration()
        loader.load_and_set(settings)
    except (ConfigException, OSError, ValueError, YAMLError) as error:
        why = getattr(error, "problem", None) or error
        raise ConfigurationError(f"the kubeconfig {printable(paths)} cannot be used: {printable(why)}") from error
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        # The loader's way of saying that something in it has another shape.
        why = "expected clusters, users and contexts, as kubectl config view shows them"
        raise ConfigurationError(f"the kubeconfig {printable(paths)} cannot be used: {why}") from error
    return settings, loader.current_context, merged


def _run_plug_in(provider: Any, entry: Any, folder: str, cluster: Any) -> dict[str, Any]:
    """Run what the kubeconfig names for a credential (``exec``); its own words say best what is wrong.

    Raises:
        ConfigurationError: It is not there, failed, or gave no credential.
    """
    from kubernetes.config.config_exception import ConfigException  # noqa: PLC0415

    command = str(entry.safe_get("command") or "without a command")
    try:
        status = provider(entry, folder, cluster).run()
    except FileNotFoundError as error:
        raise _plug_in_failed(entry, command, "it is not installed, or not on the PATH") from error
    except (ConfigException, OSError, subprocess.SubprocessError, LookupError, TypeError, ValueError) as error:
        raise _plug_in_failed(entry, command, str(error).removeprefix("exec: ")) from error
    if not isinstance(status, dict):
        raise _plug_in_failed(entry, command, "its output has no status")
    certificate = (bool(status.get("clientCertificateData")), bool(status.get("clientKeyData")))
    if certificate not in {(True, True), (False, False)} or not (status.get("token") or all(certificate)):
        raise _plug_in_failed(entry, command, "it gave neither a token nor a client certificate with its key")
    return status


def _plug_in_failed(entry: Any, command: str, why: str) -> ConfigurationError:
    words = " ".join(why.split())
    cut = f"…{words[-_SHOWN:]}" if len(words) > _SHOWN else words
    hint = entry.safe_get("installHint")
    advice = f"; its installHint: {printable(' '.join(str(hint).split()))}" if hint else ""
    return ConfigurationError(
        f"the kubeconfig's credential plug-in {printable(command, 80)} failed: {printable(cut, _SHOWN + 1)}{advice}"
    )
