"""Policies and their surroundings from manifests: files, directories, standard input, in kubectl's manner.

Owns the kinds that matter, Lists, and the values of Secrets. Must not judge a policy: that is ``policies/reader.py``'s.
A document that cannot be read is reported with file and line, and the rest goes on.
"""

from __future__ import annotations

import base64
import difflib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from credrotator.core.errors import printable
from credrotator.core.model import InvalidPolicy, ObjectKey
from credrotator.files.manifest_files import ManifestFile, UnreadDocument, read_named
from credrotator.files.substitution import ENV, FILE, PREFIX, from_a_cluster, substitutes
from credrotator.policies import schema as api
from credrotator.policies.asking import asks, read_asking
from credrotator.policies.documents import TOO_DEEP, DocumentError
from credrotator.policies.inventory import Inventory, read_backend, read_grant, read_route
from credrotator.policies.schema import KIND
from credrotator.policies.selectors import parse_selector
from credrotator.policies.stand_ins import stand_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from credrotator.policies.managed import FormReader
    from credrotator.policies.manifest import Manifest

# ``kubectl get -o yaml`` makes one, and nobody nests them by hand; a bound keeps the recursion short.
MAX_LISTS = 10
_GROUPS = {
    "Secret": "",
    "AIServiceBackend": api.GROUP,
    "AIGatewayRoute": api.GROUP,
    "ReferenceGrant": "gateway.networking.k8s.io",
}
"""The other kinds that matter, and the API group of each."""
_KINDS = {kind.lower(): kind for kind in (KIND, *_GROUPS)}
# As in ``messages``: a slip or two in a word.
_ALIKE = 0.8


@dataclass(frozen=True, slots=True)
class ManifestOptions:
    """How manifests are read.

    Attributes:
        recursive: Directories in directories too.
        selector: Only policies with these labels; empty for all.
        environment: Variables that Secrets may be filled from.
    """

    recursive: bool = False
    selector: str = ""
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)


DEFAULT_OPTIONS = ManifestOptions()


@dataclass
class ManifestReading:
    """What was read, and what could not be.

    Attributes:
        problems: What is wrong, as sentences.
        warnings: What can hardly be meant, and fails nothing; as sentences.
        notes: What was passed over, which may be as it should.
        files: Further files whose content is part of the reading.
        lost: What is so wrong that objects are missing: policies may well be among them.
    """

    inventory: Inventory = field(default_factory=Inventory)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def read_manifests(
    names: Sequence[str], stdin: TextIO, policies: FormReader, options: ManifestOptions = DEFAULT_OPTIONS
) -> ManifestReading:
    """Read every object of the named files and directories (``-``: standard input).

    Raises:
        UsageError: A name does not exist, or the only one cannot be read; nothing was read then.
    """
    notes: list[str] = []
    reading = sort_manifests(read_named(names, stdin, notes, recursive=options.recursive), policies, options)
    reading.notes[:0] = notes
    return reading


def sort_manifests(
    files: Iterable[ManifestFile], policies: FormReader, options: ManifestOptions = DEFAULT_OPTIONS
) -> ManifestReading:
    """Sort what files hold."""
    reading = ManifestReading()
    sorter = _Sorter(reading, policies, options)
    for file in files:
        for line, manifest in file.documents:
            sorter.sort_in(manifest, f"{file.origin}:{line}" if line else file.origin)
    reading.inventory.refuse_shared_backends()
    reading.inventory.refuse_shared_secrets()
    return reading


