"""The type of a manifest: a Kubernetes object as somebody wrote it. Types only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Manifest = Mapping[str, Any]
"""One object, as parsed from YAML, JSON or the API: ``apiVersion``, ``kind``, ``metadata``, and the rest by its kind.

NOTE: nothing of it is checked. Each member may be missing or of any type, until the reader of its kind has seen it.
"""
