"""Files of manifests that change: of each the last reading in which nothing was lost stays in force.

Owns what was read of each file, and what is amiss with it by now. A slip of the pen must not take policies away: who
deletes one deletes its document, or its file. Source: reliability.md, 67.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from credrotator.core.errors import UsageError, printable
from credrotator.files.bounded import UnreadableError
from credrotator.files.manifest_files import ManifestFile, is_required, read_manifest_file
from credrotator.files.manifest_names import list_manifests
from credrotator.files.manifests import ManifestOptions, sort_manifests

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from credrotator.policies.managed import FormReader


STAYS, UNREAD = "what was read of it before stays in force", "nothing of it is in force"
FileState = tuple[int, int, int, int]
"""Times of modification and of change in ns, size in bytes, inode; a write that spares some of them moves others."""


def file_state(path: str) -> FileState | None:
    """Return the state of a file, or of what a link leads to; None if there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - thousands of these, every few seconds
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


class LastGoodFiles:
    """The files that some names stand for.

    Args:
        names: Files and directories.
        policies: Reads policies; what it cannot even name is lost.
        options: How manifests are read.

    """

    def __init__(self, names: Sequence[str], policies: FormReader, options: ManifestOptions) -> None:
        self._names = names
        self._policies = policies
        self._options = options
        self._directories: set[str] = set()
        self._states: dict[str, FileState | None] = {}
        self._files: dict[str, ManifestFile] = {}
        self._amiss: dict[str, str] = {}
        self._unlisted: dict[str, str] = {}

    @property
    def amiss(self) -> Mapping[str, str]:
        """What is wrong with a file or directory whose last good reading is in force, or that has none, by its name."""
        return {**self._unlisted, **self._amiss}

    def states(self) -> Mapping[str, FileState | None]:
        """Return all files in order, with their states as they are now.

        Raises:
            UsageError: A directory is not there, or holds no manifest; or, at first, a required one cannot be read.
        """
        self._unlisted = {}
        return {file: file_state(file) for file in self._list()}

    def read(self, states: Mapping[str, FileState | None]) -> Iterable[ManifestFile]:
        """Read the files that have changed, and return what is in force of all.

        Args:
            states: Of all files.

        Raises:
            UsageError: A required file cannot be read at the very first reading.
        """
        is_first = not self._states
        # Gone as a file, which is meant; a document that is gone from a file which can be read is meant as well.
        for file in self._files.keys() - states.keys():
            del self._files[file]
        self._amiss = {file: why for file, why in self._amiss.items() if file in states}
        for file, state in states.items():
            # Ten thousand files are looked at every two seconds, and parsed only when something moved.
            if state is None or state != self._states.get(file):
                self._read(file, is_first=is_first)
        self._states = dict(states)
        return [self._files[file] for file in states if file in self._files]

    def _read(self, file: str, *, is_first: bool) -> None:
        # At the start somebody watches, and a wrong name is better said at once than in a log.
        reading = read_manifest_file(Path(file), self._names if is_first else ())
        lost = sort_manifests([reading], self._policies, self._options).lost
        if lost:
            # What can be read of one that was never whole is better than nothing.
            if file not in self._files or self._files[file].is_unread:
                self._files[file] = reading
            # A message begins with the place within the file.
            self._amiss[file] = f"{lost[0]}; {UNREAD if self._files[file].is_unread else STAYS}"
        else:
            self._amiss.pop(file, None)
            self._files[file] = reading

    def _list(self) -> Iterable[str]:
        for name in self._names:
            listing = list_manifests(Path(name), recursive=self._options.recursive)
            files = [str(file) for file in listing.files]
            if files == [str(Path(name))] and name in self._directories:
                raise UsageError(f"cannot read {printable(name)}: it was a directory, and is away")
            if files and files != [str(Path(name))]:
                self._directories.add(name)
            yield from files
            for directory, why in listing.unlisted.items():
                yield from self._unlistable(directory, why)

    def _unlistable(self, directory: Path, why: str) -> Iterable[str]:
        """Note it, and return the files that were in it: nobody has deleted them."""
        if not self._states and is_required(directory, self._names):
            raise UnreadableError(printable(directory), why)
        known = [file for file in self._states if Path(file).is_relative_to(directory)]
        self._unlisted[str(directory)] = f"{printable(directory)}: cannot be read: {why}; {STAYS if known else UNREAD}"
        return known

    def trouble(self) -> str | None:
        """Say what is amiss, None if nothing is."""
        sentences = list(self.amiss.values())
        if not sentences:
            return None
        return sentences[0] + (f" (and {len(sentences) - 1} more)" if len(sentences) > 1 else "")
