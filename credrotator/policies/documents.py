"""YAML and JSON as Kubernetes reads them: the one way in which the project turns text into data. Pure.

Owns what a text may be: how deep, how much its aliases may multiply it, and what a tenant may not write at all. Reading
takes time in proportion to the text, whatever stands in it. Must not know what the data means.
Source: YAML 1.2 §3.2.1.3 (keys are unique); RFC 8259; sigs.k8s.io/yaml, which turns YAML into JSON.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from credrotator.core.errors import printable
from credrotator.core.json_text import DEEPEST, is_deep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TENANT_LIMIT_BYTES = 64 * 1024
"""Size of a text in an annotation; an object of the gateway's API has a few hundred bytes."""
MAX_DEPTH = DEEPEST
"""Levels of nesting, in YAML as in JSON; libyaml's binding ends the process at some thousands."""
# Above any file of people, and far below what fills the memory (the "billion laughs" are 10^9).
MAX_ALIASED = 400_000
"""Nodes that aliases may add to those that are written, about as many as go-yaml lets through."""
TOO_DEEP = "nested too deeply"

_SHALLOW = 1000
"""Brackets and characters of the longest line, of which a text has more before it can be too deep for libyaml."""
_BYTE_ORDER_MARK = "\ufeff"
_MARKS = re.compile(f"^{_BYTE_ORDER_MARK}", re.MULTILINE)
_NOTHING = re.compile(r"(?:\s|#[^\n]*)*")
_LOOKS_LIKE_JSON = re.compile(r'\{\s*"')
_CONTENT = re.compile(r"^[ \t]*[^#\s]", re.MULTILINE)
# Found by hand, since PyYAML stops at the first document that it cannot read, and the rest would be lost.
_SEPARATOR = re.compile(r"^---(?=\s|$)", re.MULTILINE)
# RecursionError: the JSON decoder of Python 3.11 recurses into lists, and is not limited by MAX_DEPTH before it is
# done.
_MALFORMED = (yaml.YAMLError, ValueError, RecursionError)


