"""What ``check`` prints: for a person, and for machines (docs/check.schema.json)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from credrotator.app.destinations import how_to_grant
from credrotator.app.outcome_documents import error_document
from credrotator.cli.tables import Cell, align, plain
from credrotator.diagnosis import terraform
from credrotator.providers import PROVIDERS, provider_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from credrotator.cli.check_formats import Finding
    from credrotator.cli.check_shape import (
        CheckDocument,
        ManifestDocument,
        PolicyDocument,
        RightDocument,
        StepDocument,
    )
    from credrotator.cli.tables import Paint
    from credrotator.diagnosis.preflight import Report, Step
    from credrotator.kube.access import Right
    from credrotator.providers.provider import Advice

ADVICE = {provider.advice_member: provider.advice_title for provider in PROVIDERS if provider.advice_member}
"""Titles of what has to stand at a vendor, by the member of the JSON that holds it."""

FURTHER = {member: title for provider in PROVIDERS for member, title in provider.further_advice.items()}
"""The same of what some policies need besides."""


def document(
    reports: Sequence[Report], rights: Iterable[Right], unread: Iterable[Finding], *, in_cluster: bool
) -> CheckDocument:
    """Return the stable result of ``check -o json``; every member is always there, null where it does not apply."""
    failed = sum(report.failed for report in reports)
    return {
        "manifests": [_manifest(finding) for finding in unread],
        "policies": [_policy(report) for report in reports],
        "rights": [_right(right) for right in rights] if in_cluster else None,
        "summary": {"ok": len(reports) - failed, "failed": failed},
    }


def _manifest(finding: Finding) -> ManifestDocument:
    return {
        "level": finding.level,
        "reason": finding.rule,
        "message": finding.message,
        "file": finding.file or None,
        "line": finding.line if finding.file else None,
    }


def _policy(report: Report) -> PolicyDocument:
    return {
        "policy": str(report.policy),
        "provider": report.provider,
        "result": "failed" if report.failed else "ok",
        "steps": [_step(step) for step in report.steps],
        "warnings": list(report.warnings),
        "advice": _advice(report.advice),
    }


def _advice(advice: Advice | None) -> Mapping[str, object]:
    # All providers' members are there, null or not: who reads the JSON need not know which provider has which.
    members: dict[str, object] = {**dict.fromkeys((*ADVICE, *FURTHER)), "terraform": None}
    if advice is None:
        return members
    provider = provider_of(advice.source)
    further = provider.advise_further(advice.source)
    return {**members, **further, provider.advice_member: advice.document, "terraform": terraform.document([advice])}


def _step(step: Step) -> StepDocument:
    error = step.error
    return {
        "name": step.name,
        "endpoint": step.endpoint or None,
        "result": step.result,
        "detail": step.detail or None,
        "tookMs": None if step.took_s is None else round(step.took_s * 1000),
        "error": error_document(error) if error else None,
    }


def _right(right: Right) -> RightDocument:
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
    todo = (
        f"  {paint('what to do', 'strong')}: {how_to_grant(rights)}\n" if any(right.missing for right in rights) else ""
    )
    return paint("rights in the cluster", "strong") + "\n" + align(rows, paint) + todo + "\n"


def manifests_text(findings: Sequence[Finding], paint: Paint = plain) -> str:
    """Write what is wrong with manifests, or doubtful, for a person; nothing where all is well."""
    if not findings:
        return ""
    rows: list[list[str | Cell]] = [[_level(each.level), each.rule, _placed(each)] for each in findings]
    return paint("manifests", "strong") + "\n" + align(rows, paint) + "\n"


def _level(level: str) -> Cell:
    return _result("failed") if level == "error" else Cell("  warning", "warn")


def _placed(finding: Finding) -> str:
    return f"{finding.file}:{finding.line}: {finding.message}" if finding.file else finding.message


def summary(reports: Sequence[Report], paint: Paint = plain) -> str:
    """Count, for a person."""
    failed = sum(report.failed for report in reports)
    well = paint(f"{len(reports) - failed} ok", "good" if failed < len(reports) else "dim")
    return f"{well}, {paint(f'{failed} failed', 'bad' if failed else 'dim')}\n"


def text(report: Report, *, wide: bool, paint: Paint = plain) -> str:
    """Write one policy's report for a person."""
    lines = [f"{paint(str(report.policy), 'strong')} ({report.provider})\n", *_table(report.steps, paint)]
    lines += [f"  {paint('warning', 'warn')}: {warning}\n" for warning in report.warnings]
    # Thirty lines of a trust policy help who was refused, and hide the steps from everybody else.
    refused = any(step.name == "exchange" and step.result == "failed" for step in report.steps)
    if report.advice and (wide or refused):
        provider = provider_of(report.advice.source)
        terraform_too = " (as Terraform: -o terraform)" if provider.terraform_requirement else ""
        lines += [f"  {provider.advice_title}{terraform_too}:\n", _indented(report.advice.document)]
        for member, further in provider.advise_further(report.advice.source).items():
            lines += [f"  {FURTHER[member]}:\n", _indented(further)]
    return "".join(lines)


def _indented(document: object) -> str:
    return "".join(f"    {line}\n" for line in json.dumps(document, indent=2).splitlines())


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
        [_result(step.result), step.name, step.endpoint_title, _took(step), step.detail] for step in steps
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
