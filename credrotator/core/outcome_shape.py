"""Outcomes as documents: the shape that ``rotate -o json`` prints, a directory keeps, and ``status`` reads back.

Types only. ``docs/rotate.schema.json`` says the same for machines; times are RFC 3339 in UTC.
"""

from __future__ import annotations

from typing import TypedDict


class ErrorDocument(TypedDict):
    """Why an attempt failed.

    Attributes:
        kind: ``transient``, ``denied`` or ``policy``; None where it was read from a condition, which does not say.
        reason: One word, as ``credrotator explain`` knows it.
        message: One sentence.
        hint: What to do; None where the message has it.
        see: Page and anchor of the documents that explain the reason.
    """

    kind: str | None
    reason: str
    message: str
    hint: str | None
    see: str


class OutcomeDocument(TypedDict):
    """How an attempt at one policy ended; every member is there, null where it does not apply."""

    policy: str
    provider: str
    action: str
    reason: str
    secret: str | None
    expiresAt: str | None
    renewAt: str | None
    error: ErrorDocument | None
    warnings: list[str]


class RotateDocument(TypedDict):
    """What ``rotate -o json`` prints; ``summary`` counts the results by action."""

    results: list[OutcomeDocument]
    summary: dict[str, int]


class LastOutcome(TypedDict, total=False):
    """What is left of an attempt for the next ``status``.

    NOTE: read back from a file, or from a condition, which anybody may have changed: any member may be missing.

    Attributes:
        at: When it ended.
    """

    at: str | None
    policy: str
    provider: str
    action: str
    reason: str | None
    secret: str | None
    expiresAt: str | None
    renewAt: str | None
    error: ErrorDocument | None
    warnings: list[str]
