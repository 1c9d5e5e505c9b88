"""Prometheus and promtool: what scrapes the metrics, and what judges rules on recorded series."""

import shutil
from pathlib import Path
from typing import Literal

from tests.e2e.parts.cache import Cache
from tests.e2e.parts.go_tool import build

_VERSION = "3.16.0"
_MODULE = "github.com/prometheus/prometheus"


def executable(cache: Cache, name: Literal["prometheus", "promtool"]) -> Path:
    """Return the program of this machine, else one that is built from its Go module on the first call.

    The latter finds its targets in files and by HTTP only: the SDKs of a dozen clouds take most of the time to build.
    """
    if found := shutil.which(name):
        return Path(found)
    stamp = {"github.com/prometheus/common/version.Version": _VERSION}
    return build(
        cache,
        name,
        package=f"{_MODULE}/cmd/{name}",
        version=_VERSION,
        module="prometheus",
        stamp=stamp,
        tags="remove_all_sd",
    )
