"""Characters that a client id or secret should not have, and where they are. Pure.

Source: RFC 6749 appendix A: VSCHAR, which is %x20-7E.
"""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

_NAMES = {"\0": "a NUL", "\t": "a tab", "\n": "a line feed", "\r": "a carriage return", "\ufeff": "a byte order mark"}
_NAMES |= {"\xa0": "a no-break space", "\x1b": "an escape"}


class OddCharacter(NamedTuple):
    """The first character outside of the range: what it is, and its place, counted from 1."""

    name: str
    place: int


def odd_character(text: str) -> OddCharacter | None:
    """Find the first character that issuers need not take; None if there is none."""
    for place, character in enumerate(text, 1):
        # VSCHAR. Many issuers take more, so callers warn, and do not refuse.
        if not " " <= character <= "~":
            named = _NAMES.get(character) or unicodedata.name(character, "a control character").lower()
            return OddCharacter(f"{named} (U+{ord(character):04X})", place)
    return None
