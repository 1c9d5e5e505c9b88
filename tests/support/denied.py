"""Directories that may not be listed, also for root, whom no mode keeps out."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest


def deny_listing(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """Let nobody list a directory."""
    real = os.scandir

    def denying(path: Any = ".") -> Any:
        if Path(os.fsdecode(path)) == directory:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", denying)
