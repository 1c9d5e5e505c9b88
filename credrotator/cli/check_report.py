"""What ``check`` prints: for a person, and for machines (docs/check.schema.json)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from credrotator.cli.tables import Cell, align, plain
from credrotator.core.model import AwsOidc, AzureOidc, GcpWorkloadIdentity
from credrotator.diagnosis import terraform

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from credrotator.cli.tables import Paint
    from credrotator.diagnosis.preflight import Report, Step
    from credrotator.diagnosis.terraform import Need
    from credrotator.kube.access import Right

TITLES = {
    "awsTrustPolicy": "the role's trust policy that fits this token",
    "entraFederatedCredential": "the application's federated credential that fits this token",
    "gcpWorkloadIdentity": "the pool's provider, and the grant to its principal, that fit this token",
}


WHOSE = {"token": "token endpoint", "sts": "AWS STS", "entra": "Microsoft Entra", "google": "Google"}
"""Endpoints as people call them, where that differs."""


def document(reports: Sequence[Report], rights: Iterable[Right], *, in_cluster: bool) -> dict[str, Any]:
    """Return the stable result of ``check -o json``; every member is always there, null where it does not apply."""
    failed = sum(report.failed for report in reports)
    return {
        "policies": [_policy(report) for report in reports],
        "rights": [_right(right) for right in rights] if in_cluster else None,
        "summary": {"ok": len(reports) - failed, "failed": failed},
    }


def _policy(report: Report) -> dict[str, Any]:
    return {
        "policy": str(report.policy),
        "provider": report.provider,
        "result": "failed" if report.failed else "ok",
        "steps": [_step(step) for step in report.steps],
        "warnings": list(report.warnings),
        "advice": _advice(report.need),
    }


def _advice(need: Need | None) -> dict[str, Any]:
    found: dict[str, Any] = {**dict.fromkeys(TITLES), "terraform": None}
    if need is None:
        return found
    return {**found, _kind(need): need.advice, "terraform": terraform.document([need])}


def _kind(need: Need) -> str:
    match need.source:
        case AwsOidc():
            return "awsTrustPolicy"
        case AzureOidc():
            return "entraFederatedCredential"
        case GcpWorkloadIdentity():
            return "gcpWorkloadIdentity"


def _step(step: Step) -> dict[str, Any]:
    error = step.error
    return {
        "name": step.name,
        "endpoint": step.endpoint or None,
        "result": step.result,
        "detail": step.detail or None,
        "tookMs": None if step.took_s is None else round(step.took_s * 1000),
        "error": {"kind": error.kind, "reason": error.reason, "message": error.message, "hint": error.hint}
        if error
        else None,
    }


def _right(right: Right) -> dict[str, Any]:
    return {
        "what": right.what,
        "result": "failed" if right.lack else "ok",
        "missing": list(right.missing),
        "trouble": right.trouble or None,
    }


def rights_text(rights: Sequence[Right], paint: Paint = plain) -> str:
    """Write what this account may do in the cluster, for a person; nothing without one."""
    if not rights:
        return ""
    rows: list[list[str | Cell]] = [
        [_result("failed" if right.lack else "ok"), right.what, right.lack] for right in rights
    ]
    return paint("rights in the cluster", "strong") + "\n" + align(rows, paint) + "\n"


def summary(reports: Sequence[Report], paint: Paint = plain) -> str:
    """Count, for a person."""
    failed = sum(report.failed for report in reports)
    well = paint(f"{len(reports) - failed} ok", "good" if failed < len(reports) else "dim")
    return f"{well}, {paint(f'{failed} failed', 'bad' if failed else 'dim')}\n"


def text(report: Report, *, wide: bool, paint: Paint = plain) -> str:
    """Write one policy's report for a person."""
    lines = [f"{paint(str(report.policy), 'strong')} ({report.provider})\n", *_table(report.steps, paint)]
    lines += [f"  {paint('warning', 'warn')}: {warning}\n" for warning in report.warnings]
    refused = any(step.name == "exchange" and step.result == "failed" for step in report.steps)
    if report.need and (wide or refused):
        indented = "".join(f"    {line}\n" for line in json.dumps(report.need.advice, indent=2).splitlines())
        lines += [f"  {TITLES[_kind(report.need)]} (as Terraform: -o terraform):\n", indented]
    return "".join(lines)


def failures(report: Report) -> Iterator[str]:
    """Say what went wrong, in lines that stand on their own."""
    for step in report.steps:
        if step.error and step.result == "failed":
            yield f"{report.policy}: {step.name} failed: {step.error.message}; {step.error.hint}"
    for warning in report.warnings:
        yield f"{report.policy}: warning: {warning}"


def _table(steps: Sequence[Step], paint: Paint) -> Iterator[str]:
    """Lay out the steps; a failure's cause and what to do stand below it, over the whole width."""
    rows: list[list[str | Cell]] = [
        [_result(step.result), step.name, WHOSE.get(step.endpoint, step.endpoint), _took(step), step.detail]
        for step in steps
    ]
    for step, line in zip(steps, align(rows, paint).splitlines(keepends=True), strict=True):
        yield line
        if step.error and step.result == "failed":
            yield f"    {paint(f'{step.error.reason} ({step.error.kind})', 'bad')}: {step.error.message}\n"
            yield f"    {paint('what to do', 'strong')}: {step.error.hint}\n"


def _result(result: str) -> Cell:
    return Cell(f"  {result}", {"ok": "good", "failed": "bad"}.get(result, "dim"))


def _took(step: Step) -> str:
    return "" if step.took_s is None else f"{step.took_s * 1000:.0f} ms"
