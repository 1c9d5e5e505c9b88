"""One reading of YAML and JSON: what an operator may write, what a tenant may not, and that nothing takes for ever."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credrotator.policies.documents import (
    MAX_ALIASED,
    MAX_DEPTH,
    TENANT_LIMIT_BYTES,
    DocumentError,
    read_document,
    read_documents,
    read_tenant_object,
)

pytestmark = pytest.mark.timeout(60)
"""Far more than any of these takes on a busy machine; what is not linear takes hours."""


def contents(text: str) -> list[Any]:
    """Read all documents of an operator."""
    return [content for _, content in read_documents(text)]


def refused(text: object) -> str:
    """Read an object of a tenant that has to be refused; return why."""
    with pytest.raises(DocumentError) as caught:
        read_tenant_object(text)
    assert caught.value.reason.isprintable()
    assert len(caught.value.reason) < 500
    return caught.value.reason


def outcome(text: str) -> dict[str, Any] | DocumentError:
    """Read an object of a tenant, or return why not."""
    try:
        return read_tenant_object(text)
    except DocumentError as error:
        return error


def mistakes(text: str) -> list[tuple[int, str]]:
    """Return line and reason of what cannot be read."""
    return [(line, content.reason) for line, content in read_documents(text) if isinstance(content, DocumentError)]


class TestStreams:
    """Several documents in one text, in the ways in which tools write them."""

    @pytest.mark.parametrize(
        "between", ["\n", "", " ", "\n\n", "\r\n", "\n# a comment\n", "\n\ufeff", "\n---\n", "\n--- \n"]
    )
    def test_json_objects_back_to_back(self, between: str) -> None:
        """``jq -c`` prints one a line, and kubectl takes them in any spacing."""
        assert contents(between.join(['{"a": 1}', '{"b": [2, 3]}', '{\n\t"c": {}}'])) == [
            {"a": 1},
            {"b": [2, 3]},
            {"c": {}},
        ]

    def test_lines_of_json_objects(self) -> None:
        """Each is named by its own first line, and so is a mistake in a later one; those before it are read."""
        text = '\n{"a": 1}\n{"b":\n 2} {"c": 3}\n{"d"\n: }\n{"e": 5}'
        assert [line for line, _ in read_documents(text)] == [2, 3, 4, 6]
        assert mistakes(text) == [(6, "Expecting value")]

    def test_what_follows_an_object_is_one(self) -> None:
        """Something else after it is a mistake, not a further document."""
        assert len(mistakes('{"a": 1}, {"b": 2}')) == 1
        assert len(mistakes('{"a": 1}\nkind: Secret')) == 1

    @pytest.mark.parametrize("second", ["a: 1", "{a: 1}", '{"a": 1}', "--- # again\na: 1"])
    def test_byte_order_marks_in_mid_stream(self, second: str) -> None:
        """``cat`` of files from Windows leaves their marks where the files began."""
        assert contents(f"\ufeffb: 2\n---\n\ufeff{second}") == [{"b": 2}, {"a": 1}]
        assert contents(f"\ufeffb: 2\n\ufeff---\n{second}") == [{"b": 2}, {"a": 1}]

    def test_one_document(self) -> None:
        """A file of settings is one; nothing at all is None."""
        assert read_document("# nothing\n") is None
        assert read_document("a: [1]") == {"a": [1]}
        for text in ("a: 1\n---\nb: 2", "a: [", '{"a": 1} {"b": 2}'):
            with pytest.raises(DocumentError, match=r"line [0-9]: "):
                read_document(text)


class TestValues:
    """What a plain word is, as sigs.k8s.io/yaml has it."""

    @pytest.mark.parametrize(
        "text",
        [
            "190:20:30",
            "1:30",
            "-12:30:45",
            "190:20:30.15",
            "1_0:59",
            "2026-11-24",
            "2026-99-99",
            "2026-11-24T12:00:00Z",
            "=",
        ],
    )
    def test_text(self, text: str) -> None:
        """Numbers of base 60 and dates are YAML 1.1's only; a secret may look like one."""
        assert contents(f"a: {text}") == [{"a": text}]

    @pytest.mark.parametrize(
        ("text", "number"),
        [
            ("0", 0),
            ("-17", -17),
            ("1_000", 1000),
            ("0x1F", 31),
            ("0b11", 3),
            ("017", 15),
            ("1.5", 1.5),
            ("1.5e+3", 1500.0),
            (".5", 0.5),
        ],
    )
    def test_numbers(self, text: str, number: float) -> None:
        """The others are what they were."""
        assert contents(f"a: {text}") == [{"a": number}]

    @pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
    def test_what_is_not_json(self, constant: str) -> None:
        """RFC 8259 §6; as YAML it is text."""
        assert contents(f'{{"a": {constant}}}') == [{"a": constant}]


