"""A context of a kubeconfig that has nothing in it to be run: addresses, certificates, a token.

Read here, since the vendor's loader imports every way to log in that it knows of, most of which are gone from kubectl:
0.4 s of CPU and 12 MiB for each command. Whatever is not as kubectl itself writes it is left to that loader, and so
are its words. Of several files the first counts for each name, and for the current context. Must not connect.
Source: client-go, ``tools/clientcmd``.
"""

from __future__ import annotations

import base64
import os
import tempfile
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from credrotator.core.sensitive import Sensitive
from credrotator.kube.client.api_errors import ConfigurationError
from credrotator.kube.client.kubeconfig_context import LoadedContext, TlsFiles

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_IMPERSONATION = {"as", "as-uid", "as-groups", "as-user-extra"}
_OF_CLUSTERS = {
    *("server", "certificate-authority", "certificate-authority-data", "tls-server-name", "proxy-url"),
    *("insecure-skip-tls-verify", "disable-compression", "extensions"),
}
_OF_USERS = {
    *("client-certificate", "client-certificate-data", "client-key", "client-key-data", "token", "tokenFile"),
    *_IMPERSONATION,
    "extensions",
}
_NO_TEXTS = {*_IMPERSONATION, "insecure-skip-tls-verify", "disable-compression", "extensions"}


class _NotPlain(Exception):
    """Somebody else has to read it."""


class _Entry(NamedTuple):
    """The object that an entry of a list names, and where its file lies."""

    content: dict[str, Any]
    folder: Path


def read_plain(paths: str, context: str | None) -> LoadedContext | None:
    """Return a context, None where it is not plain.

    Args:
        paths: Files that are there, joined by the system's separator.
        context: Its name; None for the current one.
    """
    try:
        return _read(paths, context)
    except (_NotPlain, OSError, ValueError, yaml.YAMLError, RecursionError):
        return None


def _read(paths: str, context: str | None) -> LoadedContext:
    files = [(Path(path), _content(Path(path))) for path in paths.split(os.pathsep)]
    name = context or next((file["current-context"] for _, file in files if file.get("current-context")), None)
    chosen = _entry(files, "contexts", "context", name, {"cluster", "user", "namespace", "extensions"})
    cluster = _entry(files, "clusters", "cluster", chosen.content.get("cluster"), _OF_CLUSTERS)
    user = _Entry({}, Path())
    if named := chosen.content.get("user"):
        user = _entry(files, "users", "user", named, _OF_USERS)
    skips = cluster.content.get("insecure-skip-tls-verify", False)
    if not isinstance(skips, bool) or not cluster.content.get("server"):
        raise _NotPlain
    # A file that is missing, or data that is none, is for the other loader to tell.
    ca, certificate, key = (
        _pem(cluster, "certificate-authority"),
        _pem(user, "client-certificate"),
        _pem(user, "client-key"),
    )
    _file_named(user, "tokenFile")
    token = user.content.get("token")
    return LoadedContext(
        server=cluster.content["server"].rstrip("/"),
        verified=not skips,
        context=chosen.content,  # type: ignore[arg-type]  # as its members were checked
        cluster=cluster.content,  # type: ignore[arg-type]
        user=user.content,  # type: ignore[arg-type]
        folder=user.folder,
        header=lambda: Sensitive(f"Bearer {token}".strip()) if token else None,
        tls_files=partial(_tls_files, ca, certificate, key),
    )


def _content(path: Path) -> dict[str, Any]:
    """Read a file; one that can be read only once is left as it is."""
    if not path.is_file():
        raise _NotPlain
    try:
        content = yaml.safe_load(path.read_bytes())
    except (LookupError, TypeError, AttributeError, OverflowError) as error:
        # The parser's accidents, with values that are none of their type.
        raise _NotPlain from error
    if not isinstance(content, dict):
        raise _NotPlain
    return content


def _entry(files: list[tuple[Path, dict[str, Any]]], plural: str, kind: str, name: object, known: set[str]) -> _Entry:
    """Return the first entry of that name."""
    if not isinstance(name, str):
        raise _NotPlain
    first: _Entry | None = None
    for path, file in files:
        entries = file.get(plural) or []
        if not isinstance(entries, list) or not all(isinstance(each, dict) and "name" in each for each in entries):
            raise _NotPlain
        same = [each for each in entries if each["name"] == name]
        if len(same) > 1:
            raise _NotPlain
        if same and first is None:
            content = same[0].get(kind)
            if not isinstance(content, dict):
                raise _NotPlain
            first = _Entry(content, path.parent)
    if first is None or not first.content.keys() <= known:
        raise _NotPlain
    if not all(isinstance(value, str) for member, value in first.content.items() if member not in _NO_TEXTS):
        raise _NotPlain
    return first


def _pem(entry: _Entry, name: str) -> bytes | str | None:
    """Return data that stands in the entry, or else the name of a file."""
    content: Mapping[str, str] = entry.content
    # Data wins over a file, as in client-go.
    data = content.get(f"{name}-data")
    return base64.b64decode(data, validate=True) if data else _file_named(entry, name)


@contextmanager
def _tls_files(*pems: bytes | str | None) -> Iterator[TlsFiles]:
    """Have data that stands in the kubeconfig in files, which is the only way to load a key, while they are read.

    Raises:
        ConfigurationError: They cannot be written.
    """
    with ExitStack() as stack:
        try:
            names = [stack.enter_context(_as_file(pem)) for pem in pems]
        except OSError as error:
            why = f"{error.strerror}; name files in it in place of data"
            raise ConfigurationError(f"the kubeconfig's certificates cannot be read by way of a file: {why}") from error
        yield TlsFiles(*names)


@contextmanager
def _as_file(pem: bytes | str | None) -> Iterator[str | None]:
    if not isinstance(pem, bytes):
        yield pem
        return
    with tempfile.TemporaryDirectory(prefix="credrotator-") as folder:
        file = Path(folder) / "pem"
        file.write_bytes(pem)
        yield str(file)


def _file_named(entry: _Entry, name: str) -> str | None:
    named = entry.content.get(name)
    if not named:
        return None
    path: Path = entry.folder / named
    if not path.is_file():
        raise _NotPlain
    return str(path)
