"""``credrotator run``: the daemon, over a cluster or over a directory."""

from __future__ import annotations

import logging
from typing import Any

import click

from credrotator.app.process import Election, Stop
from credrotator.app.service import ServiceOptions, run_service
from credrotator.cli.options import (
    PolicyCommand,
    consumer_options,
    lease_option,
    read_consumers,
    read_settings,
    reading_options,
    setting,
    verification_options,
    verify_credentials_option,
    workers_option,
)
from credrotator.cli.parameters import Address


@click.command("run", cls=PolicyCommand)
@reading_options
@consumer_options
@workers_option
@setting("--listen", type=Address(), metavar="ADDR:PORT", help="Address for /metrics, /healthz and /readyz.")
@setting(
    "--leader-elect/--no-leader-elect",
    default=True,
    show_default=True,
    help="Elect a leader, the only replica that writes.",
)
@lease_option
@verification_options
@verify_credentials_option
def command(
    *,
    workers: int,
    listen: tuple[str, int] | None,
    leader_elect: bool,
    lease: str | None,
    **common: Any,
) -> int:
    """Run the daemon, which rotates every credential before it expires.

    \b
    Examples:
      # serve all namespaces of a cluster, with metrics and probes
      credrotator run -A --listen 0.0.0.0:8080
      # serve two namespaces, beside other deployments in the cluster
      credrotator run -n team-a -n team-b --lease team-a/credrotator
      # see that new credentials reach the filter of Gateway prod/envoy
      credrotator run -A --verify-delivery prod/envoy
      # run without a cluster
      credrotator run -f policies/ --out /var/lib/credrotator --listen 127.0.0.1:8080

    On SIGTERM or Ctrl-C it finishes the write in progress and stops within ten seconds.
    """  # noqa: D301 - \b keeps click from filling the paragraph
    consumers, settings, stop = read_consumers(common), read_settings(common), Stop.on_signals()
    # A daemon's log is all that there is of it, so it starts at INFO; -v may want more, and that stays.
    logging.getLogger("credrotator").setLevel(min(logging.INFO, logging.getLogger("credrotator").level))
    run_service(settings, ServiceOptions(workers, Election(leader_elect, lease), listen, consumers), stop)
    return 0
