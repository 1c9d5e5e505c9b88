"""The document of ``check -o json``: its shape, as ``docs/check.schema.json`` says it for machines. Types only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credrotator.core.outcome_shape import ErrorDocument
    from credrotator.diagnosis.preflight import Result


class StepDocument(TypedDict):
    """One step; ``tookMs``: milliseconds, null where it was not tried."""

    name: str
    endpoint: str | None
    result: Result
    detail: str | None
    tookMs: int | None
    error: ErrorDocument | None


class PolicyDocument(TypedDict):
    """One policy's report; ``advice`` has a member of each provider, null but for the policy's own."""

    policy: str
    provider: str
    result: Literal["ok", "failed"]
    steps: list[StepDocument]
    warnings: list[str]
    advice: Mapping[str, object]


class RightDocument(TypedDict):
    """One question about what this account may do in the cluster; ``missing`` lists verbs."""

    what: str
    result: Literal["ok", "failed"]
    missing: list[str]
    trouble: str | None


class ManifestDocument(TypedDict):
    """What is wrong with a manifest, or doubtful; ``file`` and ``line`` are null where the place is not known."""

    level: Literal["error", "warning"]
    reason: str
    message: str
    file: str | None
    line: int | None


class CheckDocument(TypedDict):
    """The whole; ``rights`` is null without a cluster, ``summary`` counts policies by result."""

    manifests: list[ManifestDocument]
    policies: list[PolicyDocument]
    rights: list[RightDocument] | None
    summary: dict[str, int]
