"""Profiles of a shared-credentials file: sections in brackets, options below them. Pure.

Owns the reading as the gateway's filter does it: what its SDK takes is no mistake, and what that passes over is not
there. A section that comes twice goes on, an option that comes twice counts as it stands last, a line that is nothing
is passed over. Source: AWS SDK for Go v2, ``config/internal/ini`` and ``config/shared_config.go``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_COMMENT = re.compile(r"[ \t][#;]")
_SEPARATOR = re.compile(r"[=:]")
_PLAIN_LINE = re.compile(r"([a-z_]+) = ([!-~]+)\n")
_PLAIN = re.compile(rf"\[[a-z]+\]\n(?:{_PLAIN_LINE.pattern.replace('(', '(?:')})+")
"""A file as we write it: one section, then options whose values have no white space. Read like this it takes a
fiftieth of the time, and every rotation reads back what it is about to publish."""
_CONFIGS_OWN = "profile "
"""Begins sections of the other file, which in a credentials file nobody reads."""


def read_profile(text: str, profile: str) -> Mapping[str, str] | None:
    """Return the options of one profile by their names in small letters; None if it is not there."""
    if profile.startswith(_CONFIGS_OWN):
        return None
    return _sections(text).get(profile)


def read_own_profile(text: str, profile: str) -> Mapping[str, str] | None:
    """Return the options of one profile of a file as we write it; None where anything is odd about the file.

    Stricter than the SDK: an option that comes twice in a file of ours is somebody's edit, and a value is all that
    stands in its line.
    """
    if _PLAIN.fullmatch(text) and text.startswith(f"[{profile}]\n"):
        options = dict(_PLAIN_LINE.findall(text))
        if len(options) == text.count("\n") - 1:
            return options
    import configparser  # noqa: PLC0415 - a file as we write it needs none

    parser = configparser.RawConfigParser(default_section="")
    try:
        parser.read_string(text)
        return dict(parser[profile])
    except (configparser.Error, KeyError):
        return None


def _sections(text: str) -> dict[str, dict[str, str]]:
    sections: dict[str, dict[str, str]] = {}
    section: dict[str, str] | None = None
    option = ""
    for line in text.split("\n"):
        if not line.strip() or line.lstrip(" \t").startswith(("#", ";")):
            continue
        if (name := _section_name(line)) is not None:
            # Options under a section without a name are nobody's.
            section, option = sections.setdefault(name, {}) if name else None, ""
        elif section is not None:
            option = _take_line(line, section, option)
    return sections


def _take_line(line: str, section: dict[str, str], option: str) -> str:
    """Read a line of a section, of which ``option`` was read last; return which one is the last now.

    An indented line goes on with the value before it. One that looks like an option is one, unless that value is empty:
    then it belongs to something nested, which no credential is.
    """
    indented = line.startswith((" ", "\t"))
    options = _option(line if indented else _COMMENT.split(line, maxsplit=1)[0])
    if options and indented and option and not section[option]:
        return option
    if options:
        name, value = options
        section[name] = _COMMENT.split(value, maxsplit=1)[0].strip() if indented else value
        return name
    if indented and option and section[option]:
        section[option] += "\n" + line.lstrip(" \t")
    return option


def _section_name(line: str) -> str | None:
    """Read ``[name] ; comment``; None for any other line."""
    bracketed = re.split("[#;]", line, maxsplit=1)[0].strip()
    if not (bracketed.startswith("[") and bracketed.endswith("]")):
        return None
    return " ".join(re.split(r"[ \t]+", bracketed[1:-1].strip(), maxsplit=1))


def _option(line: str) -> tuple[str, str] | None:
    """Read ``name = value``; a colon does as well, and quotes around a value are no part of it."""
    separator = _SEPARATOR.search(line)
    if separator is None:
        return None
    name, value = line[: separator.start()].strip().lower(), line[separator.end() :].strip()
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return name, value[1:-1] if quoted else value
