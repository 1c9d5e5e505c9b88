"""Profiles of a shared-credentials file: sections in brackets, options below them."""

from __future__ import annotations

import configparser
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def read_profile(text: str, profile: str) -> Mapping[str, str] | None:
    """Read the options of one profile; None if the text or the profile is not there."""
    parser = configparser.RawConfigParser(default_section="")
    try:
        parser.read_string(text)
        return dict(parser[profile])
    except (configparser.Error, KeyError):
        return None