class DocumentError(ValueError):
    """A text is not the data that it should be.

    Attributes:
        reason: Why, in one line that can be shown.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def read_documents(text: str) -> Iterator[tuple[int, object]]:
    """Read what an operator wrote: many documents, each YAML or JSON, or JSON objects one after another.

    Anchors, aliases and merge keys are what they are to YAML, within bounds.

    Yields:
        The line on which a document begins, counted from 1, and its content; for one that cannot be read the line of
        the mistake, and a DocumentError. The others are read all the same.
    """
    if _BYTE_ORDER_MARK in text:
        # Files that were put together bring their marks along, which are no part of the text.
        text = _MARKS.sub("", text)
    start, line = 0, 1
    for separator in _SEPARATOR.finditer(text):
        yield from _documents_of(text[start : separator.start()], line)
        line += text.count("\n", start, separator.end())
        start = separator.end()
    yield from _documents_of(text[start:], line)


def read_document(text: str) -> object:
    """Read one document that an operator wrote; None for an empty one.

    Raises:
        DocumentError: It cannot be read, or there are several.
    """
    documents = list(read_documents(text))
    if len(documents) > 1:
        raise DocumentError(f"line {documents[1][0]}: expected one document")
    for line, content in documents:
        if isinstance(content, DocumentError):
            raise DocumentError(f"line {line}: {content.reason}")
        return content
    return None


def read_tenant_object(text: object) -> dict[str, Any]:
    """Read an object that anybody may have written: small, without aliases, merge keys and tags.

    Raises:
        DocumentError: It is something else.
    """
    content = _read_tenants(text)
    if not isinstance(content, dict):
        raise DocumentError("expected an object in YAML or JSON, as it would stand in spec")
    return content


def read_tenant_list(text: object) -> list[Any]:
    """Read a list that anybody may have written; see ``read_tenant_object``.

    Raises:
        DocumentError: It is something else.
    """
    content = _read_tenants(text)
    if not isinstance(content, list):
        raise DocumentError("expected a list in YAML or JSON")
    return content


def _read_tenants(text: object) -> object:
    if not isinstance(text, str):
        raise DocumentError("expected a text that holds YAML or JSON; write | before it, so that it stays a text")
    if len(text.encode("utf-8", "surrogatepass")) > TENANT_LIMIT_BYTES:
        raise DocumentError(f"longer than {TENANT_LIMIT_BYTES // 1024} KiB, which no such object needs")
    try:
        return _parse_tenants(text)
    except _MALFORMED as error:
        raise DocumentError(f"not readable as YAML or JSON: {_explained(error)[1]}") from error


def _documents_of(part: str, line: int) -> Iterator[tuple[int, object]]:
    """Read what stands between two separators, of which the first is on ``line``."""
    first = _CONTENT.search(part)
    if first is None:
        return
    # kubectl goes by the first character, too (k8s.io/apimachinery, ``yaml.GuessJSONStream``).
    if part.startswith("{", first.end() - 1):
        yield from _json_objects(part, line)
        return
    try:
        yield line + part.count("\n", 0, first.start()), _parse_yaml(part)
    except _MALFORMED as error:
        yield _misread(error, line)


def _json_objects(part: str, first_line: int) -> Iterator[tuple[int, object]]:
    """Read JSON objects back to back, as ``jq -c`` prints them, and kubectl reads them."""
    line, counted, begin = first_line, 0, _after_nothing(part, 0)
    while begin < len(part):
        line, counted = line + part.count("\n", counted, begin), begin
        try:
            content, end = _parse_json(part, begin)
        except _MALFORMED as error:
            yield _flow_mapping_at(part, begin, error, first_line=first_line, line=line)
            return
        yield line, content
        begin = _after_nothing(part, end)


def _flow_mapping_at(part: str, begin: int, json_error: Exception, *, first_line: int, line: int) -> tuple[int, object]:
    try:
        return line, _flow_mapping(part[begin:], json_error, _parse_yaml)
    except json.JSONDecodeError as error:
        return _misread(error, first_line)
    except _MALFORMED as error:
        return _misread(error, line)


def _after_nothing(part: str, position: int) -> int:
    match = _NOTHING.match(part, position)
    return match.end() if match else position


def _parse_tenants(text: str) -> object:
    begin = _after_nothing(text, 0)
    # The decoder goes as deep as a tenant likes, and ends deep in the stack; YAML's events are counted. They also know
    # brackets in quotes that JSON does not have.
    if not text.startswith("{", begin) or is_deep(text):
        return _parse_plain(text)
    try:
        content, end = _parse_json(text, begin)
        if _after_nothing(text, end) < len(text):
            raise json.JSONDecodeError("Extra data", text, end)
    except _MALFORMED as error:
        return _flow_mapping(text[begin:], error, _parse_plain)
    return content


def _parse_json(text: str, begin: int) -> tuple[object, int]:
    """Read one value, and tell where it ends. JSON comes first: it may be indented with tabs, which YAML forbids."""
    content, end = _JSON.raw_decode(text, begin)
    if is_deep(text[begin:end]):
        raise yaml.YAMLError(TOO_DEEP)
    return content, end


def _flow_mapping(text: str, json_error: Exception, parse: Callable[[str], object]) -> object:
    """Read what begins like JSON and is none: a mapping in YAML's flow style. JSON's mistakes are told in its words."""
    if not text.startswith("{"):
        raise json_error
    try:
        return parse(text)
    except _MALFORMED:
        if _LOOKS_LIKE_JSON.match(text):
            raise json_error from None
        raise


def _json_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _twice(name)
            seen.add(name)
    return content


def _no_constant(name: str) -> NoReturn:
    # NaN and Infinity, which Python's decoder takes and RFC 8259 §6 does not.
    raise ValueError(f"{name} is not JSON")


_JSON = json.JSONDecoder(object_pairs_hook=_json_object, parse_constant=_no_constant)


class _Loader(yaml.CSafeLoader):
    """Safe YAML: a key given twice is refused, a key is text, and so are a date and 190:20:30, as in Kubernetes."""

    def construct_document(self, node: yaml.Node) -> Any:
        """Look at all before anything is built: building merges ``<<`` into the nodes, and follows every alias."""
        nodes = _Nodes()
        size, _ = nodes.measure(node, 0, "")
        if size - nodes.written > MAX_ALIASED:
            raise yaml.YAMLError(f"aliases make it {size} values")
        return super().construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        built = super().construct_mapping(node, deep)
        return {key if isinstance(key, str) else _key_text(key): value for key, value in built.items()}


class _Nodes:
    """The nodes of one document: how many are written, and how many there are where aliases are followed."""

    def __init__(self) -> None:
        self.written = 0
        self._known: dict[int, tuple[int, int]] = {}

    def measure(self, node: yaml.Node, depth: int, key: str) -> tuple[int, int]:
        """Return how many nodes there are, and how many levels of collections below; in itself it has too many."""
        if isinstance(node, yaml.ScalarNode):
            self.written += 1
            return 1, -1
        # By identity: an alias is the very node that it names, so each is measured once however often it is used.
        known = self._known.get(id(node))
        size, height = known or (1, 0)
        if depth + height >= MAX_DEPTH:
            raise yaml.YAMLError(f"{key}: {TOO_DEEP}" if key else TOO_DEEP)
        if not known:
            self.written += 1
            for name, child in _parts(node):
                more, below = self.measure(child, depth + 1, name or key)
                size, height = size + more, max(height, below + 1)
            self._known[id(node)] = size, height
        return size, height


def _parts(node: yaml.Node) -> Iterator[tuple[str, yaml.Node]]:
    """Name the nodes in a node; the same key twice is refused."""
    if isinstance(node, yaml.SequenceNode):
        yield from (("", child) for child in node.value)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if isinstance(key, yaml.ScalarNode):
                if name in seen:
                    raise _twice(name, key.start_mark)
                seen.add(name)
            yield name, key
            yield name, value


_RESOLVED = {
    "tag:yaml.org,2002:int": re.compile(r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]+|0|[1-9][0-9_]*)\Z"),
    "tag:yaml.org,2002:float": re.compile(
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+][0-9]+)?\Z|[-+]?\.(?:inf|Inf|INF)\Z|\.(?:nan|NaN|NAN)\Z"
    ),
}
"""What is a number: YAML 1.1's without those of base 60 (190:20:30), which Kubernetes takes for text."""
# A date in an annotation is text to Kubernetes, and datetime objects would not survive as JSON.
_TEXT = {"tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value"}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, _RESOLVED.get(tag, pattern)) for tag, pattern in resolvers if tag not in _TEXT]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def _twice(key: str, mark: Any = None) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", mark)


