"""``credrotator check``: every step of each exchange, nothing written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from credrotator.check import Check, Report, Step
from credrotator.commands.common import choose, exchanger, read_settings, reads_policies
from credrotator.commands.world import world
from credrotator.report import align, structured

if TYPE_CHECKING:
    from collections.abc import Iterable

    from credrotator.kube.access import Right

TITLES = {
    "awsTrustPolicy": "the role's trust policy that fits this token",
    "entraFederatedCredential": "the application's federated credential that fits this token",
}


@click.command("check")
@reads_policies
def command(names: tuple[str, ...], *, output: str, **common: Any) -> int:
    """Preflight: name, TLS, discovery, token and its claims, exchange. Writes nothing.

    Prints the AWS trust policy and the Entra federated credential that match the token it saw.

    \b
    Examples:
      credrotator check -f policies/
      credrotator check -f policies/ prod/aws-bedrock -o json | jq '.policies[].advice'
    """  # noqa: D301 - \b keeps click from filling the paragraph
    settings = read_settings(common)
    check = Check(exchanger(settings), settings.timeout)
    with world(settings, store_needed=False) as here:
        inventory = here.inventory
        reports = [
            check(inventory.policies.get(key) or inventory.invalid[key], inventory.reader(key))
            for key in choose(inventory, names, settings, here.namespace)
        ]
        rights = here.cluster.rights() if here.cluster else []
    if output in {"json", "yaml"}:
        whole = {"policies": [document(report) for report in reports]}
        if settings.in_cluster:
            whole["rights"] = [_right(right) for right in rights]
        click.echo(structured(whole, output), nl=False)
    else:
        click.echo("\n".join(map(text, reports)) + _rights(rights), nl=False)
    lacking = any(right.missing or right.trouble for right in rights)
    return int(bool(here.problems) or lacking or any(report.failed for report in reports))


def document(report: Report) -> dict[str, Any]:
    """Return one policy's report for machines."""
    return {
        "policy": str(report.policy),
        "provider": report.provider,
        "result": "failed" if report.failed else "ok",
        "steps": [_step(step) for step in report.steps],
        "warnings": list(report.warnings),
        "advice": report.advice,
    }


def _step(step: Step) -> dict[str, Any]:
    error = step.error
    return {
        "name": step.name,
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
        "result": "failed" if right.missing or right.trouble else "ok",
        "missing": list(right.missing),
        "trouble": right.trouble or None,
    }


def _rights(rights: list[Right]) -> str:
    """Write what this account may do in the cluster, for a person; nothing without one."""
    if not rights:
        return ""
    rows = []
    for right in rights:
        lacks = f"missing: {', '.join(right.missing)}; grant it to this account" if right.missing else right.trouble
        rows.append([f"  {'failed' if lacks else 'ok'}", right.what, lacks])
    return "\nrights in the cluster\n" + align(rows)


def text(report: Report) -> str:
    """Write one policy's report for a person."""
    lines = [f"{report.policy} ({report.provider})\n", align(list(_rows(report.steps)))]
    lines += [f"  warning: {warning}\n" for warning in report.warnings]
    for name, advice in report.advice.items():
        lines += [f"  {TITLES[name]}:\n", _indented(json.dumps(advice, indent=2))]
    return "".join(lines)


def _rows(steps: Iterable[Step]) -> Iterable[list[str]]:
    for step in steps:
        took = "" if step.took_s is None else f"{step.took_s * 1000:.0f} ms"
        if step.error and step.result == "failed":
            yield ["  failed", step.name, took, f"{step.error.reason} ({step.error.kind}): {step.error.message}"]
            yield ["", "", "", f"what to do: {step.error.hint}"]
        else:
            yield [f"  {step.result}", step.name, took, step.detail]


def _indented(block: str) -> str:
    return "".join(f"    {line}\n" for line in block.splitlines())
