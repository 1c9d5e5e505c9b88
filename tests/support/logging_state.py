"""What a command makes of logging for its whole process, and how it is put back."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CHANGED = (None, "credrotator", "credrotator.audit")
"""Loggers that a command sets; None is the root."""


@contextlib.contextmanager
def kept_logging() -> Iterator[None]:
    """Put levels and handlers back."""
    loggers = [logging.getLogger(name) for name in CHANGED]
    before = [(logger.level, logger.handlers[:]) for logger in loggers]
    try:
        yield
    finally:
        for logger, (level, handlers) in zip(loggers, before, strict=True):
            logger.setLevel(level)
            logger.handlers[:] = handlers
