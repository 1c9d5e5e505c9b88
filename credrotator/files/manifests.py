"""Policies and their surroundings from manifests: files, directories, standard input, in kubectl's manner.

Owns the reading of YAML and JSON (multi-document, Lists) and of Secret values. Must not judge a policy: that is
``policy.py``'s. A document that cannot be read is reported with file and line, and the rest goes on.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import yaml

from credrotator.core.errors import UsageError, printable
from credrotator.core.model import ObjectKey
from credrotator.policies import schema as api
from credrotator.policies.inventory import Inventory, read_backend, read_grant, read_route
from credrotator.policies.schema import KIND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from credrotator.policies.managed import FormReader

SUFFIXES = {".yaml", ".yml", ".json"}
_JSON = re.compile(r'\s*\{\s*"')
_CONTENT = re.compile(r"^[ \t]*[^#\s]", re.MULTILINE)
_SEPARATOR = re.compile(r"^---(?=\s|$)", re.MULTILINE)


MAX_DEPTH = 100
"""Levels of nesting that a manifest may have; libyaml's binding ends the process at some thousands."""
MAX_LISTS = 10
TOO_DEEP = "nested too deeply"
_SHALLOW = 1000
_GROUPS = {
    "Secret": "",
    "AIServiceBackend": api.GROUP,
    "AIGatewayRoute": api.GROUP,
    "ReferenceGrant": "gateway.networking.k8s.io",
}
"""The other kinds that matter, and the API group of each."""


class _Loader(yaml.CSafeLoader):
    """Safe YAML as Kubernetes reads it: a key given twice is refused, a key is text, and so is a date.

    Source: YAML 1.2 §3.2.1.3; sigs.k8s.io/yaml, which turns YAML into JSON.
    """

    def construct_document(self, node: yaml.Node) -> Any:
        """Look for keys given twice before anything is built: building merges ``<<`` into the nodes."""
        todo, seen = [node], set()
        while todo:
            part = todo.pop()
            if id(part) in seen:
                continue
            seen.add(id(part))
            if isinstance(part, yaml.MappingNode):
                _refuse_twice(part)
                todo += [child for pair in part.value for child in pair]
            elif isinstance(part, yaml.SequenceNode):
                todo += part.value
        return super().construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        built = super().construct_mapping(node, deep)
        return {key if isinstance(key, str) else _key_text(key): value for key, value in built.items()}


_TEXT_IN_JSON = {"tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value"}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _TEXT_IN_JSON]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def _refuse_twice(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                raise _twice(key.value, key.start_mark)
            seen.add(key.value)


def _twice(key: str, mark: yaml.Mark | None = None) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", mark)


def _key_text(key: object) -> str:
    return json.dumps(key) if isinstance(key, bool | int | float | None) else str(key)


def _json_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _twice(next(name for name in names if names.count(name) > 1))
    return found


@dataclass
class ManifestReading:
    """What was read, and what could not be."""

    inventory: Inventory = field(default_factory=Inventory)
    problems: list[str] = field(default_factory=list)


def read_manifests(names: Sequence[str], stdin: TextIO, policies: FormReader) -> ManifestReading:
    """Read every object of the named files and directories (``-``: standard input).

    Raises:
        UsageError: A name does not exist or cannot be read; nothing was read then.
    """
    reading = ManifestReading()
    for origin, text in _texts(names, stdin):
        for line, manifest in _documents(text, origin, reading.problems):
            _sort_in(manifest, f"{origin}:{line}", reading, policies)
    reading.inventory.refuse_shared_backends()
    reading.inventory.refuse_shared_secrets()
    return reading


def _texts(names: Sequence[str], stdin: TextIO) -> Iterator[tuple[str, str]]:
    for name in names:
        if name == "-":
            yield "stdin", _read("standard input", stdin.read)
            continue
        for file in _files(Path(name)):
            # A file of Windows may begin with a byte order mark, which is no part of the text.
            yield printable(file), _read(printable(file), partial(file.read_text, encoding="utf-8-sig"))


def _files(path: Path) -> list[Path]:
    """Name what a name stands for: a directory for its manifests, sorted, without its subdirectories, as in kubectl."""
    try:
        if not path.is_dir():
            return [path]
        files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and not file.is_dir())
    except OSError as error:
        raise UsageError(f"cannot read {printable(path)}: {error.strerror}") from error
    if not files:
        suffixes = ", ".join(sorted(SUFFIXES))
        raise UsageError(f"no manifest in {printable(path)}: it holds no file that ends in {suffixes}")
    return files