class _Sorter:
    """Sorts objects into a ManifestReading."""

    def __init__(self, reading: ManifestReading, policies: FormReader, options: ManifestOptions) -> None:
        self._reading = reading
        self._inventory, self._problems = reading.inventory, reading.problems
        self._policies = policies
        self._namespace = policies.policies.defaults.namespace
        self._environment = options.environment
        self._selector = parse_selector(options.selector)
        self._known: dict[tuple[str, ObjectKey], tuple[str, object]] = {}

    def sort_in(self, manifest: object, origin: str, lists: int = 0) -> None:
        """Take one object, or a List of them; what is no such thing is a problem, or a note."""
        if manifest is None:
            return
        if isinstance(manifest, DocumentError):
            self._lose(f"{origin}: not readable as YAML or JSON: {manifest.reason}")
        elif isinstance(manifest, UnreadDocument):
            self._lose(f"{origin}: cannot be read: {manifest.why}")
        elif not isinstance(manifest, dict) or not isinstance(kind := manifest.get("kind"), str):
            self._lose(f"{origin}: expected a Kubernetes object with apiVersion, kind and metadata")
        elif kind == "List" or (kind.endswith("List") and "items" in manifest):
            self._list(manifest, origin, lists + 1)
        elif kind == KIND:
            self._policy(manifest, origin)
        elif kind in _GROUPS:
            self._other(manifest, kind, origin)
        else:
            self._unknown(manifest, kind, origin)

    def _policy(self, manifest: Manifest, origin: str) -> None:
        # Before it is read: what the selector leaves out may be as wrong as it likes.
        if not self._is_selected(manifest):
            return
        policy = self._policies.read(manifest, origin)
        # Without a name nobody knows which policy it was; a running daemon keeps the one that it had (``last_good``).
        if isinstance(policy, InvalidPolicy) and policy.key.name.startswith("("):
            self._reading.lost.append(f"{origin}: {policy.problems[0]}")
        self._inventory.add_policy(policy)
        self._inventory.manifests[policy.key] = manifest

    def _is_selected(self, manifest: Manifest) -> bool:
        return all(requirement.holds(_labels(manifest)) for requirement in self._selector)

    def _list(self, manifest: Manifest, origin: str, lists: int) -> None:
        """Take a List apart; the items of a typed one (``SecretList``) need not say again what they are."""
        items = manifest.get("items") or []
        if not isinstance(items, list) or lists > MAX_LISTS:
            why = "expected a list" if lists <= MAX_LISTS else TOO_DEEP
            self._lose(f"{origin}: items: {why}")
            return
        # As the API server prints lists by kind.
        typed = {"apiVersion": manifest.get("apiVersion"), "kind": manifest["kind"].removesuffix("List")}
        for index, item in enumerate(items):
            whole = {**typed, **item} if typed["kind"] and isinstance(item, dict) else item
            self.sort_in(whole, f"{origin} items[{index}]", lists)

    def _other(self, manifest: Manifest, kind: str, origin: str) -> None:
        """Take what policies refer to or what refers to them."""
        version = manifest.get("apiVersion")
        if not isinstance(version, str):
            self._lose(f"{origin}: {kind}: apiVersion: required field is missing")
            return
        if version.rpartition("/")[0] != _GROUPS[kind]:
            return  # a kind of the same name in somebody else's API
        key = _key(manifest, f"{origin}: {kind}", self._namespace)
        if isinstance(key, str):
            self._lose(key)
            return
        content: object = None
        match kind:
            case "Secret":
                content = self._secret(manifest, key, f"{origin}: Secret {key}")
                if asks(manifest) and self._is_selected(manifest):
                    self._inventory.add_policy(read_asking(self._policies, manifest, key, origin))
            case "AIServiceBackend":
                content = self._inventory.backends[key] = read_backend(manifest, key)
            case "AIGatewayRoute":
                content = self._inventory.routes[key] = read_route(manifest, key)
            case "ReferenceGrant":
                content = frozenset(read_grant(manifest, key))
                self._inventory.grants |= content
            case _:
                pass
        self._compare(kind, key, content, origin)

    def _compare(self, kind: str, key: ObjectKey, content: object, origin: str) -> None:
        """Tell of two objects of one name that differ: a cluster has only one of them, and nobody knows which."""
        place, before = self._known.get((kind, key), (origin, content))
        if content != before:
            used = "both are" if kind == "ReferenceGrant" else "the latter is"
            self._reading.warnings.append(
                f"{origin}: {kind} {key}: defined twice, in {place} and in {origin}; {used} used; remove one"
            )
        self._known[kind, key] = origin, content

    def _unknown(self, manifest: Manifest, kind: str, origin: str) -> None:
        """Pass over what is no concern of ours, and say so where it looks like a slip of the pen."""
        if encrypted := stand_in(kind):
            self._lose(f"{origin}: kind: {encrypted.what}; {encrypted.hint}")
        # Lower case on both sides: slips are often in the capitals.
        elif meant := difflib.get_close_matches(kind[:80].lower(), _KINDS, 1, _ALIKE):
            shown = printable(kind, 80)
            note = f"{origin}: passed over: kind {shown}; did you mean {_KINDS[meant[0]]}?"
            self._reading.notes.append(note)
            self._reading.lost.append(note)
        # ExternalSecret, SealedSecret and the like: controllers make the Secret from them.
        elif kind.endswith("Secret"):
            name = printable(_metadata(manifest).get("name"), 80)
            self._reading.notes.append(
                f"{origin}: passed over: {printable(kind, 80)} {name}: its Secret is made in a cluster only"
            )

    def _secret(self, manifest: Manifest, key: ObjectKey, where: str) -> Mapping[str, bytes]:
        """Read the values of a Secret; ``stringData`` comes last and so wins, as on the API server."""
        values: dict[str, bytes] = {}
        for block in ("data", "stringData"):
            entries = manifest.get(block) or {}
            if not isinstance(entries, dict):
                self._problems.append(f"{where}: {block}: expected an object")
                continue
            for name, value in entries.items():
                try:
                    values[name] = _value(value, encoded=block == "data")
                except ValueError as error:
                    self._damaged(key, name, f"{where}: {block}[{printable(name, 80)}]: {error}")
                else:
                    self._inventory.damaged.discard((key, name))
        self._substitute(manifest, key, values, where)
        self._inventory.secrets[key] = values
        return values

    def _substitute(self, manifest: Manifest, key: ObjectKey, values: dict[str, bytes], where: str) -> None:
        """Fill in what annotations lead to, in the operator's own files."""
        metadata = _metadata(manifest)
        annotations = metadata.get("annotations")
        named = {
            name: text
            for name, text in (annotations.items() if isinstance(annotations, dict) else ())
            if name.startswith((ENV, FILE)) and isinstance(text, str)
        }
        if named and from_a_cluster(metadata):
            note = (
                f"{where}: {PREFIX}… is not followed: this Secret comes from a cluster, where anybody may annotate it"
            )
            self._reading.notes.append(note)
        elif named:
            result = substitutes(named, self._environment)
            values |= result.values
            self._reading.files += result.files
            self._inventory.damaged -= {(key, name) for name in result.values}
            for name, why in result.problems.items():
                self._damaged(key, name, f"{where}: {name}: {why}")

    def _lose(self, problem: str) -> None:
        self._problems.append(problem)
        self._reading.lost.append(problem)

    def _damaged(self, key: ObjectKey, name: str, problem: str) -> None:
        self._inventory.damaged.add((key, name))
        self._problems.append(problem)


