"""What ``check -o json`` prints, held to its schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator

if TYPE_CHECKING:
    from tests.support.command_line import Ran

SCHEMA = Draft202012Validator(json.loads((Path(__file__).parents[2] / "docs" / "check.schema.json").read_text()))


def document(ran: Ran) -> dict[str, Any]:
    """Return the JSON, which follows its schema."""
    found: dict[str, Any] = json.loads(ran.out)
    SCHEMA.validate(found)
    return found
