"""Policies for the daemon from manifests that may change while it runs, looked at every few seconds.

A PolicySource over ``manifests.py``. Polling, not inotify: it works on every file system, a mounted ConfigMap included,
and a few seconds do not matter here.
"""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

from credrotator.core.errors import UsageError, printable
from credrotator.core.threads import dead
from credrotator.files.last_good import FileState, LastGoodFiles, file_state
from credrotator.files.manifests import DEFAULT_OPTIONS, ManifestOptions, sort_manifests
from credrotator.files.published_states import published_states
from credrotator.policies.inventory import Inventory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from credrotator.core.model import InvalidPolicy, ObjectKey, Policy
    from credrotator.core.ports import SecretReader, SecretStore
    from credrotator.policies.managed import FormReader

log = logging.getLogger(__name__)

# Below the kubelet's own delay for a ConfigMap (up to a minute), and quick enough for who edits a file and looks.
POLL = timedelta(seconds=2)

_Signature = tuple["Mapping[str, FileState | None]", "tuple[FileState | None, ...]"]


class ManifestSource:
    """Policies from files and directories; standard input cannot be looked at twice and is refused."""

    def __init__(
        self,
        names: Sequence[str],
        policies: FormReader,
        store: SecretStore,
        poll: timedelta = POLL,
        *,
        options: ManifestOptions = DEFAULT_OPTIONS,
    ) -> None:
        if "-" in names:
            raise UsageError("run watches its manifests, so -f - is not possible; name files or directories")
        self._reader = policies
        self._published = published_states(store)
        self._options = options
        self._files = LastGoodFiles(names, policies, options)
        self._further: list[Path] = []
        self._poll_s = poll.total_seconds()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._changed: Callable[[ObjectKey], None] = lambda _: None
        self._seen: object = None
        self._versions: dict[ObjectKey, object] = {}
        self._trouble: str | None = "the manifests are not read yet"
        self._reported: dict[str, str] = {}
        self.inventory = Inventory()

    def start(self, changed: Callable[[ObjectKey], None]) -> None:
        """See ``ports.PolicySource``; the first reading is done when this returns.

        Raises:
            UsageError: A named file is not there, or the only one cannot be read.
        """
        self._changed = changed
        self._read(self._signature())
        self._thread = threading.Thread(target=self._watch, name="manifests", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """See ``ports.PolicySource``."""
        self._stopping.set()
        if self._thread:
            self._thread.join()

    def get(self, key: ObjectKey) -> Policy | InvalidPolicy | None:
        """See ``ports.PolicySource``."""
        inventory = self.inventory
        return inventory.policies.get(key) or inventory.invalid.get(key)

    def policies(self) -> Iterable[ObjectKey]:
        """See ``ports.PolicySource``."""
        return _keys(self.inventory)

    def reader(self, key: ObjectKey) -> SecretReader:
        """See ``ports.PolicySource``."""
        return self.inventory.reader(key)

    def trouble(self) -> str | None:
        """See ``ports.PolicySource``."""
        return self._trouble or self._files.trouble()

    def dead(self) -> list[str]:
        """Name its thread if that has ended though it was not stopped."""
        return [] if self._stopping.is_set() else dead((self._thread,))

    def unreadable(self) -> int:
        """Count the files of which an earlier reading stays in force, or none is there; 1 where none can be listed."""
        return max(len(self._files.amiss), int(self._trouble is not None))

    def _watch(self) -> None:
        while not self._stopping.wait(self._poll_s):
            try:
                if (signature := self._signature()) != self._seen:
                    self._read(signature)
                # Also where no file has changed: a directory may not be listed any more, or again.
                self._report_amiss()
                self._trouble = None
                self._check_store()
            except UsageError as error:
                # A file that is being replaced may be away for a moment: what was read last stays in force.
                if self._trouble != str(error):
                    log.warning("%s; the policies stay as they were", error)
                self._trouble = str(error)
            except Exception:
                # The thread's outermost loop: without it no edit would ever be heard of again.
                log.exception("reading the manifests failed; the policies stay as they were")
                self._trouble = "reading the manifests failed; see the log"

    def _signature(self) -> _Signature:
        """Name every file with its state; a change of any of them is a reason to read.

        Files that Secrets are filled from count as well; one that is not there yet has none.
        """
        return self._files.states(), tuple(file_state(str(file)) for file in self._further)

    def _read(self, signature: _Signature) -> None:
        reading = sort_manifests(self._files.read(signature[0]), self._reader, self._options)
        self._report_amiss()
        for problem in (*reading.problems, *reading.warnings):
            log.warning("%s", problem)
        for note in reading.notes:
            log.info("%s", note)
        # Replaced as a whole, in one step: readers in other threads have the old one or the new one, never half of
        # each.
        old, self.inventory = self.inventory, reading.inventory
        self._seen, self._trouble = signature, None
        # Files that annotations of Secrets name (``substitution``): a change in one of them is a change of the
        # manifests.
        if set(reading.files) != set(self._further):
            self._further, self._seen = reading.files, None  # their states are part of the next look
        self._note_published()
        for key in sorted(_keys(old) | _keys(self.inventory)):
            # Secrets are compared as a whole: who refers to which is not kept, and a needless attempt only finds all
            # fresh.
            if _facts(old, key) != _facts(self.inventory, key) or old.secrets != self.inventory.secrets:
                self._changed(key)

    def _report_amiss(self) -> None:
        """Log what is amiss with a file or directory, once."""
        for file, why in self._files.amiss.items():
            if self._reported.get(file) != why:
                log.warning("%s", why)
        for file in self._reported.keys() - self._files.amiss.keys():
            log.info("%s is readable again", printable(file))
        self._reported = dict(self._files.amiss)

    def _note_published(self) -> None:
        """Take note of what is there before policies are looked at: an edit may come right after."""
        secrets = {key: secret for key, secret in self._secrets().items() if key not in self._versions}
        states = self._published.states(secrets.values())
        self._versions |= {key: state for key, secret in secrets.items() if (state := states.get(secret)) is not None}

    def _secrets(self) -> dict[ObjectKey, ObjectKey]:
        return {policy.key: policy.secret for policy in self.inventory.policies.values() if policy.secret}

    def _check_store(self) -> None:
        """Notice a published Secret that somebody removed, replaced or edited."""
        secrets = self._secrets()
        states = self._published.states(secrets.values())
        # What cannot be looked at is not taken for changed.
        versions = {key: states.get(secret, self._versions.get(key)) for key, secret in secrets.items()}
        before, self._versions = self._versions, versions
        for key, version in versions.items():
            if before.get(key, version) != version and not self._published.is_own(secrets[key], version):
                self._changed(key)


def _keys(inventory: Inventory) -> set[ObjectKey]:
    return {*inventory.policies, *inventory.invalid}


def _facts(inventory: Inventory, key: ObjectKey) -> object:
    return inventory.policies.get(key) or inventory.invalid.get(key)
