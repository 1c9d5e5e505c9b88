"""What the gateway's filter is configured with: which hashes of credentials stand there, for which backend.

Owns the two shapes of the configuration (one Secret; an index with parts) and what of them is kept, which is hashes.
No I/O, no clock. Nothing of what is read is ever quoted. Source: Envoy AI Gateway v1.0.0 and v1.1.0,
``internal/controller/gateway.go``, ``filter_config_bundle.go``, ``secret_name.go``, ``internal/filterapi``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from credrotator.core.model import ObjectKey
from credrotator.core.secretdata import content_hash
from credrotator.core.sensitive import Sensitive
from credrotator.policies.documents import read_document

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

WHOLE_KEY, INDEX_KEY, PART_KEY = "filter-config.yaml", "index.yaml", "chunk"
MOST_PARTS = 8
"""The gateway mounts as many, and no more."""
LONGEST_BYTES = MOST_PARTS * 1024 * 1024
"""A Secret holds a MiB at most."""
NAME_LENGTH = 253
DEPTH = 3
"""How deep the texts of a backend's credential lie at most, below ``auth``."""
MOST_TEXTS = 16
"""Texts of one backend's credential; there are three at most."""


class UnreadableConfigError(Exception):
    """A configuration that is not as the gateway writes it, or is being written at this moment."""


@dataclass(frozen=True, slots=True)
class ConfigNames:
    """The Secrets that hold one Gateway's configuration: in one piece, and as an index with parts."""

    whole: str
    index: str
    parts: tuple[str, ...]


def config_names(gateway: ObjectKey) -> ConfigNames:
    """Name the Secrets of a Gateway's configuration, as its controller does."""
    base = f"{gateway.name}-{gateway.namespace}"
    digest = hashlib.sha256(f"{gateway.namespace}/{gateway.name}".encode()).hexdigest()[:12]
    parts = []
    for number in range(MOST_PARTS):
        end = f"-{digest}-part-{number:03d}"
        parts.append(base[: NAME_LENGTH - len(end)].rstrip("-") + end)
    index = f"{base.strip('-')[: NAME_LENGTH - 1 - len(digest)].strip('-')}-{digest}"
    return ConfigNames(base, index, tuple(parts))


@dataclass(frozen=True, slots=True)
class Index:
    """Where the parts are, and the SHA-256 of the whole (hexadecimal)."""

    checksum: str
    parts: tuple[str, ...]


def read_index(secret: Mapping[str, Any], names: ConfigNames) -> Index:
    """Read the index of a configuration in parts.

    Raises:
        UnreadableConfigError: It is none, or names a Secret that is no part of this configuration.
    """
    document = _document(_data(secret, INDEX_KEY))
    checksum, parts = document.get("checksum"), document.get("parts")
    if not isinstance(checksum, str) or not isinstance(parts, list) or not 0 < len(parts) <= MOST_PARTS:
        raise UnreadableConfigError("the index names no checksum, or no parts")
    named = tuple(str(part.get("name")) if isinstance(part, dict) else "" for part in parts)
    # The index is written by the gateway, but read with our rights: it must not lead to any other Secret of that
    # namespace.
    if not set(named) <= set(names.parts):
        raise UnreadableConfigError("the index names a part that is not the gateway's")
    return Index(checksum.lower(), named)


def read_parts(index: Index, secrets: Iterable[Mapping[str, Any]]) -> bytes:
    """Put a configuration together; ``secrets`` are the parts in the index's order.

    Raises:
        UnreadableConfigError: They are not what the index was written for: the gateway is writing, for instance.
    """
    whole = b"".join(_data(secret, PART_KEY) for secret in secrets)
    if hashlib.sha256(whole).hexdigest() != index.checksum:
        raise UnreadableConfigError("the parts are not those of the index")
    return whole


def read_whole(secret: Mapping[str, Any]) -> bytes:
    """Read a configuration in one piece.

    Raises:
        UnreadableConfigError: There is none in the Secret.
    """
    return _data(secret, WHOLE_KEY)


def written_at(secret: Mapping[str, Any]) -> str:
    """Return when a Secret was written last (RFC 3339 in UTC, so that texts compare); empty where nobody noted it."""
    fields = (secret.get("metadata") or {}).get("managedFields")
    times = [str(entry.get("time") or "") for entry in fields or () if isinstance(entry, dict)]
    return max(times, default="")


Texts = frozenset[str]
"""Hashes of all texts of one backend's credential."""


@dataclass(frozen=True, slots=True)
class FilterConfig:
    """The credentials in one Gateway's configuration, as hashes.

    Attributes:
        backends: By namespace and name; several, where routes name a backend more than once.
        texts: All of them together.
    """

    backends: Mapping[ObjectKey, frozenset[Texts]] = field(default_factory=dict)
    texts: Texts = frozenset()


def read_config(text: bytes, data_keys: Iterable[str]) -> FilterConfig:
    """Read a configuration, and keep hashes.

    Args:
        text: YAML, as the gateway writes it.
        data_keys: Keys of Secrets under which credentials are published: a hash is that of a Secret's data.

    Raises:
        UnreadableConfigError: It is no configuration.
    """
    keys = sorted(set(data_keys))
    listed = _document(text).get("backends") or []
    if not isinstance(listed, list):
        raise UnreadableConfigError("its backends are no list")
    hashes_of: dict[ObjectKey, set[Texts]] = {}
    for backend in listed:
        named = backend.get("name") if isinstance(backend, dict) else None
        if not isinstance(named, str):
            continue
        # NAMESPACE/NAME/route/ROUTE/rule/0/ref/0; the namespace is the route's.
        namespace, _, rest = named.partition("/")
        texts = list(_texts(backend.get("auth"), DEPTH))[:MOST_TEXTS]
        if texts:
            hashes = frozenset(content_hash({key: text}) for text in texts for key in keys)
            hashes_of.setdefault(ObjectKey(namespace, rest.partition("/")[0]), set()).add(hashes)
    backends = {key: frozenset(each) for key, each in hashes_of.items()}
    return FilterConfig(backends, frozenset(one for each in backends.values() for texts in each for one in texts))


def _texts(value: object, depth: int) -> Iterator[Sensitive]:
    if isinstance(value, str):
        yield Sensitive(value)
    elif isinstance(value, dict) and depth:
        for each in value.values():
            yield from _texts(each, depth - 1)


def _data(secret: Mapping[str, Any], key: str) -> bytes:
    encoded = (secret.get("data") or {}).get(key)
    if not isinstance(encoded, str):
        raise UnreadableConfigError(f"the Secret has no key {key}")
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        # Not "from" it: binascii says nothing secret today, but a parser's message is not ours to trust with a
        # credential.
        raise UnreadableConfigError(f"{key} of the Secret is not base64") from None


def _document(text: bytes) -> dict[str, Any]:
    """Read YAML. What is wrong with it is not told: a parser quotes what it stumbles over."""
    if len(text) > LONGEST_BYTES:
        raise UnreadableConfigError("it is longer than the gateway writes any")
    try:
        document = read_document(text.decode())
    except (ValueError, RecursionError):
        raise UnreadableConfigError("it is not YAML") from None
    if not isinstance(document, dict):
        raise UnreadableConfigError("it is no mapping")
    return document
