"""Secrets in a directory: ``DIR/<namespace>/<secret>/<key>``, swapped atomically as the kubelet does.

Each Secret is a directory of its own::

    ..2026_11_24_07_49_25.1f0c…/   one generation: the values, and ``..annotations.json``
    ..data -> ..2026_11_24_…       the present generation; renaming this link is the publication
    credentials -> ..data/credentials

Owns that layout and its locking. A reader that follows the links sees one whole generation; older ones stay for a
while, for readers on their way through the links. Links of new keys come before the swap, where
the kubelet makes them after it: it repairs its work within a minute, and we may be killed and come back in an hour.
Source: Kubernetes, ``pkg/volume/util/atomic_writer.go``.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
import stat
from itertools import pairwise
from typing import TYPE_CHECKING, cast

from credrotator.core.errors import Conflict, Denied, PolicyError, RotationError, Transient, printable
from credrotator.core.secret_document import SecretDocument, StoredSecret
from credrotator.core.secretdata import show_time
from credrotator.core.sensitive import Sensitive
from credrotator.files.atomic import (
    PRIVATE,
    Access,
    create_file,
    locked,
    make_symlink,
    open_directory,
    read_file,
    replace_file,
    storage_errors,
    synchronize,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from credrotator.core.model import ObjectKey
    from credrotator.core.outcome_shape import LastOutcome
    from credrotator.core.ports import Clock

DATA = "..data"
ANNOTATIONS = "..annotations.json"
LOCK = "..lock"
OUTCOMES = ".credrotator"
"""No namespace begins with a dot, so this directory is nobody's."""
TRIAL = ".credrotator-check-"
# NAME_MAX of Linux' file systems, in bytes.
_LONGEST_NAME = 255
_LEAST_FREE_BYTES = 2**20
"""A credential takes 12 KiB and two blocks; with less than this a file system is as good as full."""
# A reader needs microseconds and a writer milliseconds, so a second try is rare already.
_READ_TRIES = 20
_READER_S = 0.5
"""How long a reader may need from the link to the file, on a busy machine."""


