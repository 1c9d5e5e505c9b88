"""JSON that nobody vetted: read as ever, but for what is nested without end."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credrotator.core.json_text import DEEPEST, read_json

LEAVES = st.none() | st.booleans() | st.integers() | st.text(alphabet='[]{}"\\ax\n é')
DOCUMENTS = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet='[]{}"\\a'), inner))


@given(DOCUMENTS, st.sampled_from(["utf-8", "utf-16", "utf-32"]))
def test_it_reads_what_json_reads(document: object, encoding: str) -> None:
    """Brackets within strings count for nothing, whatever they are escaped or encoded as."""
    assert read_json(json.dumps(document)) == document
    assert read_json(json.dumps(document, ensure_ascii=False).encode(encoding)) == document


@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_fault_11_how_deep(brackets: str) -> None:
    """As deep as it may be it is read; a level more is no JSON, as anything else that is none (reliability.md, 11)."""
    opening = "[" if brackets == "[]" else '{"a":'

    def nested(levels: int) -> str:
        return opening * (levels - 1) + brackets + brackets[1] * (levels - 1)

    assert read_json(nested(DEEPEST)) == json.loads(nested(DEEPEST))
    for levels in (DEEPEST + 1, 100_000):
        with pytest.raises(ValueError, match="levels deep"):
            read_json(nested(levels))


@pytest.mark.parametrize("text", ["[" * 5000, '{"a":' * 5000, "[" * 400 + '"' + "]" * 400, "]" * 400])
def test_what_never_closes(text: str) -> None:
    """Neither the stack nor a string that never ends is walked into."""
    with pytest.raises(ValueError, match=r"levels deep|Expecting value"):
        read_json(text)


def test_many_beside_each_other() -> None:
    """Ten thousand objects in a list are no more than two levels."""
    document = [{"a": [1]}] * 10_000
    assert read_json(json.dumps(document)) == document
