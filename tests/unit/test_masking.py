"""Foreign text without secrets, however they are written in it (reliability.md I9, 72)."""

from __future__ import annotations

import html
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credrotator.core.masking import MASK, SEARCHED, masked
from credrotator.sandbox.echofaults import ECHOES, Proof

SECRETS = [
    "cAn4ry/9zQ+w1tH 0dD:p4rTs",
    'q"uO\\tX<D>&amp;&#65;%41',
    "ünï漢😀 Zw9q",
    "x9F~kQ.2_-Zr7wLpT0vB",
    "s3kr1t-v4lu",
]
"""Of such characters as no message has in this order."""
SHOWN = 3
"""Characters of a secret that may be left at either end of a cut."""


def longest_left(secret: str, text: str) -> int:
    """Return the length of the longest part of a secret that stands in a text, or in what it decodes to."""
    readings = [text, html.unescape(text), text.replace("\\/", "/").replace("\\\\", "\\")]
    parts = {secret[start:end] for start in range(len(secret)) for end in range(start + 1, len(secret) + 1)}
    return max((len(part) for part in parts if any(part in reading for reading in readings)), default=0)


@pytest.mark.parametrize("form", ECHOES)
@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("lead", ["", "you sent ", ". " * 100])
def test_fault_72_no_form_of_a_secret_is_left(form: str, secret: str, lead: str) -> None:
    """Whole or cut, in whatever encoding: at most a few characters of it are left, and only by chance."""
    found = masked(lead + ECHOES[form](Proof("gateway", secret)), [secret])
    assert MASK in found
    assert longest_left(secret, found) <= SHOWN, found
    assert found.startswith(lead)


@given(
    secret=st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=8, max_size=60),
    layers=st.lists(st.sampled_from([quote, quote_plus, html.escape, lambda text: json.dumps(text)[1:-1]]), max_size=3),
    lead=st.text(max_size=20),
)
def test_fault_72_any_mixture_of_encodings(secret: str, layers: list[object], lead: str) -> None:
    """Up to three layers of escapes, in any order, over any secret."""
    written = secret
    for layer in layers:
        written = layer(written)  # type: ignore[operator]
    found = masked(lead + written, [secret])
    assert secret.strip() not in found or not secret.strip()
    assert written not in found or not secret.strip()


@pytest.mark.parametrize("keep", range(4, 28))
@pytest.mark.parametrize("end", ["", "…", "...", '"', "***", "</td>", " (truncated)"])
def test_fault_72_cut_anywhere(keep: int, end: str) -> None:
    """An issuer that cuts its message within the secret, with or without an ellipsis, leaves none of it."""
    secret = SECRETS[0]
    found = masked(f"bad secret {secret[:keep]}{end}", [secret])
    if end != " (truncated)" or keep >= 8:
        assert longest_left(secret, found) <= SHOWN, found


def test_what_is_no_secret_stays() -> None:
    """A text that repeats nothing is left as it is, also where a secret is made of words."""
    text = "client authentication failed: Invalid client secret (AADSTS7000215), see https://idp.example/?a=b&amp;c=%20"
    assert masked(text, ["sandbox-client-secret", "", " ", "x9F~kQ.2_-Zr7wLpT0vB"]) == text
    assert masked("anything", []) == "anything"


def test_a_long_text_is_cut_not_searched_for_ever() -> None:
    """A mebibyte of foreign text costs no more than its beginning."""
    assert len(masked("a" * 1_000_000, ["hunter2"])) == SEARCHED


@given(st.text(max_size=200), st.lists(st.text(max_size=20), max_size=3))
def test_never_raises(text: str, secrets: list[str]) -> None:
    """Whatever the text and the secrets are, lone surrogates and broken escapes included."""
    assert isinstance(masked(text, secrets), str)
