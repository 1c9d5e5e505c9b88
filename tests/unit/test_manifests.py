"""Manifests in kubectl's manner: where they come from, what they look like, and what is wrong with which line."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from credrotator.core.errors import UsageError
from credrotator.core.model import ObjectKey, Static
from credrotator.files.manifests import ManifestReading, read_manifests
from credrotator.policies.reader import Defaults
from credrotator.providers import policy_reader
from tests.support.builders import Manifest, aws, azure, changed, from_files, from_stdin, policy, secret
from tests.unit.manifest_texts import POLICY, problem, text_of, value

EXAMPLES = Path(__file__).parents[2] / "examples"


NOT_READABLE = "not readable as YAML or JSON"


def test_files_and_directories(tmp_path: Path) -> None:
    """A directory stands for its .yaml, .yml and .json, sorted, without subdirectories; a file for itself."""
    for name in ("b.yaml", "a.json", "c.yml", "skipped.txt", "d.yaml.bak", ".hidden"):
        (tmp_path / name).write_text(text_of(changed(aws(), "metadata.name", name.strip("."))))
    (tmp_path / "sub.yaml").mkdir()
    (tmp_path / "sub.yaml" / "e.yaml").write_text("{broken")
    reading = from_files(tmp_path)
    assert reading.problems == []
    assert [key.name for key in reading.inventory.policies] == ["a.json", "b.yaml", "c.yml"]
    assert list(from_files(tmp_path / "skipped.txt").inventory.policies) == [ObjectKey("team-a", "skipped.txt")]


def test_standard_input_beside_files(tmp_path: Path) -> None:
    """``-`` is standard input, in its place among the names."""
    (tmp_path / "a.yaml").write_text(text_of(aws()))
    reading = read_manifests(["-", str(tmp_path)], io.StringIO(text_of(azure())), policy_reader(Defaults()))
    assert [policy.origin for policy in reading.inventory.policies.values()] == ["stdin:1", f"{tmp_path / 'a.yaml'}:1"]


def test_the_same_file_twice(tmp_path: Path) -> None:
    """Named twice, or by file and directory, it is one."""
    (tmp_path / "a.yaml").write_text(text_of(aws()))
    reading = from_files(tmp_path, tmp_path / "a.yaml")
    assert (list(reading.inventory.policies), reading.inventory.invalid) == ([POLICY], {})


def test_what_does_not_exist_is_wrong_use(tmp_path: Path) -> None:
    """Exit code 2 with the name, before anything is done."""
    with pytest.raises(UsageError, match=r"cannot read .*nowhere\.yaml: No such file"):
        from_files(tmp_path / "nowhere.yaml")
    with pytest.raises(UsageError, match=r"holds no file that ends in \.json, \.yaml, \.yml"):
        from_files(tmp_path)


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    """The file, not only the directory that it was found in."""
    (tmp_path / "a.yaml").write_text(text_of(aws()))
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfea\x00")
    assert "b.yaml:1: cannot be read: it is UTF-16" in from_files(tmp_path).problems[0]
    with pytest.raises(UsageError, match=r"standard input: .*UTF-8"):
        read_manifests(["-"], io.TextIOWrapper(io.BytesIO(b"\xff"), encoding="utf-8"), policy_reader(Defaults()))


@pytest.mark.parametrize("style", [text_of, lambda manifest: json.dumps(manifest, indent="\t")])
def test_files_of_windows(tmp_path: Path, style: Any) -> None:
    """A byte order mark and CRLF change nothing."""
    text = style(aws()).replace("\n", "\r\n")
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert list(from_files(tmp_path).inventory.policies) == [POLICY]


def test_a_byte_order_mark_hides_no_json(tmp_path: Path) -> None:
    """Broken JSON is explained in JSON's words behind a mark, too."""
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"kind" 1}')
    (found,) = from_files(tmp_path).problems
    assert found.endswith("Expecting ':' delimiter")


def test_the_examples_are_sound() -> None:
    """What the documentation shows reads without a problem or a warning."""
    reading = from_files(EXAMPLES)
    assert (reading.problems, reading.inventory.invalid) == ([], {})
    assert len(reading.inventory.policies) >= 6
    assert not [policy.warnings for policy in reading.inventory.policies.values() if policy.warnings]