def _read(name: str, read: Callable[[], str]) -> str:
    try:
        return read()
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read {name}: {error.reason}; a manifest is UTF-8 text") from error
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}") from error


def _documents(text: str, origin: str, problems: list[str]) -> Iterator[tuple[int, object]]:
    """Yield first line and content of each document; split first, so that a broken one does not take the rest along."""
    starts = [0, *(match.end() for match in _SEPARATOR.finditer(text))]
    ends = [*(match.start() for match in _SEPARATOR.finditer(text)), len(text)]
    for start, end in zip(starts, ends, strict=True):
        part, line = text[start:end], text.count("\n", 0, start) + 1
        try:
            first = _CONTENT.search(part)
            yield line + (part.count("\n", 0, first.start()) if first else 0), _parse(part)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            at, why = _explain(error)
            problems.append(f"{origin}:{line + at}: not readable as YAML or JSON: {why}")


def _parse(text: str) -> object:
    """JSON first where it looks like it: JSON may be indented with tabs, which YAML forbids."""
    if not text.lstrip().startswith("{"):
        return _parse_yaml(text)
    try:
        return json.loads(text, object_pairs_hook=_json_object)
    except json.JSONDecodeError as error:
        try:
            return _parse_yaml(text)  # a flow mapping, which begins alike
        except (yaml.YAMLError, ValueError):
            if _JSON.match(text):
                raise error from None  # it was meant as JSON, so that is the reason to show
            raise


def _parse_yaml(text: str) -> object:
    _refuse_deep(text)
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - derived from the safe loader
    except (AttributeError, LookupError, TypeError) as error:
        # PyYAML's way of saying that a text does not fit its tag (``!!bool perhaps``, ``!!int ''``).
        raise yaml.YAMLError("a value does not fit its tag") from error


