"""One context of a kubeconfig.

Owns which files are read and by whom, and as whom the server takes us. Must not connect. Source: client-go,
``tools/clientcmd`` and ``transport.NewImpersonatingRoundTripper``.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from credrotator.core.errors import printable
from credrotator.kube.client.api_errors import ConfigurationError
from credrotator.kube.client.authorization import BearerTokenFile
from credrotator.kube.client.plain_kubeconfig import read_plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credrotator.core.sensitive import Sensitive
    from credrotator.kube.client.authorization import HeaderSource
    from credrotator.kube.client.kubeconfig_context import LoadedContext, User

_LEGAL = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") - {"%"}
"""Characters of a header's name (RFC 9110 §5.6.2) that need no escape there."""
_LIMIT_BYTES = 4 * 2**20


class Kubeconfig:
    """One context of the merged files."""

    def __init__(self, paths: str, context: str | None) -> None:
        self._paths, self._context = paths, context
        self.loaded = _load(paths, context)

    def token_source(self) -> HeaderSource:
        """Return where the Authorization header comes from."""
        # A file wins over a literal, as in client-go.
        if named := self.loaded.user.get("tokenFile"):
            return BearerTokenFile(self.loaded.folder / named)
        return self

    def read(self, *, afresh: bool) -> Sensitive | None:
        """Return the header."""
        if afresh:
            self.loaded = _load(self._paths, self._context)
        return self.loaded.header()

    def impersonation(self) -> tuple[tuple[str, str], ...]:
        """Return the headers by which the server takes us for somebody else (``as`` and its companions).

        Raises:
            ConfigurationError: They cannot be sent as they are; without one of them others' rights would count.
        """
        headers = tuple(_impersonation(self.loaded.user))
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


def _load(paths: str, context: str | None) -> LoadedContext:
    if plain := read_plain(paths, context):
        return plain
    from credrotator.kube.client.vendor_kubeconfig import load_by_vendor  # noqa: PLC0415 - slow; see there

    return load_by_vendor(paths, context)