def test_a_broken_document_does_not_take_the_rest_along() -> None:
    """The problem names file and line; the documents before and after it are read."""
    text = text_of(aws()) + "---\nkind: [\n---\n" + text_of(azure())
    reading = from_stdin(text)
    assert len(reading.inventory.policies) == 2
    (found,) = reading.problems
    broken = text[: text.index("kind: [")].count("\n") + 1
    assert found.startswith((f"stdin:{broken}:", f"stdin:{broken + 1}:"))
    assert NOT_READABLE in found


def test_lines_of_policies() -> None:
    """A policy's origin is the line on which it begins."""
    text = "# a comment\n---\n\n" + text_of(aws()) + "--- # another\n" + text_of(azure())
    origins = [policy.origin for policy in from_stdin(text).inventory.policies.values()]
    second = text[: text.index("--- # another")].count("\n") + 2
    assert origins == ["stdin:4", f"stdin:{second}"]


@pytest.mark.parametrize("text", ["", "\n", "---\n", "---\n---\n", "# nothing\n", "---\n# nothing\n---\nnull\n"])
def test_empty_documents_are_nothing(text: str) -> None:
    """Empty documents and comments are neither objects nor problems."""
    reading = from_stdin(text)
    assert (reading.problems, reading.inventory) == ([], ManifestReading().inventory)


@pytest.mark.parametrize("text", ["just text", "[1]", "42", "{}", "name: x", "kind: 1", "kind: null", '{"kind": []}'])
def test_what_is_no_object_is_a_problem(text: str) -> None:
    """Anything but an object with a kind is named with its line."""
    assert problem(text) == "stdin:1: expected a Kubernetes object with apiVersion, kind and metadata"


def test_json() -> None:
    """JSON may be indented with tabs, which YAML forbids; its mistakes are named by line, in JSON's words."""
    text = json.dumps(aws(), indent="\t")
    assert list(from_stdin(text).inventory.policies) == [POLICY]
    broken = text.replace('"kind":', '"kind"')
    assert problem(broken) == f"stdin:3: {NOT_READABLE}: Expecting ':' delimiter"


def test_a_flow_mapping_is_no_broken_json() -> None:
    """YAML that begins like JSON is YAML."""
    assert value(from_stdin('{"apiVersion": v1, kind: Secret, metadata: {name: key, namespace: team-a}, '
                            "stringData: {apiKey: x}}")) == "x"  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("kind: Secret\napiVersion: v1\nkind: Other\n", 3),
        ("kind: List\nitems:\n- a:\n    b: 1\n    b: 2\n", 5),
        ('{"kind": "Secret", "kind": "Other"}', 1),
        ('{\n\t"metadata": {"kind": 1,\n\t"kind": 2}}', 1),
    ],
)
def test_a_key_given_twice_is_refused(text: str, line: int) -> None:
    """Of two values under one key nobody can tell which is meant (YAML 1.2 §3.2.1.3)."""
    name = "b" if "b: 1" in text else "kind"
    assert problem(text) == f"stdin:{line}: {NOT_READABLE}: key '{name}' is given twice"


def test_merged_keys_are_not_given_twice() -> None:
    """``<<`` brings defaults, and a key beside it overrides them, also through two merges."""
    text = """
common: &common {metadata: {name: key, namespace: team-a}, stringData: {apiKey: a}}
deep: {er: {still: &other {<<: *common, stringData: {apiKey: b}}}}
<<: *other
apiVersion: v1
kind: Secret
"""
    assert value(from_stdin(text)) == "b"


def test_yaml_means_what_it_means_to_kubernetes() -> None:
    """A date is text, and a key is text, as if the YAML were JSON."""
    text = text_of(aws()).replace("annotations: {}", "annotations: {when: 2026-11-24, 1: one, yes: 'no'}")
    reading = from_stdin(text)
    assert (list(reading.inventory.policies), reading.inventory.invalid) == ([POLICY], {})


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "{a: " * 5_000, '{"a":' * 100_000, "- " * 20_000, "\n".join(" " * n + "a:" for n in range(1500))],
)
def test_deep_nesting_is_refused(text: str) -> None:
    """Libyaml's binding would end the process, without a word, at some ten thousand levels."""
    assert problem(text) == f"stdin:1: {NOT_READABLE}: nested too deeply"


