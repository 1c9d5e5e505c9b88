"""The filter's configuration as the gateway's controller writes it: which credential is in it, and since when."""

import base64
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import yaml

from tests.e2e.gateway_objects import CONFIG_KEY, CONFIG_SECRET
from tests.support.cluster_policies import SECRETS
from tests.support.parts.api import Api, Json
from tests.support.parts.controller import SYSTEM_NAMESPACE
from tests.support.parts.watching import History, Seen, watching

_QUIET_S = 5


@dataclass(frozen=True)
class Version:
    """One version of the file that the filter reads."""

    at: datetime
    text: bytes


class FilterConfig:
    """Every version that was written since the watch began; with `mount`, the newest is in that file too."""

    def __init__(self, mount: Path) -> None:
        self.mount = mount
        self._versions: History[Version] = History()

    def heed(self, seen: Seen) -> None:
        """Take a version, as the kubelet does for the filter: the file is replaced at once, never written into."""
        version = Version(seen.at, base64.b64decode(seen.object["data"][CONFIG_KEY]))
        unfinished = self.mount.with_suffix(".new")
        unfinished.write_bytes(version.text)
        unfinished.rename(self.mount)
        self._versions.add(version)

    def has(self, credential: str, *, within: timedelta) -> datetime | None:
        """Return when a credential first stood in the configuration, or None if it did not in that time.

        The credential is searched as text, so it has to be one that YAML does not quote, such as an access key id.
        """
        wanted = credential.encode()
        found = self._versions.first(lambda version: wanted in version.text, within=within)
        return found.at if found else None

    def settle(self) -> None:
        """Return when the controller has had nothing to write for a while."""
        written = -1
        while self.writes != written:
            written = self.writes
            time.sleep(_QUIET_S)

    def backends(self) -> dict[str, Json]:
        """Return the newest version's backends by the name of their AIServiceBackend."""
        document = yaml.safe_load(self._versions.all()[-1].text)
        return {backend["name"].split("/")[1]: backend for backend in document.get("backends") or []}

    @property
    def writes(self) -> int:
        """How many versions there were."""
        return len(self._versions.all())


@contextmanager
def following(api: Api, mount: Path) -> Iterator[FilterConfig]:
    """Follow the configuration of the one Gateway until the block ends."""
    config = FilterConfig(mount)
    with watching(api, SECRETS, SYSTEM_NAMESPACE, config.heed, fieldSelector=f"metadata.name={CONFIG_SECRET}"):
        yield config
