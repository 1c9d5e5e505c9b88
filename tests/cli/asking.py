"""``credential-process``, asked again and again."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

from credrotator.core.secretdata import ISSUED, TIMES, read_time, show_time
from credrotator.files.directory import ANNOTATIONS, DATA

if TYPE_CHECKING:
    from tests.support.command_line import Backend

SHORT_LIFE = timedelta(minutes=9)
"""Shorter than the ten minutes in which AWS's SDKs ask again before each use."""


def arguments(world: Backend, policy: str = "default/bedrock", *more: str) -> list[str]:
    """Return the command line's arguments."""
    return ["credential-process", "-f", str(world.manifests), "--out", str(world.out), policy, *more]


def let_it_be_due(world: Backend) -> None:
    """Put the time of issue back, as if most of the credential's life had passed."""
    path = world.out / "default" / "ai-eg-bsp-bedrock" / DATA / ANNOTATIONS
    notes = json.loads(path.read_text())
    issued_at = read_time(notes[ISSUED])
    assert issued_at is not None
    notes[ISSUED] = show_time(issued_at - timedelta(hours=10))
    # Otherwise the edit is found out.
    del notes[TIMES]
    path.write_text(json.dumps(notes))
