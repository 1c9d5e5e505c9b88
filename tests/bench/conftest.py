"""The programs that the benchmark sets up its cluster with."""

from __future__ import annotations

from tests.support.parts.fixtures import gateway_program, parts, programs

__all__ = ["gateway_program", "parts", "programs"]