def _metadata(manifest: Manifest) -> Mapping[str, Any]:
    metadata = manifest.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def _labels(manifest: Manifest) -> Mapping[str, object]:
    labels = _metadata(manifest).get("labels")
    return labels if isinstance(labels, dict) else {}


def _key(manifest: Manifest, where: str, default: str) -> ObjectKey | str:
    """Return an object's key, or what is wrong with its name."""
    fields = _metadata(manifest)
    name, namespace = fields.get("name"), fields.get("namespace")
    if name is None:
        return f"{where}: metadata.name: required field is missing"
    if not isinstance(name, str) or not api.NAME.fullmatch(name):
        return f"{where}: metadata.name: expected a Kubernetes name{_got(name)}"
    if namespace is not None and not (isinstance(namespace, str) and api.NAMESPACE.fullmatch(namespace)):
        return f"{where}: metadata.namespace: expected a Kubernetes namespace{_got(namespace)}"
    return ObjectKey(namespace or default, name)


def _got(value: object) -> str:
    return f", got '{printable(value, 80)}'" if isinstance(value, str) else "; quote the value"


def _value(value: object, *, encoded: bool) -> bytes:
    if value is None:
        return b""  # as on the API server
    if not isinstance(value, str):
        raise ValueError("expected a string; quote the value")  # noqa: TRY004 - of the manifest's author
    if not encoded:
        return value.encode("utf-8", "surrogatepass")
    if stand_in(value):
        return value.encode("utf-8", "surrogatepass")  # refused by name where a policy refers to it
    try:
        # White space is taken out first: ``base64`` wraps its output at 76 columns, and the API server's decoder passes
        # over line ends.
        return base64.b64decode("".join(value.split()), validate=True)
    except ValueError as error:
        raise ValueError("not base64; encode it, or move it to stringData as it is") from error
