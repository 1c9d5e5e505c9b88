"""One context of a kubeconfig, by the vendor's loader.

Owns which files are read, whose words are shown when one cannot be used, and the credential plug-in; the one place
that imports ``kubernetes`` (it costs 0.7 s and 20 MiB). Must not connect. Source: client-go, ``tools/clientcmd``,
``plugin/pkg/client/auth/exec`` and ``transport.NewImpersonatingRoundTripper``.
"""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from credrotator.core.errors import printable
from credrotator.core.sensitive import Sensitive
from credrotator.kube.client.api_errors import ConfigurationError
from credrotator.kube.client.authorization import BearerTokenFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credrotator.kube.client.authorization import HeaderSource

_LEGAL = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") - {"%"}
"""Characters of a header's name (RFC 9110 §5.6.2) that need no escape there."""
_SHOWN = 300
_LIMIT_BYTES = 4 * 2**20


class Context(TypedDict, total=False):
    """An entry of ``contexts``, as far as it is read here."""

    cluster: str
    user: str
    namespace: str


Cluster = TypedDict("Cluster", {"proxy-url": str, "tls-server-name": str}, total=False)
"""An entry of ``clusters``, as far as the vendor's loader leaves it to us."""
User = TypedDict(
    "User",
    {"tokenFile": str, "as": object, "as-uid": object, "as-groups": object, "as-user-extra": object},
    total=False,
)
"""An entry of ``users``, as far as it is read here; what nobody has checked yet is an object."""


class Kubeconfig:
    """One context of the merged files."""

    def __init__(self, paths: str, context: str | None) -> None:
        self._paths, self._context = paths, context
        self.settings, entry, merged = _load(paths, context)
        self.context: Context = entry["context"]
        # Read by hand, because the loader falls back to the environment's proxies where the cluster names none.
        self.cluster: Cluster = merged["clusters"].get_with_name(self.context["cluster"])["cluster"].value
        users = merged["users"].get_with_name(self.context.get("user"), safe=True)
        user: User | None = users.safe_get("user") if users else None
        self._user: User = user or {}
        self._folder = Path(users.path).parent if users else Path()

    def token_source(self) -> HeaderSource:
        """Return where the Authorization header comes from."""
        # A file wins over a literal, as in client-go.
        if named := self._user.get("tokenFile"):
            return BearerTokenFile(self._folder / named)
        return self

    def read(self, *, afresh: bool) -> Sensitive | None:
        """Return the header; the loader runs an exec plug-in again when its credential's own expiry has come."""
        if afresh:
            self.settings = _load(self._paths, self._context)[0]
        header = self.settings.get_api_key_with_prefix("BearerToken")
        return Sensitive(header.strip()) if header else None

    def impersonation(self) -> tuple[tuple[str, str], ...]:
        """Return the headers by which the server takes us for somebody else (``as`` and its companions).

        Raises:
            ConfigurationError: They cannot be sent as they are; without one of them others' rights would count.
        """
        headers = tuple(_impersonation(self._user))
        if headers and headers[0][0] != "Impersonate-User":
            raise ConfigurationError("the kubeconfig names as-uid, as-groups or as-user-extra, but not as whom: add as")
        for name, value in headers:
            if not value.isprintable() or not name.isprintable():
                raise ConfigurationError(f"the kubeconfig's {printable(name)} has a character that no header may have")
        # NOTE: urllib3 sends a text as Latin-1, and client-go as UTF-8.
        return tuple((name, value.encode().decode("latin-1")) for name, value in headers)


def _impersonation(user: User) -> Iterator[tuple[str, str]]:
    if name := user.get("as"):
        yield "Impersonate-User", _text(name, "as")
    if uid := user.get("as-uid"):
        yield "Impersonate-Uid", _text(uid, "as-uid")
    for group in _texts(user.get("as-groups"), "as-groups"):
        yield "Impersonate-Group", group
    extra = user.get("as-user-extra") or {}
    if not isinstance(extra, dict):
        raise ConfigurationError("the kubeconfig's as-user-extra: expected lists by name")
    for key, values in extra.items():
        for value in _texts(values, "as-user-extra"):
            yield f"Impersonate-Extra-{_escaped(str(key))}", value


def _texts(values: object, field: str) -> list[str]:
    if not isinstance(values or [], list):
        raise ConfigurationError(f"the kubeconfig's {field}: expected a list")
    return [_text(value, field) for value in values or []]  # type: ignore[attr-defined]


def _text(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"the kubeconfig's {field}: expected a text; quote the value")
    return value


def _escaped(key: str) -> str:
    """Write a key as part of a header's name: other characters as %XX, and % itself too."""
    return "".join(chr(byte) if chr(byte) in _LEGAL else f"%{byte:02X}" for byte in key.encode())


def usable_files(paths: str, *, required: bool) -> str | None:
    """Return the files among those named that are there and hold something, joined as they were; None for none.

    Args:
        paths: Joined by the system's separator, as in KUBECONFIG.
        required: Whether somebody named them, so that none at all is a mistake.

    Raises:
        ConfigurationError: One is there and cannot be read, or is no kubeconfig; or none is there and one is required.
    """
    named = [os.path.expanduser(path) for path in paths.split(os.pathsep) if path]  # noqa: PTH111 - Path's raises
    present = {path: _holds_something(path) for path in named if _is_there(path)}
    if required and named and not present:
        raise ConfigurationError(f"there is no kubeconfig {printable(paths)}")
    return os.pathsep.join(path for path, used in present.items() if used) or None


def _is_there(path: str) -> bool:
    try:
        os.stat(path)  # noqa: PTH116 - a name with ~ in it stays what it is
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "this is no name of a file"
        raise ConfigurationError(f"the kubeconfig {printable(path)} cannot be read: {why}") from error
    return True


def _holds_something(path: str) -> bool:
    """Tell whether a file has any settings; kubectl passes over one that was only touched."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - as above
        if stat.S_ISFIFO(mode):
            return True  # what a shell makes of <(…) can be read once, and the loader does
        with open(path, "rb") as file:  # noqa: PTH123 - as above
            content = file.read(_LIMIT_BYTES + 1)
        if len(content) > _LIMIT_BYTES:
            raise ConfigurationError(
                f"the kubeconfig {printable(path)} cannot be used: longer than {_LIMIT_BYTES >> 20} MiB"
            )
        lines = content.decode().splitlines()
    except OSError as error:
        raise ConfigurationError(f"the kubeconfig {printable(path)} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"the kubeconfig {printable(path)} cannot be used: it is not UTF-8 text") from error
    return any(line.strip() not in {"", "---", "{}", "null"} and not line.lstrip().startswith("#") for line in lines)


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
        merged = vendor.KubeConfigMerger(paths).config
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
