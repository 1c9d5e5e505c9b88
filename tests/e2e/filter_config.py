"""The filter's configuration as the gateway's controller writes it: which credential is in it, and since when."""

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml

from tests.e2e.cluster_policies import SECRETS
from tests.e2e.gateway_objects import CONFIG_KEY, CONFIG_SECRET
from tests.e2e.parts.api import Api, Json
from tests.e2e.parts.controller import SYSTEM_NAMESPACE
from tests.e2e.parts.watching import Seen, Watch, watching

_QUIET = timedelta(seconds=3)


@dataclass(frozen=True)
class FilterConfig:
    """Every version that was written since the watch began."""

    watch: Watch

    def has(self, credential: str, *, within: timedelta) -> datetime | None:
        """Return when a credential first stood in the configuration, or None if it did not in that time.

        The credential is searched as text, so it has to be one that YAML does not quote, such as an access key id.
        """
        wanted = credential.encode()
        seen = self.watch.first(lambda seen: wanted in _text(seen), within=within)
        return seen.at if seen else None

    def backends(self) -> dict[str, Json]:
        """Return the newest version's backends by the name of their AIServiceBackend."""
        versions = self.watch.all()
        if not versions:
            return {}
        document = yaml.safe_load(_text(versions[-1]))
        return {backend["name"].split("/")[1]: backend for backend in document.get("backends") or []}

    def settle(self) -> None:
        """Return when the controller has had nothing to write for a while."""
        while self.watch.first(_since(datetime.now(UTC)), within=_QUIET):
            pass

    @property
    def writes(self) -> int:
        """How many versions there were."""
        return len(self.watch.all())


@contextmanager
def following(api: Api, *, mount: Path | None = None) -> Iterator[FilterConfig]:
    """Follow the configuration of the one Gateway until the block ends.

    With `mount`, keep it in that file too, as the kubelet does for the filter: replaced at once, never written into.
    """

    def project(version: Seen) -> None:
        if mount:
            unfinished = mount.with_suffix(".new")
            unfinished.write_bytes(_text(version))
            unfinished.rename(mount)

    only = {"fieldSelector": f"metadata.name={CONFIG_SECRET}"}
    with watching(api, SECRETS, SYSTEM_NAMESPACE, heed=project, **only) as watch:
        yield FilterConfig(watch)


def _since(moment: datetime) -> Callable[[Seen], bool]:
    return lambda seen: seen.at > moment


def _text(version: Seen) -> bytes:
    return base64.b64decode(version.object["data"][CONFIG_KEY])
