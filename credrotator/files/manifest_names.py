"""Which files a ``-f`` stands for, in kubectl's manner, and which it passes over.

Owns the names only; nothing is opened. Links to directories below the named one are not followed: they may lead in a
circle, and in a mounted ConfigMap to the same files again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from credrotator.core.errors import UsageError, printable

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = (".json", ".yaml", ".yml")
_NAMED = 5


@dataclass
class Listing:
    """Files in order, and what was passed over, as sentences."""

    files: list[Path] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)


def list_manifests(path: Path, *, recursive: bool) -> Listing:
    """List the file itself, or a directory's manifests, sorted; those of its directories only where ``recursive``.

    Raises:
        UsageError: There is no manifest, or a directory cannot be read.
    """
    listing = Listing()
    try:
        # A file that is named is read whatever its name ends in, as kubectl does.
        if not path.is_dir():
            return Listing([path])
        todo = [path]
        while todo:
            todo += _list_one(todo.pop(0), listing, recursive=recursive)
    except OSError as error:
        raise UsageError(f"cannot read {printable(error.filename or path)}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"cannot read {printable(path)}: it is no name of a file") from error
    if not listing.files:
        also = "".join(f"; {sentence}" for sentence in listing.passed_over[:1])
        raise UsageError(f"no manifest in {printable(path)}: it holds no file that ends in {', '.join(SUFFIXES)}{also}")
    return listing


def _list_one(directory: Path, listing: Listing, *, recursive: bool) -> list[Path]:
    """Sort what a directory holds; return the directories in it that are to be listed too."""
    # NOTE: not iterdir, which has each entry looked at again: a daemon lists thousands every few seconds.
    with os.scandir(directory) as scan:
        kinds = sorted((entry.name, entry.is_dir()) for entry in scan)
    folders = [directory / name for name, is_dir in kinds if is_dir]
    names = [name for name, is_dir in kinds if not is_dir]
    # As pathlib has it: a name that only begins with a dot has no suffix.
    listing.files += [directory / name for name in names if name.endswith(SUFFIXES) and name not in SUFFIXES]
    others = [directory / name for name in names if not name.endswith(SUFFIXES) or name in SUFFIXES]
    # Hidden directories are the kubelet's generations, Git's, and the like.
    folders = [folder for folder in folders if not folder.name.startswith(".")]
    inner = [folder for folder in folders if not folder.is_symlink()] if recursive else []
    passed = [folder for folder in folders if folder not in inner]
    _note(directory, [entry for entry in others if not entry.name.startswith(".")], f"not {_or(SUFFIXES)}", listing)
    _note(directory, passed, "a link to a directory" if recursive else "a directory; -R reads it too", listing)
    return inner


def _note(directory: Path, passed: list[Path], why: str, listing: Listing) -> None:
    if passed:
        more = f" and {len(passed) - _NAMED} more" if len(passed) > _NAMED else ""
        names = ", ".join(printable(entry.name, 80) for entry in passed[:_NAMED])
        listing.passed_over.append(f"{printable(directory)}: passed over {names}{more} ({why})")


def _or(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
