"""Foreign text without the secrets that it may repeat, however they are written in it. Pure.

Owns the one search for a secret in what issuers and vendors say: an endpoint may echo the request, as it came (a form,
a Basic pair), as its log or its page writes it (JSON, HTML), several of these at once, or only a part of it. Text is
decoded step by step, and each character remembers the part of the original that it came from, so that any mixture is
covered at its own place. Source: reliability.md I9, 72.
"""

from __future__ import annotations

import base64
import re
import sys
from dataclasses import dataclass
from html.entities import html5
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MASK = "***"
SEARCHED = 4096
"""Characters of a text that are looked at; the rest is cut off, since nobody shows that much."""
DECODINGS = 3
"""How many encodings may lie over one another: JSON in HTML in a form."""
RUN = 8
"""Characters in a row that are masked wherever they stand; of a short secret half of it, at least SHORTEST_RUN."""
SHORTEST_RUN = 5
FRAGMENT = 4
"""Characters in a row that are masked where the text was cut within the secret."""
LONGEST_ENCODED = 8192
"""Characters of a secret that is looked for in Base64 too; the search takes longer with its length."""

_CUT_AFTER = re.compile(r"""\W*$|\s*(?:…|\.\.|\*|•|[<"'])""")
_CUT_BEFORE = re.compile(r"^\W*$|(?:…|\.\.|\*|•)\s*$")
_BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-")
_PERCENT = r"(?P<percent>(?:%[0-9A-Fa-f]{2})+)"
_REFERENCE = r"&#(?P<decimal>\d{1,7});?|&#[xX](?P<number>[0-9A-Fa-f]{1,6});?|&(?P<entity>[A-Za-z][A-Za-z0-9]{1,30});"
_BACKSLASH = r"""(?P<hex>(?:\\x[0-9A-Fa-f]{2})+)|(?P<unicode>(?:\\u[0-9A-Fa-f]{4})+)|\\(?P<plain>["'\\/bfnrt])"""
_ENCODINGS = tuple(re.compile(pattern) for pattern in (_PERCENT, _REFERENCE, _BACKSLASH))
"""URLs and forms; HTML and XML; JSON and languages' literals. One at a time: a secret may look like any of them."""
_CONTROLS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def masked(text: str, secrets: Iterable[str]) -> str:
    """Return the beginning of a text with three stars wherever a secret, or a telling part of one, stands in it."""
    needles = [needle for secret in secrets for needle in _needles(secret)]
    if not needles:
        return text
    # Marked first and replaced at the end: a star that is put in early would hide the rest of a secret from the next
    # reading.
    covered = [False] * len(text[:SEARCHED])
    for reading in _readings(_Decoded.of(text[:SEARCHED])):
        for needle in needles:
            for start, end in needle.places(reading.text):
                first, last = reading.spans[start][0], reading.spans[end - 1][1]
                covered[first:last] = [True] * (last - first)
    return "".join(_with_stars(text[:SEARCHED], covered))