class DirectoryStore:
    """A SecretStore on the file system; several processes may use one directory.

    Args:
        root: Made (0700) when the first thing is written.
        clock: Names generations and outcomes.
        durable: Whether a publication is on the disk before ``publish`` returns; off, only a power cut can tell.
        access: Who else may read it, and write beside it.
    """

    def __init__(self, root: Path, clock: Clock, *, durable: bool = True, access: Access = PRIVATE) -> None:
        self._root = root
        self._clock = clock
        self._durable = durable
        self.access = access

    @property
    def root(self) -> Path:
        """Return the directory."""
        return self._root

    def read(self, key: ObjectKey) -> StoredSecret | None:
        """See ``ports.SecretStore``; a Secret that was never published, or is half made, is None."""
        path = self.path(key)
        failed: str | None = None
        with storage_errors(str(path), reads=True):
            for _ in range(_READ_TRIES):
                with contextlib.suppress(FileNotFoundError), self._open(key) as secret:
                    return _read_generation(secret, key, path, self.access)
                current = self._version(key)
                if current is None:
                    return None
                if current == failed:  # no writer was quicker than we were: the generation is gone for good
                    return StoredSecret(SecretDocument(key, {}, {}), current)
                failed = current
        raise Transient("StorageBusy", f"{path} changes too fast to be read", hint="see who writes there all the time")

    def _version(self, key: ObjectKey) -> str | None:
        with contextlib.suppress(FileNotFoundError), self._open(key) as secret:
            return _current(secret, self.path(key))
        return None

    def publish(self, document: SecretDocument, expected: str | None) -> None:
        """See ``ports.SecretStore``; the version is the generation's name."""
        path = self.path(document.key)
        with storage_errors(str(path)):
            self._make_root()
            # Per Secret, not for the directory: a process that hangs on one must not keep all others waiting.
            with self._open(document.key, create=True) as secret, locked(secret, LOCK, path):
                current = _current(secret, path)
                # Under the lock: a version that was compared before it could have been replaced since.
                if current != expected:
                    raise Conflict(f"{document.key} is at {current} by now")
                generation = self._write_generation(secret, document)
                with _undone(secret, generation, path):
                    _link_keys(secret, document.data)
                    self._swap(secret, generation)
                # After the swap: until then, readers of the present generation need them.
                _unlink_other_keys(secret, document.data)
                _remove_generations(secret, generation, current)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other processes, and other threads, that ask for the same out of the block.

        Raises:
            RotationError: The lock cannot be had.
        """
        path = self._root / OUTCOMES
        with storage_errors(str(path)):
            self._make_root()
            with self._open_outcomes(create=True) as directory, locked(directory, LOCK, path):
                yield

    @contextlib.contextmanager
    def renewing(self, key: ObjectKey) -> Iterator[None]:
        """Let one process at a time renew a Secret; a daemon does not ask, its writes are safe all the same.

        Raises:
            RotationError: The lock cannot be had.
        """
        path = self._root / OUTCOMES / _plain(key.namespace)
        with storage_errors(str(path)):
            self._make_root()
            with (
                self._open_outcomes(create=True) as outcomes,
                self._inside(outcomes, key.namespace, create=True, shown=path) as namespace,
                # Apart from the outcomes, whose names end with json.
                locked(namespace, f"..{_plain(key.name)}", path),
            ):
                yield

    def examine(self, key: ObjectKey) -> str:
        """Take the steps of a publication in a directory of its own, which is removed; return what was looked at.

        Raises:
            RotationError: It could not: ownership, modes, a full or read-only file system, what stands there.
        """
        path = self.path(key)
        with storage_errors(str(path)):
            with contextlib.suppress(FileNotFoundError), self._open(key) as secret:
                _current(secret, path)
            nearest = next(each for each in (path, *path.parents) if each.exists())
            # Above the root nothing is ours: other people's directories may have any mode.
            made = nearest == self._root or self._root in nearest.parents
            if made:
                with open_directory(nearest, access=self.access):
                    pass
            # effective_ids, where the system has it: a set-uid start would else be judged by the real user.
            if not os.access(nearest, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
            file_system = os.statvfs(nearest)
            if file_system.f_flag & os.ST_RDONLY:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            free_bytes = file_system.f_bavail * file_system.f_frsize
            if free_bytes < _LEAST_FREE_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._rehearse(nearest)
        what = f"{self._root} can be written to" if made else f"{self._root} can be made in {nearest.absolute()}"
        return f"{what}, {free_bytes // 2**20} MiB free"

    def _rehearse(self, nearest: Path) -> None:
        """Try what a publication needs of the file system; not all of it can be asked for."""
        parent = os.open(nearest, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        name = f"{TRIAL}{secrets.token_hex(6)}"
        try:
            with open_directory(name, inside=parent, create=True, shown=nearest / name, access=self.access) as trial:
                create_file(trial, ANNOTATIONS, b"{}", durable=self._durable, access=self.access)
                with locked(trial, LOCK, nearest):
                    self._swap(trial, ANNOTATIONS)
        finally:
            _remove_tree(parent, name)
            os.close(parent)

    def record(self, outcome: Mapping[str, object], policy: ObjectKey) -> None:
        """Keep how the last pass ended for a policy, for ``status``; not to be able to is no failure of the pass."""
        content = json.dumps({"at": show_time(self._clock()), **outcome}, indent=1).encode() + b"\n"
        with contextlib.suppress(RotationError, OSError):
            self._make_root()
            with (
                self._open_outcomes(create=True) as outcomes,
                self._inside(outcomes, _plain(policy.namespace), create=True) as namespace,
            ):
                replace_file(namespace, f"{_plain(policy.name)}.json", content, durable=False, access=self.access)

    def last_outcome(self, policy: ObjectKey) -> LastOutcome | None:
        """Return what ``record`` kept, with the time under ``at``; None if nothing was, or it is damaged."""
        try:
            with (
                self._open_outcomes() as outcomes,
                self._inside(outcomes, _plain(policy.namespace)) as namespace,
            ):
                document = json.loads(read_file(namespace, f"{_plain(policy.name)}.json") or b"")
        except (RotationError, OSError, ValueError):
            return None
        return cast("LastOutcome", document) if isinstance(document, dict) else None

    def note(self, name: str, document: Mapping[str, object]) -> None:
        """See ``hooks.Journal``: beside the outcomes."""
        with contextlib.suppress(RotationError, OSError):
            self._make_root()
            with self._open_outcomes(create=True) as outcomes:
                content = json.dumps(document, indent=1).encode() + b"\n"
                replace_file(outcomes, f"..{_plain(name)}.json", content, durable=False, access=self.access)

    def noted(self, name: str) -> dict[str, object]:
        """See ``hooks.Journal``."""
        try:
            with self._open_outcomes() as outcomes:
                document = json.loads(read_file(outcomes, f"..{_plain(name)}.json") or b"{}")
        except (RotationError, OSError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}

    def path(self, key: ObjectKey) -> Path:
        """Return where a Secret is.

        Raises:
            PolicyError: It has no name that could be one of a file.
        """
        return self._root / _plain(key.namespace) / _plain(key.name)

    def _make_root(self) -> None:
        """NOTE: not by the way, as a parent of something else: it would get the mode of the umask, 0775 often."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextlib.contextmanager
    def _open_root(self, *, create: bool) -> Iterator[int]:
        with open_directory(self._root, access=self.access) as root:
            if create:
                self.access.share_directory(root)
            yield root

    def _inside(
        self, parent: int, name: str, *, create: bool = False, shown: object = None
    ) -> AbstractContextManager[int]:
        return open_directory(name, inside=parent, create=create, shown=shown, access=self.access)

    @contextlib.contextmanager
    def _open(self, key: ObjectKey, *, create: bool = False) -> Iterator[int]:
        path = self.path(key)
        with (
            self._open_root(create=create) as root,
            self._inside(root, key.namespace, create=create, shown=path.parent) as namespace,
            self._inside(namespace, key.name, create=create, shown=path) as secret,
        ):
            yield secret

    @contextlib.contextmanager
    def _open_outcomes(self, *, create: bool = False) -> Iterator[int]:
        shown = self._root / OUTCOMES
        with (
            self._open_root(create=create) as root,
            self._inside(root, OUTCOMES, create=create, shown=shown) as outcomes,
        ):
            yield outcomes

    def _write_generation(self, secret: int, document: SecretDocument) -> str:
        # The kubelet's form; two dots keep it out of what readers take for keys.
        name = f"..{self._clock():%Y_%m_%d_%H_%M_%S}.{secrets.token_hex(5)}"
        files = {_plain(key): value.reveal().encode() for key, value in document.data.items()}
        # Among the values, in the same generation: an expiry must never stand beside another credential's data.
        files[ANNOTATIONS] = json.dumps(dict(document.annotations), indent=1, sort_keys=True).encode() + b"\n"
        try:
            os.mkdir(name, 0o700, dir_fd=secret)
            with self._inside(secret, name) as generation:
                self.access.share_directory(generation)
                for file, content in files.items():
                    create_file(generation, file, content, durable=self._durable, access=self.access)
                if self._durable:
                    synchronize(generation)
        except BaseException:
            _remove_tree(secret, name)
            raise
        return name

    def _swap(self, secret: int, generation: str) -> None:
        # One rename of one link is the whole publication: readers have all of the old generation before it, all of the
        # new after.
        _replace_link(secret, DATA, generation)
        if self._durable:
            synchronize(secret)


