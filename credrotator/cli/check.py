"""``credrotator check``: every step of each exchange, nothing written."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from credrotator.app.exchanging import make_exchanger
from credrotator.app.opening import open_backend
from credrotator.cli import check_report as checkreport
from credrotator.cli.colours import painter, show
from credrotator.cli.options import (
    PolicyCommand,
    lease_option,
    read_settings,
    reads_policies,
)
from credrotator.cli.progress import waiting
from credrotator.cli.selection import chosen, read
from credrotator.cli.tables import structured
from credrotator.core.clock import system_clock
from credrotator.diagnosis import terraform
from credrotator.diagnosis.preflight import Check, Report
from credrotator.exchange.http.clock_offset import SkewedClock

if TYPE_CHECKING:
    from collections.abc import Iterable


@click.command("check", cls=PolicyCommand)
@partial(reads_policies, more_formats=("terraform",))
@lease_option
def command(names: tuple[str, ...], *, output: str, lease: str | None, **common: Any) -> int:
    """Test every step of each exchange, without writing anything.

    The steps are DNS, proxy, TLS, discovery, token, claims, the exchange itself, rights and delivery. Each is shown
    with the time it took, a failed one with its cause and what to do about it. If the exchange fails, the AWS trust
    policy, the Entra federated credential or the Google Cloud provider that fits the token is printed too; with
    -o wide and -o json always.

    \b
    Examples:
      credrotator check -f policies/
      # test one policy, and the directory that its credential goes to
      credrotator check -f policies/ --out /var/lib/credrotator prod/aws-bedrock
      # test a cluster: also the account's rights, and a dry run of the write
      credrotator check -A
      # print what has to be set up at AWS, Entra and Google Cloud
      credrotator check -f policies/ -o terraform > trust.tf
      # list the policies that failed, for a script
      credrotator check -A -o json | jq '.policies[] | select(.result == "failed")'

    Exit codes: 0 success, 1 a step failed, 2 usage error.
    """  # noqa: D301 - \b keeps click from filling the paragraph
    settings, clock, paint = read_settings(common), SkewedClock(system_clock), painter()
    exchange = make_exchanger(settings, clock)
    with open_backend(settings, clock) as backend:
        snapshot = read(backend)
        inventory, destination = snapshot.inventory, snapshot.destination(exchange, clock, lease)
        check = Check(exchange, settings.timeout, destination, clock)
        reports: list[Report] = []
        for key in chosen(snapshot, names, settings):
            policy = inventory.policies.get(key) or inventory.invalid[key]
            with waiting(f"checking {key}"):
                reports.append(check(policy, inventory.reader(key)))
            if output in {"table", "wide"}:
                # As they come: one that hangs takes its whole timeout.
                show(checkreport.text(reports[-1], wide=output == "wide", paint=paint) + "\n")
        rights = destination.all_rights if destination else None
    if output == "terraform":
        _print_terraform(reports)
    elif output in {"json", "yaml"}:
        document = checkreport.document(reports, rights or (), in_cluster=rights is not None)
        click.echo(structured(document, output), nl=False)
    else:
        show(checkreport.rights_text(rights or (), paint) + checkreport.summary(reports, paint))
    failed = any(report.failed for report in reports) or any(right.lack for right in rights or ())
    return int(failed or bool(snapshot.problems))


def _print_terraform(reports: Iterable[Report]) -> None:
    """Print what can be fed to Terraform, and tell beside it what is not in it."""
    advice = []
    for report in reports:
        if report.advice:
            advice.append(report.advice)
        for line in checkreport.failures(report):
            click.echo(line, err=True)
    click.echo(terraform.document(advice), nl=False)