def _refuse_deep(text: str) -> None:
    """Measure the nesting by libyaml's events, which need no stack; only where the text could be deep at all."""
    could_be = text.count("[") + text.count("{") + max(map(len, text.splitlines()), default=0)
    if could_be < _SHALLOW:
        return
    depth = 0
    for event in yaml.parse(text, yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise yaml.YAMLError(TOO_DEEP)


def _explain(error: Exception) -> tuple[int, str]:
    """Return line, counted from 0, and reason."""
    match error:
        case json.JSONDecodeError():
            return error.lineno - 1, printable(error.msg)
        case RecursionError() | yaml.YAMLError() if "nesting depth" in str(error) or isinstance(error, RecursionError):
            # PyYAML has a limit of its own since 6.0.4, lower than the stack's.
            return 0, TOO_DEEP
        case yaml.MarkedYAMLError(problem=str(problem)):
            return (error.problem_mark.line if error.problem_mark else 0), printable(problem)
    return 0, printable(error)


def _sort_in(manifest: object, origin: str, reading: ManifestReading, policies: FormReader, lists: int = 0) -> None:
    if manifest is None:
        return
    if not isinstance(manifest, dict) or not isinstance(kind := manifest.get("kind"), str):
        reading.problems.append(f"{origin}: expected a Kubernetes object with apiVersion, kind and metadata")
    elif kind == "List" or (kind.endswith("List") and "items" in manifest):
        _sort_in_list(manifest, origin, reading, policies, lists + 1)
    elif kind == KIND:
        policy = policies.read(manifest, origin)
        reading.inventory.add_policy(policy)
        reading.inventory.manifests[policy.key] = manifest
    elif kind in _GROUPS:
        _sort_in_other(manifest, kind, origin, reading, policies.policies.defaults.namespace)


def _sort_in_list(
    manifest: dict[str, Any], origin: str, reading: ManifestReading, policies: FormReader, lists: int
) -> None:
    """Take a List apart; the items of a typed one (``SecretList``) need not say again what they are."""
    items = manifest.get("items") or []
    if not isinstance(items, list) or lists > MAX_LISTS:
        why = "expected a list" if lists <= MAX_LISTS else TOO_DEEP
        reading.problems.append(f"{origin}: items: {why}")
        return
    typed = {"apiVersion": manifest.get("apiVersion"), "kind": manifest["kind"].removesuffix("List")}
    for index, item in enumerate(items):
        whole = {**typed, **item} if typed["kind"] and isinstance(item, dict) else item
        _sort_in(whole, f"{origin} items[{index}]", reading, policies, lists)


def _sort_in_other(manifest: dict[str, Any], kind: str, origin: str, reading: ManifestReading, namespace: str) -> None:
    """Take what policies refer to or what refers to them."""
    version = manifest.get("apiVersion")
    if not isinstance(version, str):
        reading.problems.append(f"{origin}: {kind}: apiVersion: required field is missing")
        return
    if version.rpartition("/")[0] != _GROUPS[kind]:
        return  # a kind of the same name in somebody else's API
    key = _key(manifest, f"{origin}: {kind}", reading.problems, namespace)
    if key is None:
        return
    inventory = reading.inventory
    match kind:
        case "Secret":
            inventory.secrets[key] = _secret_values(manifest, f"{origin}: Secret {key}", key, reading)
        case "AIServiceBackend":
            inventory.backends[key] = read_backend(manifest, key)
        case "AIGatewayRoute":
            inventory.routes[key] = read_route(manifest, key)
        case "ReferenceGrant":
            inventory.grants.update(read_grant(manifest, key))


def _key(manifest: dict[str, Any], where: str, problems: list[str], default: str) -> ObjectKey | None:
    metadata = manifest.get("metadata")
    fields = metadata if isinstance(metadata, dict) else {}
    name, namespace = fields.get("name"), fields.get("namespace")
    if name is None:
        problems.append(f"{where}: metadata.name: required field is missing")
    elif not isinstance(name, str) or not api.NAME.fullmatch(name):
        problems.append(f"{where}: metadata.name: expected a Kubernetes name{_got(name)}")
    elif namespace is not None and not (isinstance(namespace, str) and api.NAMESPACE.fullmatch(namespace)):
        problems.append(f"{where}: metadata.namespace: expected a Kubernetes namespace{_got(namespace)}")
    else:
        return ObjectKey(namespace or default, name)
    return None


def _got(value: object) -> str:
    return f", got '{printable(value, 80)}'" if isinstance(value, str) else "; quote the value"


def _secret_values(
    manifest: Mapping[str, Any], where: str, key: ObjectKey, reading: ManifestReading
) -> dict[str, bytes]:
    """Read the values of a Secret; ``stringData`` comes last and so wins, as on the API server."""
    found: dict[str, bytes] = {}
    for block in ("data", "stringData"):
        values = manifest.get(block) or {}
        if not isinstance(values, dict):
            reading.problems.append(f"{where}: {block}: expected an object")
            continue
        for name, value in values.items():
            try:
                found[name] = _value(value, encoded=block == "data")
            except ValueError as error:
                reading.inventory.damaged.add((key, name))
                reading.problems.append(f"{where}: {block}[{printable(name, 80)}]: {error}")
            else:
                reading.inventory.damaged.discard((key, name))
    return found


def _value(value: object, *, encoded: bool) -> bytes:
    if value is None:
        return b""  # as on the API server
    if not isinstance(value, str):
        raise ValueError("expected a string; quote the value")  # noqa: TRY004 - of the manifest's author
    if not encoded:
        return value.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except ValueError as error:
        raise ValueError("not base64; encode it, or move it to stringData as it is") from error
