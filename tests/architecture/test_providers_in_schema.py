"""What a provider calls its policies stands in the JSON Schema of ``rotate``, whose readers may hold to the list."""

from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path

from credrotator import providers
from credrotator.core.model import SourceKind

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "rotate.schema.json"


def test_every_kind_of_source_is_in_the_schema() -> None:
    """Each ``SourceKind`` of each provider's ``source`` module."""
    kinds = set()
    for module in pkgutil.iter_modules(providers.__path__):
        if module.ispkg and module.name != "presets":
            source = importlib.import_module(f"credrotator.providers.{module.name}.source")
            kinds |= {value.provider for value in vars(source).values() if isinstance(value, SourceKind)}
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    listed = set(schema["$defs"]["result"]["properties"]["provider"]["enum"])
    assert len(kinds) >= 10
    assert kinds <= listed
