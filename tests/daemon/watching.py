"""A directory of manifests that is watched, and how somebody edits what was published."""

from __future__ import annotations

import os
import shutil
from datetime import timedelta
from typing import TYPE_CHECKING

import yaml

from credrotator.core.model import ObjectKey, SecretKeyRef
from credrotator.files.manifest_source import ManifestSource
from credrotator.policies.reader import Defaults
from credrotator.providers import policy_reader
from tests.support.manifests import secret
from tests.support.twins import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path

A, B = ObjectKey("default", "a"), ObjectKey("default", "b")
PUBLISHED = ObjectKey("default", "ai-eg-bsp-a")
POLL = timedelta(seconds=0.02)


class Watching:
    """A source over a directory, and what it reported."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "policies"
        self.directory.mkdir()
        self.store = MemoryStore()
        self.told: list[ObjectKey] = []
        self.source = ManifestSource([str(self.directory)], policy_reader(Defaults()), self.store, POLL)

    def write(self, name: str, *manifests: object) -> None:
        """Write a file, and make sure that it looks different."""
        path = self.directory / name
        path.write_text(yaml.safe_dump_all(manifests))
        stamp = path.stat().st_mtime_ns + 1_000_000 * len(self.told)
        os.utime(path, ns=(stamp, stamp))

    def start(self) -> None:
        self.source.start(self.told.append)

    def client_secret(self) -> str:
        """Read the policy's client secret as an exchange does."""
        ref = SecretKeyRef(ObjectKey("default", "oidc-client"), "client-secret", "spec.x")
        return self.source.reader(A)(ref).reveal()


def client(value: str) -> dict[str, object]:
    """A client Secret."""
    return {"apiVersion": "v1", "kind": "Secret", **secret("oidc-client", client_secret=value)}


def edit_in_place(secret: Path) -> None:
    """Type into the file that the link leads to."""
    (secret / "credentials").write_text("typed")


def replace_the_link(secret: Path) -> None:
    """Save as most editors do: a new file takes the link's place."""
    (secret / "new").write_text("typed")
    (secret / "new").rename(secret / "credentials")


def replace_the_file(secret: Path) -> None:
    """Save as ``sed -i --follow-symlinks`` does."""
    target = (secret / "credentials").resolve()
    (target.parent / "new").write_text("typed")
    (target.parent / "new").rename(target)


def edit_the_annotations(secret: Path) -> None:
    """Change what is noted beside the data."""
    (secret / "..data" / "..annotations.json").write_text("{}")


def edit_unseen(secret: Path) -> None:
    """Edit it, and leave the file's time as it was."""
    path = secret / "credentials"
    status = path.stat()
    path.write_text("Y")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def swap_back(secret: Path) -> None:
    """Put an older generation back."""
    (secret / "..old").mkdir(mode=0o700)
    (secret / "..link").symlink_to("..old")
    (secret / "..link").rename(secret / "..data")


HAND_EDITS = [
    edit_in_place,
    replace_the_link,
    replace_the_file,
    edit_the_annotations,
    edit_unseen,
    swap_back,
    lambda secret: (secret / "credentials").unlink(),
    lambda secret: shutil.rmtree((secret / "..data").resolve()),
    shutil.rmtree,
]
