"""Names of a kubeconfig's contexts, without the vendor's loader: a shell asks for them at a key.

Must not connect, nor judge whether a context can be used. Source: client-go, ``tools/clientcmd`` (files are merged, and
of one name the first counts).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from credrotator.core.errors import printable
from credrotator.kube.client.api_errors import ClusterNotNamed, ConfigurationError
from credrotator.kube.client.connection import AT_HOME
from credrotator.kube.client.kubeconfig import usable_files

if TYPE_CHECKING:
    from collections.abc import Mapping


def context_names(kubeconfig: str | None, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the names, in the order of the files that kubectl would read.

    Raises:
        ConfigurationError: There is no kubeconfig (ClusterNotNamed), or it cannot be read more than once.
    """
    named = kubeconfig or environment.get("KUBECONFIG") or ""
    paths = usable_files(named or AT_HOME, required=bool(named))
    if not paths:
        raise ClusterNotNamed("there is no kubeconfig")
    return list(dict.fromkeys(name for path in paths.split(os.pathsep) for name in _names(Path(path))))


def _names(path: Path) -> list[str]:
    if not path.is_file():
        raise ConfigurationError(f"the kubeconfig {printable(path)} can be read only once; write it to a file")
    try:
        content: Any = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        why = getattr(error, "strerror", None) or getattr(error, "problem", None) or "it is no YAML"
        raise ConfigurationError(f"the kubeconfig {printable(path)} cannot be used: {printable(why)}") from error
    contexts = content.get("contexts") if isinstance(content, dict) else None
    entries = contexts if isinstance(contexts, list) else []
    return [
        name for entry in entries if isinstance(entry, dict) and isinstance(name := entry.get("name"), str) and name
    ]