class TestBounds:
    """An operator's text may be long and have aliases; it may not multiply."""

    def test_many_separators(self) -> None:
        """300 000 empty documents are nothing, and soon over."""
        assert contents("---\n" * 300_000) == []

    @pytest.mark.parametrize("reference", ["[{}]", "{{<<: [{}]}}", "{{a: [{}]}}"])
    def test_aliases_that_multiply(self, reference: str) -> None:
        """Nine times nine times nine: refused before anything is built, by merge keys and as Lists too."""
        text = "a0: &a0 {x: [1, 2, 3]}\n"
        for level in range(1, 10):
            text += f"a{level}: &a{level} {reference.format(','.join([f'*a{level - 1}'] * 9))}\n"
        ((_, reason),) = mistakes(text)
        assert "aliases make it" in reason

    def test_aliases_that_repeat(self) -> None:
        """What a file of a thousand policies shares is no multiplication."""
        text = "common: &common {a: 1, b: [1, 2]}\nall:\n" + "- {<<: *common, c: 1}\n- *common\n" * 1000
        ((document),) = contents(text)
        assert len(document["all"]) == 2000
        assert MAX_ALIASED > 2000 * 6

    @pytest.mark.parametrize(
        "text",
        [
            "&a [*a]",
            "&a [*a, *a]",
            "a: &a {b: {c: [*a, *a]}}",
            "".join(f"a{n}: &a{n} [{f'*a{n - 1}' if n else 'x'}]\n" for n in range(20_000)),
            "".join(f"a{n}: &a{n} {{<<: {f'*a{n - 1}' if n else '{x: y}'}, k{n}: 1}}\n" for n in range(2_000)),
        ],
    )
    def test_aliases_that_nest(self, text: str) -> None:
        """What contains itself, or a chain of what contains the one before, is deeper than anything that is written."""
        ((_, reason),) = mistakes(text)
        assert reason.endswith("nested too deeply")

    @pytest.mark.parametrize("innermost", ["", "b"])
    @pytest.mark.parametrize("quote", ["", '"'], ids=["yaml", "json"])
    def test_depth(self, quote: str, innermost: str) -> None:
        """The same limit for YAML and for JSON, in files and in what a tenant writes."""
        inner = f"{quote}{innermost}{quote}: 1" if innermost else ""

        def nested(levels: int) -> str:
            return f"{{{quote}a{quote}: " * (levels - 1) + f"{{{inner}}}" + "}" * (levels - 1)

        assert not mistakes(nested(MAX_DEPTH))
        read_tenant_object(nested(MAX_DEPTH))
        for levels in (MAX_DEPTH + 1, 8_000):
            ((_, reason),) = mistakes(nested(levels))
            assert reason.endswith("nested too deeply"), levels
            with pytest.raises(DocumentError, match="nested too deeply"):
                read_tenant_object(nested(levels))

    def test_brackets_in_quotes_of_yaml(self) -> None:
        """They nest nothing, in whatever kind of quotes."""
        brackets = "[" * (MAX_DEPTH + 1)
        assert read_tenant_object(f'{{a: \'{brackets}\', "b": "{brackets}"}}') == {"a": brackets, "b": brackets}

    def test_a_key_given_twice_among_very_many(self) -> None:
        """Found in time that grows with the text."""
        text = "{" + ",".join(f'"k{number}":1' for number in range(30_000)) + ',"k29999":1}'
        assert mistakes(text) == [(1, "key 'k29999' is given twice")]


TAGS = [
    "!!int ''",
    "!!float ''",
    "!!bool perhaps",
    "!!timestamp x",
    "!!binary x",
    "!!str x",
    "!!null x",
    "!!set {a}",
]
TAGS += [
    "!!omap [a: 1]",
    "!!python/name:os.system",
    "!custom x",
    "! x",
    "!<tag:yaml.org,2002:int> 1",
    "!!map {a: 1}",
]
HOSTILE = ["[" * 60_000, "{" * 60_000, "- " * 30_000, "? " * 30_000, "{a: " * 15_000, '{"a":' * 12_000]
HOSTILE += [
    "a: [" + "{}," * 15_000 + "]",
    "%TAG ! x\n" * 5_000 + "--- a",
    "a: &" + "x" * 60_000,
    "{" + "a," * 30_000,
]
HOSTILE += [
    '"' + "\\u0041" * 10_000 + '"',
    "'" * 60_001,
    "&a " * 20_000,
    "# c\n" * 15_000,
    "a: |\n" + " x\n" * 20_000,
]
HOSTILE += ["\x00", "\ud800", "a: \x1b[2J", "\t", "%", "@", "`", "a: \u2028b", "9" * 60_000, "a: " + "9" * 60_000]


