"""Manifests as text, and how a test reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from credrotator.core.model import ObjectKey, SecretKeyRef
from tests.support.builders import from_stdin

if TYPE_CHECKING:
    from credrotator.files.manifests import ManifestReading
    from tests.support.builders import Manifest

POLICY = ObjectKey("team-a", "bedrock")
KEY = ObjectKey("team-a", "key")


def text_of(*manifests: Manifest) -> str:
    """The manifests as YAML documents."""
    return yaml.safe_dump_all(manifests, sort_keys=False)


def value(reading: ManifestReading, key: str = "apiKey") -> str:
    """Read a key of Secret team-a/key as a policy would."""
    return reading.inventory.reader(POLICY)(SecretKeyRef(KEY, key, "spec.x")).reveal()


def problem(text: str) -> str:
    """Read a text with exactly one problem."""
    (found,) = from_stdin(text).problems
    assert found.isprintable()
    return found
