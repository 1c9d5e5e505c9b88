"""Files of manifests as documents: files, directories, standard input.

Owns what happens to one that cannot be read: beside others it is a document that says so, and the rest goes on. Must
not know what a document means.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from credrotator.core.errors import UsageError, printable
from credrotator.files.bounded import MIB, UnreadableError, file_mode, read_text
from credrotator.files.manifest_names import list_manifests
from credrotator.policies.documents import read_documents

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LIMIT_BYTES = 64 * MIB
"""Size of a file of manifests, and of standard input; ten thousand policies in JSON are half of it."""
STDIN = "stdin"


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A file's documents, each with the line that it begins in; ``origin`` is how messages call the file.

    A line of 0 is none: what cannot be read is a directory, or standard input.
    """

    origin: str
    documents: tuple[tuple[int, object], ...]

    @property
    def is_unread(self) -> bool:
        """Whether nothing of it could be read."""
        return any(isinstance(document, UnreadDocument) for _, document in self.documents)


@dataclass(frozen=True, slots=True)
class UnreadDocument:
    """What stands in the place of a file's documents if it cannot be read, and why it cannot."""

    why: str


def read_named(names: Sequence[str], stdin: TextIO, notes: list[str], *, recursive: bool) -> Iterator[ManifestFile]:
    """Read all that names stand for (``-``: standard input); what was passed over is added to ``notes``.

    Raises:
        UsageError: A name leads nowhere, or the only one cannot be read.
    """
    for name in names:
        if name == "-":
            yield _read_standard_input(stdin, required=len(names) == 1)
            continue
        # kubectl fetches such a name. Here it would be one more way for credentials' settings to come from the network.
        if "://" in name:
            raise UsageError(f"cannot read {printable(name)}: it is a URL; feed what is there to -f -")
        listing = list_manifests(Path(name), recursive=recursive)
        notes += listing.passed_over
        for directory, why in listing.unlisted.items():
            if is_required(directory, names):
                raise UnreadableError(printable(directory), why)
            yield _unread(printable(directory), why)
        for file in listing.files:
            yield read_manifest_file(file, names)


def is_required(path: Path, names: Sequence[str]) -> bool:
    """Tell whether nothing can be done without a file or directory: the only one that is named, or one that is away.

    A wrong name on the command line is better said at once. A file that somebody is at work on, beside others that are
    well, must not stop them.
    """
    if str(path) not in {str(Path(name)) for name in names}:
        return False
    return len(names) == 1 or _is_away(path)


def _is_away(path: Path) -> bool:
    try:
        return file_mode(path) is None
    except UsageError:
        return False  # it may well be there, behind a directory that may not be entered


def read_manifest_file(path: Path, required: Sequence[str] = ()) -> ManifestFile:
    """Read one file.

    Args:
        path: The file.
        required: Names of which none may be away, see ``is_required``.

    Raises:
        UnreadableError: It is required, and cannot be read or is no text.
    """
    try:
        text = read_text(path, LIMIT_BYTES)
    except UnreadableError as error:
        if is_required(path, required):
            raise
        return _unread(printable(path), error.why, line=1)
    return ManifestFile(printable(path), tuple(read_documents(text)))


def _unread(origin: str, why: str, *, line: int = 0) -> ManifestFile:
    return ManifestFile(origin, ((line, UnreadDocument(why)),))


def _read_standard_input(stdin: TextIO, *, required: bool) -> ManifestFile:
    try:
        text = _standard_input(stdin)
    except UnreadableError as error:
        if required:
            raise
        return _unread(STDIN, error.why)
    return ManifestFile(STDIN, tuple(read_documents(text)))


def _standard_input(stdin: TextIO) -> str:
    try:
        text = stdin.read(LIMIT_BYTES + 1)
    except UnicodeDecodeError as error:
        raise UnreadableError("standard input", f"{error.reason}; it has to be UTF-8 text") from error
    except OSError as error:
        raise UnreadableError("standard input", error.strerror or str(error)) from error
    if len(text) > LIMIT_BYTES:
        raise UnreadableError("standard input", f"it is longer than {LIMIT_BYTES // MIB} MiB")
    return text
