"""Reads what the gateway's filters are configured with from the API server, by the names of Secrets, few at a time.

Owns which of the two shapes counts, and what is not read again because it has not changed.
Source: Envoy AI Gateway, ``internal/controller/gateway_mutator.go``: a Pod mounts the parts where there are any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from credrotator.core.model import ObjectKey
from credrotator.kube.client import resource_paths
from credrotator.kube.client.api_errors import NOT_FOUND, ApiError
from credrotator.kube.filter_config import (
    FilterConfig,
    UnreadableConfigError,
    config_names,
    read_config,
    read_index,
    read_parts,
    read_whole,
    written_at,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from credrotator.kube.client.api import KubeApi

# Asked every few seconds; one that hangs is asked again rather than waited for.
TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class FilterConfigs:
    """Which configurations are read.

    Attributes:
        gateways: Whose, by namespace and name of the Gateway.
        namespace: Where they are: that of the Envoy Pods.
    """

    gateways: tuple[ObjectKey, ...]
    namespace: str

    @classmethod
    def named(cls, gateways: Iterable[str], namespace: str) -> Self | None:
        """Read names of the form ``namespace/name``; None where there is none."""
        keys = tuple(ObjectKey.parse(text, "") for text in gateways)
        return cls(keys, namespace) if keys else None


@dataclass(frozen=True, slots=True)
class _Read:
    """A configuration as it was read, with what tells that it is the same one still."""

    version: str
    keys: frozenset[str]
    config: FilterConfig


class FilterConfigReader:
    """Reads configurations; for one thread."""

    def __init__(self, api: KubeApi, which: FilterConfigs) -> None:
        self._api = api
        self._which = which
        self._read: dict[ObjectKey, _Read] = {}

    def read(self, data_keys: Iterable[str]) -> Sequence[FilterConfig]:
        """Read those of all Gateways; one that has none, or none that is finished, is left out.

        Args:
            data_keys: Keys of Secrets under which credentials are published.

        Raises:
            ApiError: The server's refusal.
            UnreadableConfigError: What is there is not as the gateway writes it.
        """
        keys = frozenset(data_keys)
        configs = (self._gateway(gateway, keys) for gateway in self._which.gateways)
        return [config for config in configs if config is not None]

    def _gateway(self, gateway: ObjectKey, keys: frozenset[str]) -> FilterConfig | None:
        names = config_names(gateway)
        index_secret, whole = self._get(names.index), self._get(names.whole)
        if index_secret is None and whole is None:
            return None
        # A gateway that writes both writes the same into them. One that was set back to a release that knows of no
        # parts leaves them as they were, and one whose configuration is too long for one piece leaves that.
        if whole is not None and (index_secret is None or written_at(whole) > written_at(index_secret)):
            version = f"whole {_version(whole)}"
            return self._known(gateway, version, keys) or self._keep(gateway, version, keys, read_whole(whole))
        assert index_secret is not None  # noqa: S101 - one of both is there
        index = read_index(index_secret, names)
        # The gateway's own checksum over all parts: equal, they need not be fetched, which are eight MiB at most.
        version = f"parts {index.checksum}"
        if known := self._known(gateway, version, keys):
            return known
        parts = [self._get(name) or {} for name in index.parts]
        try:
            return self._keep(gateway, version, keys, read_parts(index, parts))
        except UnreadableConfigError:
            # It is being written, as a rule: the filter waits too, and goes on with what it has.
            former = self._read.get(gateway)
            if former is not None and former.keys == keys:
                return former.config
            raise

    def _known(self, gateway: ObjectKey, version: str, keys: frozenset[str]) -> FilterConfig | None:
        read = self._read.get(gateway)
        return read.config if read and (read.version, read.keys) == (version, keys) else None

    def _keep(self, gateway: ObjectKey, version: str, keys: frozenset[str], text: bytes) -> FilterConfig:
        config = read_config(text, keys)
        self._read[gateway] = _Read(version, keys, config)
        return config

    def _get(self, name: str) -> dict[str, Any] | None:
        path = resource_paths.secret(ObjectKey(self._which.namespace, name))
        try:
            return self._api.get(path, read_timeout_s=TIMEOUT_S)
        except ApiError as error:
            if error.status == NOT_FOUND:
                return None
            raise


def _version(secret: dict[str, Any]) -> str:
    return str((secret.get("metadata") or {}).get("resourceVersion"))