def test_long_is_not_deep() -> None:
    """A long line and many lists are fine."""
    many = changed(aws(), "spec.awsCredentials.oidcExchangeToken.oidc.scopes", ["x" * 100] * 500)
    assert list(from_stdin(text_of(many)).inventory.policies) == [POLICY]
    inline = "kind: X\nitems: [" + "[], {}, " * 1000 + "]"
    assert from_stdin(inline).problems == []


TAGS = ["!!bool perhaps", "!!int ''", "!!int x", "!!float x", "!!timestamp x", "!!python/name:os.system", "!x y"]


TAGS += ["!!binary é", "!!set [a]", "!!omap {a: b}", "0x_", "9" * 5000, "*nowhere", "{[a]: b}", "\x01", "\ud800", "%"]


@pytest.mark.parametrize("scalar", TAGS)
def test_values_that_do_not_read(scalar: str) -> None:
    """Tags that do not fit, numbers without end, undefined aliases: a problem of that document, nothing else."""
    reading = from_stdin(f"kind: X\nvalue: {scalar}\n---\n" + text_of(aws()))
    (found,) = reading.problems
    assert NOT_READABLE in found
    assert found.isprintable()
    assert list(reading.inventory.policies) == [POLICY]


@pytest.mark.parametrize("kind", ["List", "BackendSecurityPolicyList", "SecretList"])
def test_lists(kind: str) -> None:
    """A v1 List and typed lists, with items that say what they are."""
    reading = from_stdin(text_of({"apiVersion": "v1", "kind": kind, "items": [aws(), secret("key", apiKey="x")]}))
    assert list(reading.inventory.policies) == [POLICY]
    assert value(reading) == "x"
    assert reading.inventory.policies[POLICY].origin == "stdin:1 items[0]"


def test_typed_lists_say_what_their_items_are() -> None:
    """The API server's own lists leave apiVersion and kind out of the items."""
    bare = {name: part for name, part in aws().items() if name in {"metadata", "spec"}}
    text = text_of({"apiVersion": aws()["apiVersion"], "kind": "BackendSecurityPolicyList", "items": [bare]})
    assert list(from_stdin(text).inventory.policies) == [POLICY]


def test_lists_in_lists() -> None:
    """Nested a few times they are read; items that are none are named by their place."""
    nested: Manifest = {"apiVersion": "v1", "kind": "List", "items": [aws(), 1]}
    reading = from_stdin(text_of({"apiVersion": "v1", "kind": "List", "items": [azure(), nested]}))
    assert len(reading.inventory.policies) == 2
    assert reading.problems == [
        "stdin:1 items[1] items[1]: expected a Kubernetes object with apiVersion, kind and metadata"
    ]


def test_a_list_that_contains_itself() -> None:
    """Lists nest ten deep at most, and so do those that YAML lets contain themselves."""
    assert problem("&a\napiVersion: v1\nkind: List\nitems: [*a]\n").endswith("items: nested too deeply")


@pytest.mark.parametrize("items", ["", "items:", "items: []"])
def test_an_empty_list_is_nothing(items: str) -> None:
    """``kubectl get`` that found nothing is no problem."""
    assert from_stdin(f"apiVersion: v1\nkind: List\n{items}\n").problems == []


def test_a_list_of_another_shape() -> None:
    """Items that are no list are named."""
    assert problem("apiVersion: v1\nkind: List\nitems: {a: b}\n") == "stdin:1: items: expected a list"


def test_a_bad_policy_stops_no_other() -> None:
    """Its problems are kept with file and line."""
    reading = from_stdin(text_of(changed(aws(), "spec.type", "x"), azure()))
    assert list(reading.inventory.policies) == [ObjectKey("team-a", "openai")]
    assert reading.inventory.invalid[POLICY].origin == "stdin:1"
    assert reading.problems == []


