"""A context of a kubeconfig that has nothing in it to be run: addresses, certificates, a token.

Read here, since the vendor's loader imports every way to log in that it knows of, most of which are gone from kubectl:
0.4 s of CPU and 14 MiB for each command. Whatever is not as kubectl itself writes it is left to that loader, and so
are its words. Of several files the first counts for each name, and for the current context. Must not connect.
Source: client-go, ``tools/clientcmd``.
"""

from __future__ import annotations

import base64
import os
import stat
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from credrotator.core.sensitive import Sensitive
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
    tls_files = partial(_tls_files, cluster, user)
    # Tried at once: a file that is missing, or data that is none, is for the other loader to tell.
    with tls_files():
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
        tls_files=tls_files,
    )


def _content(path: Path) -> dict[str, Any]:
    """Read a file; one that can be read only once is left as it is."""
    if not stat.S_ISREG(path.stat().st_mode):
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


@contextmanager
def _tls_files(cluster: _Entry, user: _Entry) -> Iterator[TlsFiles]:
    """Have data that stands in the kubeconfig in files, which is the only way to load a key, while they are read."""
    with tempfile.TemporaryDirectory(prefix="credrotator-") as scratch:
        yield TlsFiles(
            _file(cluster, "certificate-authority", Path(scratch)),
            _file(user, "client-certificate", Path(scratch)),
            _file(user, "client-key", Path(scratch)),
        )


def _file(entry: _Entry, name: str, scratch: Path) -> str | None:
    content: Mapping[str, str] = entry.content
    # Data wins over a file, as in client-go.
    if data := content.get(f"{name}-data"):
        path = scratch / name
        path.write_bytes(base64.b64decode(data, validate=True))
        return str(path)
    return _file_named(entry, name)


def _file_named(entry: _Entry, name: str) -> str | None:
    named = entry.content.get(name)
    if not named:
        return None
    path: Path = entry.folder / named
    if not path.is_file():
        raise _NotPlain
    return str(path)
