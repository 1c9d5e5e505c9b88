"""Which files a ``-f`` stands for, in kubectl's manner, and which it passes over.

Owns the names only; nothing is opened. Links to directories below the named one are not followed: they may lead in a
circle, and in a mounted ConfigMap to the same files again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from credrotator.core.errors import UsageError, printable
from credrotator.files.bounded import UnreadableError

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = (".json", ".yaml", ".yml")
_NAMED = 5


@dataclass
class Listing:
    """Files in order.

    Attributes:
        passed_over: What was, as sentences.
        unlisted: Directories that cannot be listed, and why.
    """

    files: list[Path] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    unlisted: dict[Path, str] = field(default_factory=dict)


def list_manifests(path: Path, *, recursive: bool) -> Listing:
    """List the file itself, or a directory's manifests, sorted; those of its directories only where ``recursive``.

    Raises:
        UsageError: There is no manifest, or the path is none.
    """
    listing = Listing()
    try:
        # A file that is named is read whatever its name ends in, as kubectl does.
        if not path.is_dir():
            return Listing([path])
    except OSError as error:
        return Listing(unlisted={path: error.strerror or str(error)})
    except ValueError as error:
        raise UnreadableError(printable(path), "it is no name of a file") from error
    todo = [path]
    while todo:
        directory = todo.pop(0)
        try:
            todo += _list_one(directory, listing, recursive=recursive)
        except OSError as error:
            listing.unlisted[directory] = error.strerror or str(error)
    if not listing.files and not listing.unlisted:
        also = "".join(f"; {sentence}" for sentence in listing.passed_over[:1])
        raise UsageError(f"no manifest in {printable(path)}: it holds no file that ends in {', '.join(SUFFIXES)}{also}")
    return listing


def _list_one(directory: Path, listing: Listing, *, recursive: bool) -> list[Path]:
    """Sort what a directory holds; return the directories in it that are to be listed too."""
    # NOTE: not iterdir, which has each entry looked at again: a daemon lists thousands every few seconds.
    with os.scandir(directory) as scan:
        # What is hidden is nobody's manifest: the kubelet's generations, Git's directory, an editor's lock or copy.
        kinds = sorted((entry.name, _is_directory(entry)) for entry in scan if not entry.name.startswith("."))
    folders = [directory / name for name, is_dir in kinds if is_dir]
    names = [name for name, is_dir in kinds if not is_dir]
    listing.files += [directory / name for name in names if name.endswith(SUFFIXES)]
    others = [directory / name for name in names if not name.endswith(SUFFIXES)]
    inner = [folder for folder in folders if not folder.is_symlink()] if recursive else []
    passed = [folder for folder in folders if folder not in inner]
    _note(directory, others, f"not {_or(SUFFIXES)}", listing)
    _note(directory, passed, "a link to a directory" if recursive else "a directory; -R reads it too", listing)
    return inner


def _is_directory(entry: os.DirEntry[str]) -> bool:
    """Tell what an entry is; a link in a circle, or into where nobody may look, is found out when it is read."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _note(directory: Path, passed: list[Path], why: str, listing: Listing) -> None:
    if passed:
        more = f" and {len(passed) - _NAMED} more" if len(passed) > _NAMED else ""
        names = ", ".join(printable(entry.name, 80) for entry in passed[:_NAMED])
        listing.passed_over.append(f"{printable(directory)}: passed over {names}{more} ({why})")


def _or(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