class TestTenants:
    """An annotation may be anybody's: fault 56."""

    @pytest.mark.parametrize(
        "text", ["{a: 1}", '{"a": 1}', "a: 1", "# c\na: 1\n", '\n\t{\n\t"a": 1}', "--- \na: 1", "? a\n: 1"]
    )
    def test_plain_objects(self, text: str) -> None:
        """In YAML or JSON, with comments."""
        assert read_tenant_object(text) == {"a": 1}

    @pytest.mark.parametrize("value", TAGS)
    def test_tags(self, value: str) -> None:
        """Of any kind, whether or not the value fits."""
        for text in (
            f"a: {value}",
            f"a: [{{b: {value}}}]",
            value,
            f"{value}: a",
            f"%TAG !e! tag:e,2000:\n---\na: {value}",
        ):
            assert "not readable as YAML or JSON" in refused(text)
        assert "tags (!) are not allowed here" in refused(f"a: {value}")

    @pytest.mark.parametrize("text", ["a: &x 1\nb: *x", "&a [*a]", "a: &a {b: 1}\nc: [*a]", "&a a: *a"])
    def test_aliases(self, text: str) -> None:
        """None, not even of a scalar."""
        assert "aliases (*)" in refused(text)

    @pytest.mark.parametrize(
        "text", ["a: &a {b: 1}\nc: {<<: *a}", "<<: {a: 1}", "a: {<<: {b: 1}}", "<<: [{a: 1}]", "? <<\n: {a: 1}"]
    )
    def test_merge_keys(self, text: str) -> None:
        """None; a key that is quoted is a key."""
        assert "merge keys (<<)" in refused(text)
        assert read_tenant_object('"<<": 1') == {"<<": 1}

    def test_an_anchor_alone_is_harmless(self) -> None:
        """Nothing refers to it."""
        assert read_tenant_object("a: &x 1") == {"a": 1}

    @pytest.mark.parametrize(
        "text", ["a: 1\na: 2", '{"a": 1, "a": 2}', "{a: {b: 1, b: 2}}", '{"a": [{"b": 1, "b": 2}]}']
    )
    def test_a_key_given_twice(self, text: str) -> None:
        """Of two values nobody can tell which is meant."""
        assert "is given twice" in refused(text)

    @pytest.mark.parametrize("text", ["", "x", "[]", "1", "null", "# c", '"a"', "190:20:30"])
    def test_no_object(self, text: str) -> None:
        """Whatever else it is."""
        assert refused(text) == "expected an object in YAML or JSON, as it would stand in spec"

    @pytest.mark.parametrize("text", ["a: 1\n---\nb: 2", '{"a": 1} {"b": 2}', "a: 1\n...\n---\nb: 1", '{"a": 1}\nb: 2'])
    def test_several(self, text: str) -> None:
        """One object, not a stream of them."""
        assert refused(text).startswith("not readable as YAML or JSON: ")

    @pytest.mark.parametrize("value", [None, 1, True, ["a"], {"a": 1}])
    def test_no_text(self, value: object) -> None:
        """A manifest in a file may hold an object where the API has a text."""
        assert "write |" in refused(value)

    @pytest.mark.parametrize("letter", ["x", "ä", "\U0001f511"])
    def test_size(self, letter: str) -> None:
        """64 KiB, in bytes of UTF-8."""
        count = (TENANT_LIMIT_BYTES - len("a: ")) // len(letter.encode())
        assert read_tenant_object("a: " + letter * count) == {"a": letter * count}
        assert refused("a: " + letter * (count + 1)).startswith("longer than 64 KiB")
        assert refused("a: " + "x" * 2**20).startswith("longer than 64 KiB")

    @pytest.mark.parametrize("text", HOSTILE)
    def test_nothing_takes_long(self, text: str) -> None:
        """Whatever is written into an annotation is read, or refused, soon, and never by another exception."""
        assert isinstance(outcome(text), dict | DocumentError)

    @given(st.text() | st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")))
    def test_any_text(self, text: str) -> None:
        """An object, or a DocumentError that can be shown."""
        read = outcome(text)
        assert isinstance(read, dict) or read.reason.isprintable()

    @given(st.dictionaries(st.text(), st.recursive(st.none() | st.booleans() | st.text(), st.lists, max_leaves=5)))
    def test_any_object_as_json(self, content: dict[str, Any]) -> None:
        """What a program writes is read as it was."""
        assert read_tenant_object(json.dumps(content)) == content