def test_shared_backends_are_seen_across_files(tmp_path: Path) -> None:
    """The rule is about all that was read, whatever its order."""
    for name in ("a", "b"):
        spec = aws()["spec"] | {"targetRefs": [{"name": "shared"}]}
        (tmp_path / f"{name}.yaml").write_text(text_of(policy(name, spec)))
    assert len(from_files(tmp_path).inventory.invalid) == 2


OTHERS = [
    "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: []",
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}",
    "apiVersion: example.com/v1\nkind: AllowList\nmetadata: {generateName: x-}",
    "apiVersion: example.com/v1\nkind: Secret\nmetadata: {}",
    "apiVersion: example.com/v1\nkind: ReferenceGrant\nspec: 1",
]


@pytest.mark.parametrize("text", OTHERS)
def test_other_kinds_are_ignored(text: str) -> None:
    """Also such as need no name, and kinds of the same name in somebody else's API."""
    reading = from_stdin(text)
    assert (reading.problems, reading.inventory) == ([], ManifestReading().inventory)


def test_a_grant_of_somebody_elses_api_permits_nothing() -> None:
    """Security 1: only Gateway API's ReferenceGrant is one."""
    grant: Manifest = {
        "apiVersion": "gateway.networking.k8s.io/v1beta1",
        "kind": "ReferenceGrant",
        "metadata": {"name": "x", "namespace": "shared"},
        "spec": {
            "from": [{"group": "aigateway.envoyproxy.io", "kind": "BackendSecurityPolicy", "namespace": "team-a"}],
            "to": [{"group": "", "kind": "Secret"}],
        },
    }
    target = ObjectKey("shared", "x")
    assert from_stdin(text_of(grant)).inventory.granted("team-a", target)
    forged = changed(grant, "apiVersion", "example.com/v1")
    assert not from_stdin(text_of(forged)).inventory.granted("team-a", target)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("metadata", ..., "metadata.name: required field is missing"),
        ("metadata", "x", "metadata.name: required field is missing"),
        ("metadata.name", None, "metadata.name: required field is missing"),
        ("metadata.name", 12, "metadata.name: expected a Kubernetes name; quote the value"),
        ("metadata.name", "../x", "metadata.name: expected a Kubernetes name, got '../x'"),
        ("metadata.name", "\x1b[2J", r"metadata.name: expected a Kubernetes name, got '\x1b[2J'"),
        ("metadata.namespace", "a/b", "metadata.namespace: expected a Kubernetes namespace, got 'a/b'"),
        ("metadata.namespace", ["x"], "metadata.namespace: expected a Kubernetes namespace; quote the value"),
        ("apiVersion", ..., "apiVersion: required field is missing"),
        ("apiVersion", 1, "apiVersion: required field is missing"),
    ],
)
@pytest.mark.parametrize("kind", ["Secret", "AIServiceBackend", "AIGatewayRoute", "ReferenceGrant"])
def test_the_kinds_that_matter_need_a_name(kind: str, path: str, value: Any, message: str) -> None:
    """Names become keys and texts of ``status``: each mistake is one problem with kind and field."""
    versions = {"Secret": "v1", "ReferenceGrant": "gateway.networking.k8s.io/v1"}
    manifest = changed(secret("key"), "kind", kind)
    manifest = changed(manifest, "apiVersion", versions.get(kind, "aigateway.envoyproxy.io/v1beta1"))
    assert problem(json.dumps(changed(manifest, path, value))) == f"stdin:1: {kind}: {message}"


def test_the_default_namespace() -> None:
    """Objects without a namespace are in the operator's, like the policies beside them."""
    bare = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": {"apiKey": "x"}}
    reading = from_stdin(text_of(bare, changed(aws(), "metadata.namespace", ...)), Defaults(namespace="ops"))
    assert list(reading.inventory.secrets) == [ObjectKey("ops", "key")]
    assert list(reading.inventory.policies) == [ObjectKey("ops", "bedrock")]


