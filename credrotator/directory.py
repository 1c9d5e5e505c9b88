"""Secrets in a directory: ``DIR/<namespace>/<secret>/<key>``, swapped atomically as the kubelet does.

Each Secret is a directory of its own::

    ..2026_11_24_07_49_25.1f0c…/   one generation: the values, and ``..annotations.json``
    ..data -> ..2026_11_24_…       the present generation; renaming this link is the publication
    credentials -> ..data/credentials

Owns that layout and its locking. A reader that follows the links sees one whole generation; the one before stays
until the next publication, for readers on their way through the links.
Source: Kubernetes, ``pkg/volume/util/atomic_writer.go``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import stat
import time
from typing import TYPE_CHECKING, Any

from credrotator.atomic import create_file, open_directory, read_file, storage_errors, write_file
from credrotator.errors import Conflict, RotationError, Transient
from credrotator.model import ObjectKey, SecretDocument, Sensitive, StoredSecret
from credrotator.secretdata import show_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from credrotator.ports import Clock

DATA = "..data"
ANNOTATIONS = "..annotations.json"
LOCK = "..lock"
OUTCOMES = ".credrotator"
"""No namespace begins with a dot, so this directory is nobody's."""
_LOCK_TIMEOUT_S = 10
_READ_TRIES = 5


class DirectoryStore:
    """A SecretStore on the file system; several processes may use one directory."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self._root = root
        self._clock = clock

    def read(self, key: ObjectKey) -> StoredSecret | None:
        """See ``ports.SecretStore``; a Secret that was never published, or is half made, is None."""
        with storage_errors(str(self._path(key))):
            for _ in range(_READ_TRIES):
                with contextlib.suppress(FileNotFoundError), self._open(key) as secret:
                    return _read_generation(secret, key)
                if not os.path.lexists(self._path(key) / DATA):
                    break
        return None

    def publish(self, document: SecretDocument, expected: str | None) -> None:
        """See ``ports.SecretStore``; the version is the generation's name."""
        path = self._path(document.key)
        with storage_errors(str(path)):
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._open(document.key, create=True) as secret, _locked(secret, path):
                current = _current(secret)
                if current != expected:
                    raise Conflict(f"{document.key} is at {current} by now")
                generation = self._write_generation(secret, document)
                _swap(secret, generation)
                _link_keys(secret, set(document.data))
                _remove_generations(secret, keep={generation, current})

    def record(self, outcome: Mapping[str, object], policy: ObjectKey) -> None:
        """Keep how the last pass ended for a policy, for ``status``; not to be able to is no failure of the pass."""
        path = self._outcome_path(policy)
        with contextlib.suppress(RotationError, OSError):
            for directory in (self._root, self._root / OUTCOMES, path.parent):
                directory.mkdir(mode=0o700, parents=directory is self._root, exist_ok=True)
            write_file(path, json.dumps({"at": show_time(self._clock()), **outcome}, indent=1).encode() + b"\n")

    def last_outcome(self, policy: ObjectKey) -> dict[str, Any] | None:
        """Return what ``record`` kept, with the time under ``at``; None if nothing was, or it is damaged."""
        try:
            found = json.loads(self._outcome_path(policy).read_bytes())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _outcome_path(self, policy: ObjectKey) -> Path:
        return self._root / OUTCOMES / policy.namespace / f"{policy.name}.json"

    def _path(self, key: ObjectKey) -> Path:
        return self._root / key.namespace / key.name

    @contextlib.contextmanager
    def _open(self, key: ObjectKey, *, create: bool = False) -> Iterator[int]:
        with (
            open_directory(self._root) as root,
            open_directory(key.namespace, inside=root, create=create) as namespace,
            open_directory(key.name, inside=namespace, create=create) as secret,
        ):
            yield secret

    def _write_generation(self, secret: int, document: SecretDocument) -> str:
        name = f"..{self._clock():%Y_%m_%d_%H_%M_%S}.{secrets.token_hex(5)}"
        files = {key: value.reveal().encode() for key, value in document.data.items()}
        files[ANNOTATIONS] = json.dumps(dict(document.annotations), indent=1, sort_keys=True).encode() + b"\n"
        try:
            with open_directory(name, inside=secret, create=True) as generation:
                for file, content in files.items():
                    create_file(generation, file, content)
                os.fsync(generation)
        except BaseException:
            _remove_tree(secret, name)
            raise
        return name


def _current(secret: int) -> str | None:
    try:
        return os.readlink(DATA, dir_fd=secret)
    except FileNotFoundError:
        return None


def _read_generation(secret: int, key: ObjectKey) -> StoredSecret | None:
    """Read the present generation; FileNotFoundError when it went away meanwhile (read again)."""
    current = _current(secret)
    if current is None:
        return None
    with open_directory(current, inside=secret) as generation:
        names = [name for name in os.listdir(generation) if not name.startswith("..")]
        values = {name: _text(read_file(generation, name)) for name in names}
        annotations = _annotations(read_file(generation, ANNOTATIONS))
    data = {name: Sensitive(value) for name, value in values.items()}
    return StoredSecret(SecretDocument(key, data, annotations), current)


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode(errors="replace")


def _annotations(raw: bytes | None) -> dict[str, str]:
    """A damaged file counts as an absent one: planning then finds the Secret unreadable and repairs it."""
    try:
        found = json.loads(raw or b"{}")
    except ValueError:
        return {}
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def _swap(secret: int, generation: str) -> None:
    temporary = f"..data_{secrets.token_hex(5)}"
    os.symlink(generation, temporary, dir_fd=secret)
    os.rename(temporary, DATA, src_dir_fd=secret, dst_dir_fd=secret)
    os.fsync(secret)


def _link_keys(secret: int, keys: set[str]) -> None:
    present = {name for name in os.listdir(secret) if not name.startswith("..")}
    for name in keys - present:
        os.symlink(f"{DATA}/{name}", name, dir_fd=secret)
    for name in present - keys:
        os.unlink(name, dir_fd=secret)


def _remove_generations(secret: int, keep: set[str | None]) -> None:
    """Remove what no reader can be in any more; leftovers of a crash are among it (the lock is held)."""
    for name in os.listdir(secret):
        if name.startswith("..") and name not in {DATA, LOCK} and name not in keep:
            _remove_tree(secret, name)


def _remove_tree(directory: int, name: str) -> None:
    with contextlib.suppress(OSError):
        if stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=directory)
        else:
            shutil.rmtree(name, dir_fd=directory)


@contextlib.contextmanager
def _locked(secret: int, path: Path) -> Iterator[None]:
    """Hold the Secret's lock, which lasts as long as the process at most (flock(2))."""
    descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=secret)
    try:
        deadline = time.monotonic() + _LOCK_TIMEOUT_S
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                hint = "look for another credrotator that hangs on this directory"
                raise Transient("StorageBusy", f"{path} is locked by another process", hint=hint)
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
