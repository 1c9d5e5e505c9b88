"""``credrotator check``: every step of each exchange, nothing written."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from credrotator.app.exchanging import make_exchanger
from credrotator.app.opening import open_backend
from credrotator.cli import check_formats
from credrotator.cli import check_report as checkreport
from credrotator.cli.colours import painter, show
from credrotator.cli.habits import is_quiet
from credrotator.cli.options import (
    PolicyCommand,
    lease_option,
    read_settings,
    reads_policies,
    verification_options,
)
from credrotator.cli.progress import waiting
from credrotator.cli.selection import chosen, read
from credrotator.cli.tables import names as names_of
from credrotator.cli.tables import structured
from credrotator.core.clock import system_clock
from credrotator.core.errors import Forbidden, UsageError
from credrotator.diagnosis import terraform
from credrotator.diagnosis.offline import OfflineCheck
from credrotator.diagnosis.preflight import Check, Report
from credrotator.exchange.http.clock_offset import SkewedClock

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from credrotator.app.backend import Snapshot
    from credrotator.app.settings import Settings
    from credrotator.cli.tables import Paint
    from credrotator.core.model import InvalidPolicy, ObjectKey, Policy
    from credrotator.kube.access import Right

TABLES = frozenset({"table", "wide"})
"""The formats for people."""


@click.command("check", cls=PolicyCommand)
@partial(reads_policies, more_formats=("terraform", *check_formats.FORMATS))
@verification_options
@lease_option
@click.option("--offline", is_flag=True, help="With -f, check shape, references and issuers only; ask nobody.")
def command(names: tuple[str, ...], *, output: str, lease: str | None, offline: bool, **common: Any) -> int:
    """Test every step of each exchange, without writing anything.

    The steps are DNS, proxy, TLS, discovery, token, claims, the exchange itself, rights and delivery. Each is shown
    with the time it took, a failed one with its cause and what to do about it. If the exchange fails, the AWS trust
    policy, the Entra federated credential or the Google Cloud provider that fits the token is printed too; with
    -o wide and -o json always. An account that may not read a cluster's policies is told which rights it lacks.

    \b
    Examples:
      credrotator check -f policies/
      # test one policy, and the directory that its credential goes to
      credrotator check -f policies/ --out /var/lib/credrotator prod/aws-bedrock
      # test a cluster: also the account's rights, and a dry run of the write
      credrotator check -A
      # print what has to be set up at AWS, Entra and Google Cloud
      credrotator check -f policies/ -o terraform > trust.tf
      # check manifests in CI, before anything is applied
      credrotator check --offline -f policies/ -o github
      # list the policies that failed, for a script
      credrotator check -A -o json | jq '.policies[] | select(.result == "failed")'

    Exit codes: 0 success, 1 a step failed or a right is missing, 2 usage error.
    """  # noqa: D301 - \b keeps click from filling the paragraph
    settings, clock, paint = read_settings(common), SkewedClock(system_clock), painter()
    # Policies of a cluster cannot be read without asking it.
    if offline and not settings.filenames:
        raise UsageError("--offline asks no cluster: name the manifests with -f")
    with open_backend(settings, clock) as backend:
        exchange = make_exchanger(settings, clock, account_tokens=backend.account_tokens)
        try:
            # A person reads problems in the table; on standard error they would be there twice.
            snapshot = read(backend, names_problems=output not in TABLES)
        except Forbidden as error:
            # Which rights are missing is what check is called for, and can be asked without any of them.
            return _print_refusal(error, backend.rights(lease), output, paint)
        inventory, unread = snapshot.inventory, check_formats.reading_findings(snapshot.problems, snapshot.warnings)
        if output in TABLES:
            show(checkreport.manifests_text([each for each in unread if _is_shown(each)], paint))
        # Not without a network: what may be done there is asked of the API server, or tried in the directory.
        destination = None if offline else snapshot.destination(exchange, clock, lease)
        check = OfflineCheck(exchange) if offline else Check(exchange, settings.timeout, destination, clock)
        reports: list[Report] = []
        for key in _meant(snapshot, names, settings):
            policy = inventory.policies.get(key) or inventory.invalid[key]
            with waiting(f"checking {key}"):
                reports.append(check(policy, inventory.reader(key)))
            _print_report(reports[-1], output, paint)
        # Within the block: they are asked for when they are first wanted, and the connections end with it.
        rights = destination.all_rights if destination else None
    if output == "terraform":
        _print_terraform(reports)
    elif output in check_formats.FORMATS:
        policies: dict[ObjectKey, Policy | InvalidPolicy] = {**inventory.policies, **inventory.invalid}
        _print_findings(reports, [*unread, *check_formats.findings(reports, policies)], output)
    elif output in {"json", "yaml"}:
        document = checkreport.document(reports, rights or (), unread, in_cluster=rights is not None)
        click.echo(structured(document, output), nl=False)
    elif output != "name":
        summary = "" if is_quiet() else checkreport.summary(reports, paint)
        show(_rights_text(rights or (), paint) + summary)
    failed = any(report.failed for report in reports) or any(right.lack for right in rights or ())
    return int(failed or bool(snapshot.problems))


def _print_refusal(error: Forbidden, rights: Sequence[Right], output: str, paint: Paint) -> int:
    """Print what there is to say where this account may not read the policies; return the exit code."""
    click.echo(f"warning: {error.message}; no policy is checked", err=True)
    match output:
        case "table" | "wide":
            show(_rights_text(rights, paint))
        case "json" | "yaml":
            click.echo(structured(checkreport.document([], rights, (), in_cluster=True), output), nl=False)
        case "name" | "terraform":
            for right in rights:
                if right.lack:
                    click.echo(f"warning: {right.what}: {right.lack}", err=True)
        case _:
            _print_findings([], check_formats.refusal(error, rights), output)
    return 1


def _rights_text(rights: Iterable[Right], paint: Paint) -> str:
    return checkreport.rights_text([right for right in rights if right.lack or not is_quiet()], paint)


def _meant(snapshot: Snapshot, names: Sequence[str], settings: Settings) -> list[ObjectKey]:
    """Return the policies that are meant; none where what could not be read may hold them all.

    Raises:
        UsageError: There are none, and everything could be read; or one that is named is not there.
    """
    inventory = snapshot.inventory
    # A review is shown what is wrong in the report that it asked for, and not by an empty file.
    if snapshot.problems and not names and not inventory.policies and not inventory.invalid:
        return []
    return chosen(snapshot, names, settings)


def _is_shown(finding: check_formats.Finding) -> bool:
    return finding.level == "error" or not is_quiet()


def _print_report(report: Report, output: str, paint: Paint) -> None:
    """Print a policy's report as soon as it is there: one that hangs takes its whole timeout."""
    if is_quiet() and not report.failed:
        return
    if output == "name":
        click.echo(names_of([report.policy]), nl=False)
    elif output in TABLES:
        show(checkreport.text(report, wide=output == "wide", paint=paint) + "\n")


def _print_findings(reports: Sequence[Report], findings: Sequence[check_formats.Finding], output: str) -> None:
    """Print what a review of a change shows beside its lines."""
    match output:
        case "sarif":
            text = check_formats.sarif(findings)
        case "junit":
            text = check_formats.junit(reports, findings)
        case _:
            text = check_formats.github(findings)
    click.echo(text, nl=False)


def _print_terraform(reports: Iterable[Report]) -> None:
    """Print what can be fed to Terraform, and tell beside it what is not in it."""
    advice = []
    for report in reports:
        if report.advice:
            advice.append(report.advice)
        for line in checkreport.failures(report):
            click.echo(line, err=True)
    click.echo(terraform.document(advice), nl=False)