def _readings(whole: _Decoded) -> Iterable[_Decoded]:
    """Return a text and all that it reads as after some decodings, in any order."""
    # By their text: different orders of decoding often lead to the same, which is searched once.
    readings, latest = {whole.text: whole}, [whole]
    for _ in range(DECODINGS):
        further = [
            reading.decoded(escape) for reading in latest for escape in _ENCODINGS if escape.search(reading.text)
        ]
        latest = [each for each in further if each.text not in readings]
        readings |= {each.text: each for each in latest}
    return readings.values()


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A text as it reads after some decoding, with the span of the original that each character came from."""

    text: str
    spans: list[tuple[int, int]]

    @classmethod
    def of(cls, text: str) -> _Decoded:
        return cls(text, [(place, place + 1) for place in range(len(text))])

    def decoded(self, escape: re.Pattern[str]) -> _Decoded:
        """Undo one layer of one kind of escapes."""
        characters: list[str] = []
        spans: list[tuple[int, int]] = []
        place = 0
        for match in escape.finditer(self.text):
            characters += self.text[place : match.start()]
            spans += self.spans[place : match.start()]
            for character, start, end in _unescaped(match):
                characters.append(character)
                spans.append((self.spans[start][0], self.spans[end - 1][1]))
            place = match.end()
        return _Decoded("".join([*characters, self.text[place:]]), [*spans, *self.spans[place:]])


def _unescaped(match: re.Match[str]) -> Iterator[tuple[str, int, int]]:
    """Yield the characters of an escape, each with the part of it that stands for it."""
    kind, start = match.lastgroup or "", match.start()
    written = match[kind]
    if kind in {"percent", "hex"}:
        yield from _from_bytes(bytes.fromhex(re.sub(r"%|\\x", "", written)), start, 3 if kind == "percent" else 4)
        return
    if kind == "unicode":
        units = bytes.fromhex(written.replace("\\u", ""))
        yield from _from_units(units, start)
        return
    yield _character(kind, written), start, match.end()


def _from_bytes(content: bytes, start: int, width: int) -> Iterator[tuple[str, int, int]]:
    try:
        characters = content.decode()
    except UnicodeDecodeError:
        characters = content.decode("latin-1")
    place = start
    latin = len(characters) == len(content)
    for character in characters:
        end = place + width * (1 if latin else len(character.encode()))
        yield character, place, end
        place = end


def _from_units(units: bytes, start: int) -> Iterator[tuple[str, int, int]]:
    place = start
    for character in units.decode("utf-16-be", "replace"):
        end = place + 6 * (len(character.encode("utf-16-be", "surrogatepass")) // 2)
        yield character, place, min(end, start + 3 * len(units))
        place = min(end, start + 3 * len(units) - 1)


def _character(kind: str, written: str) -> str:
    match kind:
        case "entity":
            # Of the few that stand for two characters the first will do: no secret has them.
            return html5.get(f"{written};", " ")[0]
        case "plain":
            return _CONTROLS.get(written, written)
        case _:
            pass
    code = int(written, 10 if kind == "decimal" else 16)
    return chr(code) if code <= sys.maxunicode else " "


@dataclass(frozen=True, slots=True)
class _Needle:
    """One way in which a secret may be written, to be looked for."""

    text: str
    encoded: bool = False

    def places(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield where the secret, or a part of it, stands."""
        folded, own = _folded(text), _folded(self.text)
        places = (*_runs(folded, own), *_cut(folded, own))
        # Of Base64 the whole word: the characters at either end tell a few bits of the secret too.
        yield from (_word(text, *place) for place in places) if self.encoded else places


def _word(text: str, start: int, end: int) -> tuple[int, int]:
    while start and text[start - 1] in _BASE64:
        start -= 1
    while end < len(text) and text[end] in _BASE64:
        end += 1
    return start, end


def _folded(text: str) -> str:
    """Take a plus for the blank that it stands for in a form."""
    return text.replace("+", " ")


def _runs(text: str, secret: str) -> Iterator[tuple[int, int]]:
    """Yield all stretches of the text that are long stretches of the secret."""
    length = min(len(secret), max(SHORTEST_RUN, min(RUN, len(secret) // 2)))
    parts = {secret[place : place + length] for place in range(len(secret) - length + 1)}
    for place in range(len(text) - length + 1):
        if text[place : place + length] in parts:
            yield place, place + length


def _cut(text: str, secret: str) -> Iterator[tuple[int, int]]:
    """Yield what is left of the secret where a text, or an ellipsis in it, begins or ends within it."""
    # An issuer that cuts its messages at a fixed length may cut within the secret, and the part that is left is too
    # short for the search by stretches.
    for length in range(FRAGMENT, min(RUN, len(secret))):
        for match in re.finditer(re.escape(secret[:length]), text):
            if _CUT_AFTER.match(text, match.end()):
                yield match.span()
        for match in re.finditer(re.escape(secret[-length:]), text):
            if _CUT_BEFORE.search(text[: match.start()]):
                yield match.span()


def _needles(secret: str) -> Iterator[_Needle]:
    """Yield the forms of a secret that decoding does not lead back to it: itself, and Base64 of it or of its form."""
    # Secrets are sent without the line end that a file gave them, and that is what an issuer repeats.
    own = secret.strip()
    if not own:
        return
    yield _Needle(own)
    if len(own) > LONGEST_ENCODED:
        return
    for form in {own, quote_plus(own)}:
        for before in range(3):
            # In Base64 a text reads in three ways, by what stands before it; the ends depend on the neighbours.
            encoded = base64.b64encode(b"\0" * before + form.encode("utf-8", "replace")).decode()
            # Of the first characters some bits belong to what stands before; they differ from text to text.
            core = encoded[(0, 2, 3)[before] :].rstrip("=")
            core = core[:-1] if encoded.endswith("=") else core
            if len(core) >= FRAGMENT:
                yield from (_Needle(text, encoded=True) for text in {core, core.replace("+", "-").replace("/", "_")})


def _with_stars(text: str, covered: list[bool]) -> Iterator[str]:
    inside = False
    for character, hidden in zip(text, covered, strict=True):
        if not hidden:
            yield character
        elif not inside:
            yield MASK
        inside = hidden