def test_static_policies_name_their_secret() -> None:
    """From the manifests to the value, end to end."""
    spec = {"type": "APIKey", "apiKey": {"secretRef": {"name": "key"}}}
    reading = from_stdin(text_of(policy("static", spec), secret("key", apiKey="x")))
    (found,) = reading.inventory.policies.values()
    assert isinstance(found.source, Static)
    assert found.source.secret is not None
    assert reading.inventory.reader(found.key)(found.source.secret).reveal() == "x"


WORDS = [
    "kind:",
    "List",
    "Secret",
    "apiVersion: v1",
    "items:",
    "- ",
    "  ",
    "\n",
    "---\n",
    "{",
    "}",
    "[",
    "]",
    '"',
    "&a ",
    "*a",
]


WORDS += [
    "!!int ",
    "!!binary ",
    "<<: ",
    "metadata:",
    "name: x",
    "data:",
    ": ",
    ",",
    "? ",
    "|",
    ">",
    "#",
    "\t",
    "%",
    "é",
    "\x00",
]


@settings(max_examples=400)
@given(text=st.text() | st.lists(st.sampled_from(WORDS), max_size=40).map("".join))
def test_any_text_is_read_or_reported(text: str) -> None:
    """Nothing but a reported, printable problem comes of any text; the document after it is read all the same."""
    reading = from_stdin(f"{text}\n---\n{json.dumps(azure())}")
    assert all(found.isprintable() for found in reading.problems)
    assert ObjectKey("team-a", "openai") in reading.inventory.policies
    assert len(reading.problems) == len(from_stdin(text).problems)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


kinds = st.sampled_from(
    [
        ("v1", "Secret"),
        ("v1", "List"),
        ("aigateway.envoyproxy.io/v1beta1", "AIServiceBackend"),
        ("aigateway.envoyproxy.io/v1beta1", "AIGatewayRoute"),
        ("gateway.networking.k8s.io/v1", "ReferenceGrant"),
        ("aigateway.envoyproxy.io/v1beta1", "BackendSecurityPolicy"),
    ]
)


@settings(max_examples=300)
@given(
    kind=kinds, parts=st.fixed_dictionaries({}, optional=dict.fromkeys(["spec", "data", "stringData", "items"], values))
)
def test_any_content_of_any_kind(kind: tuple[str, str], parts: dict[str, Any]) -> None:
    """Every kind that matters may hold anything."""
    metadata = {"name": "x", "namespace": "team-a"}
    reading = from_stdin(json.dumps({"apiVersion": kind[0], "kind": kind[1], "metadata": metadata, **parts}))
    assert all(found.isprintable() for found in reading.problems)


def test_objects_of_one_name() -> None:
    """Two that differ are warned of, with their kind and both places; two that say the same are no matter."""
    spec = {"backendSecurityPolicyRef": {"name": "a"}}
    meta = {"name": "x", "namespace": "team-a"}
    backend = {"apiVersion": "aigateway.envoyproxy.io/v1alpha1", "kind": "AIServiceBackend", "metadata": meta}
    grant = {"apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant", "metadata": meta}
    route = {**backend, "kind": "AIGatewayRoute", "spec": {"rules": [{"backendRefs": [{"name": "b"}]}]}}
    permission = {
        "from": [{"group": "aigateway.envoyproxy.io", "kind": "BackendSecurityPolicy", "namespace": "team-b"}],
        "to": [{"group": "", "kind": "Secret"}],
    }
    pairs = [
        (secret("x", client_secret="1"), secret("x", client_secret="2")),
        (backend, {**backend, "spec": spec}),
        (grant, {**grant, "spec": permission}),
        (route, {**route, "spec": {}}),
    ]
    for first, second in pairs:
        (warning,) = from_stdin(text_of(first, second, second)).warnings
        used = "both are" if first["kind"] == "ReferenceGrant" else "the latter is"
        kind = first["kind"]
        places = r"in stdin:1 and in stdin:\d+"
        assert re.fullmatch(rf"stdin:\d+: {kind} team-a/x: defined twice, {places}; {used} used; remove one", warning)
        assert from_stdin(text_of(first, first)).warnings == []
    assert from_stdin(text_of(*(first for first, _ in pairs))).warnings == []
