"""Credentials files of others, read as the SDK of the gateway's filter reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credrotator.core.profiles import read_own_profile, read_profile

WHOLE = "[default]\naws_access_key_id = A\naws_secret_access_key = S\n"


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("[default]\nk = 1\nk = 2\n", {"k": "2"}),
        ("[default]\nk = 1\n[other]\nk = 3\n[default]\nl = 2\nk = 4\n", {"k": "4", "l": "2"}),
        ("[ default ] ; a comment\nk = v\n", {"k": "v"}),
        ("  [default]\nk = v", {"k": "v"}),
        ("[default]\r\nk = v\r\n", {"k": "v"}),
        ("k = outside\n[default]\nk = v\n", {"k": "v"}),
        ("[default]\nnothing at all\nk = v\n", {"k": "v"}),
        ("[default]\nK : v\n", {"k": "v"}),
        ("[default]\nk = v # comment\nl = v;w\nm = a=b:c\n", {"k": "v", "l": "v;w", "m": "a=b:c"}),
        ("[default]\nk = 'v'\nl = \"w\"\nm =\n", {"k": "v", "l": "w", "m": ""}),
        ("[default]\n# k = v\n\t; k = v\nl = w\n", {"l": "w"}),
        ("[default]\nk = v\n  more\n", {"k": "v\nmore"}),
        ("[default]\nnested =\n  k = v\nl = w\n", {"nested": "", "l": "w"}),
        ("[default]\n  k = v # comment\n", {"k": "v"}),
        ("[default]\n", {}),
        (WHOLE + "[broken\nx\n", {"aws_access_key_id": "A", "aws_secret_access_key": "S"}),
    ],
)
def test_what_the_filter_reads(text: str, options: dict[str, str]) -> None:
    """AWS SDK for Go v2: later options win, profiles are put together, and what is nothing is passed over."""
    assert read_profile(text, "default") == options


@pytest.mark.parametrize(
    "text",
    [
        "",
        "k = v\n",
        "[Default]\nk = v",
        "[profile default]\nk = v",
        "\ufeff[default]\nk = v",
        "[default\nk = v",
        "[]\nk = v",
    ],
)
def test_what_the_filter_does_not_find(text: str) -> None:
    """Another section, one for the other file, or none that can be told: to the filter there is no such profile."""
    assert read_profile(text, "default") is None
    assert read_profile("[profile x]\nk = v", "profile x") is None


def test_our_own_files_are_read_strictly() -> None:
    """An option given twice in a file of ours is somebody's edit, which is to be repaired."""
    assert read_own_profile(WHOLE, "default") == read_profile(WHOLE, "default")
    assert read_own_profile(WHOLE + "aws_access_key_id = B\n", "default") is None
    assert read_own_profile(WHOLE, "other") is None


@given(st.text(), st.text(min_size=1))
def test_any_text(text: str, profile: str) -> None:
    """A mapping of texts, or None; never another exception."""
    for name in (profile, "default"):
        found = read_profile(f"[default]\n{text}", name)
        assert found is None or all(isinstance(value, str) for value in found.values())
