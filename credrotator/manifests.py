"""Policies and their surroundings from manifests: files, directories, standard input, in kubectl's manner.

Owns the reading of YAML and JSON (multi-document, Lists) and of Secret values. Must not judge a policy: that is
``policy.py``'s. A document that cannot be read is reported with file and line, and the rest goes on.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import yaml

from credrotator.errors import UsageError, printable
from credrotator.inventory import KIND, Inventory, read_backend, read_grant, read_route
from credrotator.model import ObjectKey
from credrotator.policy import Defaults, read_policy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SUFFIXES = {".yaml", ".yml", ".json"}
_SEPARATOR = re.compile(r"^---(?=\s|$)", re.MULTILINE)


class _Loader(yaml.CSafeLoader):
    """Safe YAML that refuses a key given twice (YAML 1.2 §3.2.1.3), where PyYAML lets the last one win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is given twice", key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return super().construct_mapping(node, deep)


@dataclass
class Reading:
    """What was read, and what could not be."""

    inventory: Inventory = field(default_factory=Inventory)
    problems: list[str] = field(default_factory=list)


def read_manifests(names: Sequence[str], stdin: TextIO, defaults: Defaults) -> Reading:
    """Read every object of the named files and directories (``-``: standard input).

    Raises:
        UsageError: A name does not exist or cannot be read; nothing was read then.
    """
    reading = Reading()
    for origin, text in _texts(names, stdin):
        for line, manifest in _documents(text, origin, reading.problems):
            _sort_in(manifest, f"{origin}:{line}", reading, defaults)
    reading.inventory.refuse_shared_backends()
    return reading


def _texts(names: Sequence[str], stdin: TextIO) -> Iterator[tuple[str, str]]:
    for name in names:
        if name == "-":
            yield "stdin", stdin.read()
            continue
        path = Path(name)
        try:
            files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES) if path.is_dir() else [path]
            for file in files:
                yield str(file), file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise UsageError(f"{error.reason} in {name}: a manifest is UTF-8 text") from error
        except OSError as error:
            raise UsageError(f"cannot read {name}: {error.strerror}") from error
        if not files:
            raise UsageError(f"no manifest in {name}: it holds no file that ends in {', '.join(sorted(SUFFIXES))}")


def _documents(text: str, origin: str, problems: list[str]) -> Iterator[tuple[int, object]]:
    """Yield first line and content of each document; split first, so that a broken one does not take the rest along."""
    starts = [0, *(match.end() for match in _SEPARATOR.finditer(text))]
    ends = [*(match.start() for match in _SEPARATOR.finditer(text)), len(text)]
    for start, end in zip(starts, ends, strict=True):
        part, line = text[start:end], text.count("\n", 0, start) + 1
        try:
            yield line + len(part) - len(part.lstrip("\n")), _parse(part)
        except (yaml.YAMLError, RecursionError) as error:
            at, why = _explain(error)
            problems.append(f"{origin}:{line + at}: not readable as YAML or JSON: {why}")


def _parse(text: str) -> object:
    """JSON first where it looks like it: JSON may be indented with tabs, which YAML forbids."""
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except ValueError:
            pass  # a YAML flow mapping begins alike
    return yaml.load(text, _Loader)  # noqa: S506 - derived from the safe loader


def _explain(error: Exception) -> tuple[int, str]:
    mark = getattr(error, "problem_mark", None)
    return (mark.line if mark else 0), printable(getattr(error, "problem", None) or error)


def _sort_in(manifest: object, origin: str, reading: Reading, defaults: Defaults) -> None:
    if manifest is None:
        return
    if not isinstance(manifest, dict) or not isinstance(manifest.get("kind"), str):
        reading.problems.append(f"{origin}: expected a Kubernetes object with apiVersion, kind and metadata")
        return
    items = manifest.get("items")
    if manifest["kind"].endswith("List") and isinstance(items, list):
        for index, item in enumerate(items):
            _sort_in(item, f"{origin} items[{index}]", reading, defaults)
        return
    if manifest["kind"] == KIND:
        reading.inventory.add_policy(read_policy(manifest, origin, defaults))
    else:
        _sort_in_other(manifest, origin, reading, defaults.namespace)


def _sort_in_other(manifest: dict[str, Any], origin: str, reading: Reading, namespace: str) -> None:
    """Take what policies refer to or what refers to them; other kinds may stand in the same files."""
    metadata = manifest.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(name, str):
        reading.problems.append(f"{origin}: {printable(manifest['kind'])}: metadata.name: required field is missing")
        return
    key = ObjectKey(str(metadata.get("namespace") or namespace), name)
    inventory = reading.inventory
    match manifest["kind"]:
        case "Secret":
            inventory.secrets[key] = dict(_secret_values(manifest, f"{origin}: Secret {key}", reading.problems))
        case "AIServiceBackend":
            inventory.backends[key] = read_backend(manifest, key)
        case "AIGatewayRoute":
            inventory.routes[key] = read_route(manifest, key)
        case "ReferenceGrant":
            inventory.grants.update(read_grant(manifest, key))


def _secret_values(manifest: Mapping[str, Any], where: str, problems: list[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the values of a Secret; ``stringData`` comes last and so wins, as on the API server."""
    for block in ("data", "stringData"):
        values = manifest.get(block) or {}
        if not isinstance(values, dict):
            problems.append(f"{where}: {block}: expected an object")
            continue
        for name, value in values.items():
            if not isinstance(value, str):
                problems.append(f"{where}: {block}[{printable(name)}]: expected a string; quote the value")
            elif block == "stringData":
                yield name, value.encode()
            else:
                try:
                    yield name, base64.b64decode("".join(value.split()), validate=True)
                except (binascii.Error, ValueError):
                    problems.append(
                        f"{where}: data[{printable(name)}]: not base64; encode it, or move it to stringData as it is"
                    )