@contextlib.contextmanager
def _undone(secret: int, generation: str, path: Path) -> Iterator[None]:
    """Remove a generation that does not become the present one: it holds a credential, and each try makes another."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(RotationError, OSError):
            if _current(secret, path) != generation:
                _remove_tree(secret, generation)
        raise


def _plain(name: str) -> str:
    """Return a name that leads to no other place than a name should; manifests come from many hands."""
    if not name or name.startswith(".") or "/" in name or "\0" in name or len(name.encode()) > _LONGEST_NAME:
        hint = "use a name that Kubernetes would accept, of at most 253 letters, digits, - and ."
        raise PolicyError("InvalidName", f"{printable(name, 80)!r} cannot be the name of a file", hint=hint)
    return name


def _current(secret: int, shown: object) -> str | None:
    """Return the name of the present generation, None if there is none."""
    try:
        status = os.stat(DATA, dir_fd=secret, follow_symlinks=False)
    except FileNotFoundError:
        return None
    current = os.readlink(DATA, dir_fd=secret) if stat.S_ISLNK(status.st_mode) else None
    # A link that leads out of the directory would have us read, and later remove, what is not ours.
    if current is None or "/" in current or not current.startswith("..") or current in {"..", DATA, LOCK}:
        message = f"{shown}/{DATA} is not a link to a generation beside it"
        raise Denied("UnsafePath", message, hint=f"see who put it there, then remove {shown}")
    return current


def _read_generation(secret: int, key: ObjectKey, path: Path, access: Access) -> StoredSecret | None:
    """Read the present generation; FileNotFoundError when it went away meanwhile (read again)."""
    current = _current(secret, path)
    if current is None:
        return None
    with open_directory(current, inside=secret, shown=path / current, access=access) as generation:
        names = [name for name in os.listdir(generation) if not name.startswith("..") and _leads_to_data(secret, name)]
        values = {name: _text(read_file(generation, name)) for name in names}
        annotations = _annotations(read_file(generation, ANNOTATIONS))
    if _current(secret, path) != current:
        raise FileNotFoundError(current)  # it may have been emptied while we read
    data = {name: Sensitive(value) for name, value in values.items()}
    return StoredSecret(SecretDocument(key, data, annotations), current)


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode(errors="replace")


def _annotations(raw: bytes | None) -> dict[str, str]:
    """A damaged file counts as an absent one: planning then finds the Secret unreadable and repairs it."""
    try:
        notes = json.loads(raw or b"{}")
    except ValueError:
        return {}
    return {str(name): str(value) for name, value in notes.items()} if isinstance(notes, dict) else {}


def _leads_to_data(secret: int, name: str) -> bool:
    """Tell whether readers find a key: one without its link is as good as missing, and then gets repaired."""
    try:
        return os.readlink(name, dir_fd=secret) == f"{DATA}/{name}"
    except OSError:
        return False


def _replace_link(secret: int, name: str, target: str) -> None:
    temporary = f"..{secrets.token_hex(5)}.tmp"
    make_symlink(secret, temporary, target)
    try:
        os.rename(temporary, name, src_dir_fd=secret, dst_dir_fd=secret)
    except BaseException:
        _remove_tree(secret, temporary)
        raise


def _link_keys(secret: int, keys: Iterable[str]) -> None:
    for name in keys:
        if not _leads_to_data(secret, name):
            _replace_link(secret, name, f"{DATA}/{name}")


def _unlink_other_keys(secret: int, keys: Collection[str]) -> None:
    """Remove the links of keys that are no more; whatever else a person keeps there is theirs."""
    for name in os.listdir(secret):
        if not name.startswith("..") and name not in keys and _leads_to_data(secret, name):
            os.unlink(name, dir_fd=secret)


def _remove_generations(secret: int, generation: str, before: str | None) -> None:
    """Remove what no reader can be in any more: the generation before stays, others some time after their successor.

    A reader may be held up between the link and what it leads to; two publications within that time are no reason to
    let it find nothing. Leftovers of a crash are removed likewise. The times are the file system's own.
    """
    names = [name for name in os.listdir(secret) if name.startswith("..") and name not in {DATA, LOCK}]
    made_s = {name: os.stat(name, dir_fd=secret, follow_symlinks=False).st_mtime for name in names}
    for name, successor in pairwise(sorted(names, key=made_s.__getitem__)):
        if name not in {generation, before} and abs(made_s[generation] - made_s[successor]) > _READER_S:
            _remove_tree(secret, name)


def _remove_tree(directory: int, name: str) -> None:
    with contextlib.suppress(OSError):
        if stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=directory)
        else:
            shutil.rmtree(name, dir_fd=directory)