def _key_text(key: object) -> str:
    return json.dumps(key) if isinstance(key, bool | int | float | None) else str(key)


def _parse_yaml(text: str) -> object:
    # Block style nests by indentation, so depth needs long lines; flow style needs brackets. What has few of either is
    # not deep, and the second parse is saved.
    if text.count("[") + text.count("{") + max(map(len, text.splitlines()), default=0) >= _SHALLOW:
        _refuse_deep(yaml.parse(text, yaml.CSafeLoader))
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - derived from the safe loader
    except (AttributeError, LookupError, TypeError) as error:
        # PyYAML's way of saying that a text does not fit its tag (``!!bool perhaps``, ``!!int ''``).
        raise yaml.YAMLError("a value does not fit its tag") from error


def _parse_plain(text: str) -> object:
    """Read YAML that has nothing but values: what PyYAML makes of tags and merge keys is no tenant's to try."""
    _refuse_deep(map(_plain, yaml.parse(text, yaml.CSafeLoader)))
    return _parse_yaml(text)


def _plain(event: yaml.Event) -> yaml.Event:
    refused = ""
    if isinstance(event, yaml.AliasEvent):
        refused = "aliases (*)"
    elif getattr(event, "tag", None) is not None:
        refused = "tags (!)"
    # Quoted, it is an ordinary key.
    elif isinstance(event, yaml.ScalarEvent) and event.value == "<<" and not event.style:
        refused = "merge keys (<<)"
    if refused:
        mark: Any = event.start_mark
        raise yaml.constructor.ConstructorError(None, None, f"{refused} are not allowed here", mark)
    return event


def _refuse_deep(events: Iterator[yaml.Event]) -> None:
    """Measure the nesting by libyaml's events, which need no stack."""
    depth = 0
    for event in events:
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise yaml.YAMLError(TOO_DEEP)


def _misread(error: Exception, line: int) -> tuple[int, DocumentError]:
    after, reason = _explained(error)
    return line + after, DocumentError(reason)


def _explained(error: Exception) -> tuple[int, str]:
    """Return line, counted from 0, and reason."""
    match error:
        case json.JSONDecodeError():
            return error.lineno - 1, printable(error.msg)
        case RecursionError() | yaml.YAMLError() if "nesting depth" in str(error) or isinstance(error, RecursionError):
            # PyYAML has a limit of its own since 6.0.4, lower than the stack's.
            return 0, TOO_DEEP
        case yaml.MarkedYAMLError(problem=str(problem)):
            return (error.problem_mark.line if error.problem_mark else 0), printable(problem)
        case _:
            pass
    return 0, printable(error)
