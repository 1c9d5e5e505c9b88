"""The AWS SDK with its decisions made: no profile, no file of a person's, no retries, and no more data than STS needs.

Must not send. Source: https://docs.aws.amazon.com/sdkref/latest/guide/settings-reference.html
"""

from __future__ import annotations

import contextlib
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import botocore.exceptions
import botocore.session
from botocore.config import Config
from botocore.loaders import Loader

from credrotator.core.errors import Denied, PolicyError, printable

if TYPE_CHECKING:
    from collections.abc import Mapping

COUNTING = ("use_fips_endpoint", "data_path")
"""Settings of the SDK that a variable may change; beside them it reads AWS_ENDPOINT_URL_STS and AWS_ENDPOINT_URL."""
CONFIG = Config(
    retries={"total_max_attempts": 1, "mode": "standard"},
    defaults_mode="legacy",  # type: ignore[arg-type]  # the stubs have it as a bool
)
"""The settings that would turn into waiting: retries in the SDK, its adaptive mode, and defaults that it would ask the
metadata service for."""
_ENDPOINTS = "endpoints"
_PSEUDO_REGION = "-global"


class StsData(Loader):
    """The SDK's own data, with STS alone in the table of endpoints: that of all services is 1.2 MB of JSON.

    The SDK takes the address of STS from the service's rules. It reads the table for what has no rules, and for the
    list of regions, which stand among the partitions as well. Nor are the other 400 services looked for.
    """

    def __init__(self) -> None:
        super().__init__(extra_search_paths=[self.BUILTIN_DATA_PATH], include_default_search_paths=False)

    def load_data_with_path(self, name: str) -> Any:
        """See Loader."""
        if name != _ENDPOINTS:
            return super().load_data_with_path(name)
        partitions = [_partition(described) for described in self.load_data("partitions")["partitions"]]
        # By the path the SDK tells its own table from one that somebody wrote, which comes before the rules.
        return {"version": 3, "partitions": partitions}, str(Path(self.BUILTIN_DATA_PATH, name))

    def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002 - the SDK's own signature
        """See Loader."""
        return ["sts"]


@cache
def _sts_data() -> StsData:
    """Return one for all sessions, so that the files of STS are read once; what it hands out nobody changes."""
    return StsData()


def _partition(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return a partition as the table of endpoints has it."""
    names = [name for name in described["regions"] if not name.endswith(_PSEUDO_REGION)]
    suffix = described["outputs"]["dnsSuffix"]
    fips = {"dnsSuffix": suffix, "hostname": "{service}-fips.{region}.{dnsSuffix}", "tags": ["fips"]}
    return {
        "partition": described["id"],
        "regionRegex": described["regionRegex"],
        "dnsSuffix": suffix,
        "defaults": {"hostname": "{service}.{region}.{dnsSuffix}", "protocols": ["https"], "variants": [fips]},
        "regions": {name: {} for name in names},
        "services": {"sts": {"endpoints": {name: {} for name in names}}},
    }


def sdk_session() -> botocore.session.Session:
    """Make a session that knows no profile, no file of a person's, and no variable but those that are documented.

    Its calls are unsigned, or signed with a credential of ours: a profile that is misspelt must not stop them, and none
    may lead them, and the token, elsewhere.
    """
    known = botocore.session.Session.SESSION_VARIABLES
    unset = {name: (None, None, default, convert) for name, (_, _, default, convert) in known.items()}
    counting = {name: known[name] for name in COUNTING}
    files = dict.fromkeys(("config_file", "credentials_file"), (None, None, os.devnull, None))
    session = botocore.session.Session({**unset, **files, **counting})
    # Whoever brings data of his own means a cloud of his own, whose endpoints stand in the table.
    if not session.get_config_variable("data_path"):
        session.register_component("data_loader", _sts_data())
    return session


def check_region(session: botocore.session.Session, region: str) -> None:
    """Refuse a region that the SDK's data does not have, though its name would fit: anybody can write one.

    Raises:
        PolicyError: UnknownRegion: there is no such region.
    """
    partitions = {name: session.get_available_regions("sts", name) for name in session.get_available_partitions()}
    if any(region in regions for regions in partitions.values()):
        return
    with contextlib.suppress(botocore.exceptions.UnknownRegionError):
        # A partition whose regions the data does not list has names that fit its pattern.
        if not partitions.get(session.get_partition_for_region(region)):
            return
    hint = (
        "correct region in the policy; one that is newer than this release of credrotator needs a newer release, and "
        "one of a cloud of your own a directory with its endpoints in AWS_DATA_PATH"
    )
    raise PolicyError("UnknownRegion", f"AWS STS has no region {printable(region, 60)}", hint=hint)


def misconfigured(error: Exception) -> Denied:
    """Say that the SDK does not even know whom to ask."""
    hint = "see AWS_ENDPOINT_URL_STS and the other AWS_* variables of the user who runs credrotator"
    return Denied("StsConfig", f"the AWS SDK cannot call STS: {printable(error)}", hint=hint)
