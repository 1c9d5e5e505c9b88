"""What the commands that read policies share: options, reading, choosing."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from credrotator.app.settings import ForIssuers, Settings, Span, load_config, setting
from credrotator.cli import completions as completing
from credrotator.core.clock import system_clock
from credrotator.core.errors import UsageError, printable
from credrotator.core.instrumentation import NO_INSTRUMENTATION
from credrotator.core.model import ObjectKey
from credrotator.exchange.exchanger import Exchanger, ExchangeSettings
from credrotator.exchange.issuers.allowed import AllowedIssuers
from credrotator.exchange.issuers.routes import IssuerRoutes
from credrotator.files.directory import DirectoryStore
from credrotator.observability import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from credrotator.core.instrumentation import Instrumentation
    from credrotator.core.ports import Clock
    from credrotator.policies.inventory import Inventory

FILE = click.Path()
"""Looked at where it is used, with our own words; the type lets a shell complete it."""
MAX_WORKERS = 64
FORMATS = ("table", "wide", "json", "yaml")

Command = Any
"""A click command, or the function that becomes one."""


def reads_policies(command: Command, more_formats: tuple[str, ...] = ()) -> Command:
    """Add the options of a command that reads policies once, the names that choose among them, and how to print."""
    formats = click.Choice([*FORMATS, *more_formats])
    command = setting("-o", "--output", type=formats, default="table", show_default=True, help="How to print.")(command)
    command = reading_options(command)
    return names_policies(command)


def names_policies(command: Command) -> Command:
    """Add the argument that chooses policies by name."""
    return click.argument("names", nargs=-1, metavar="[NAMESPACE/NAME]...", shell_complete=completing.policies)(command)


def lease_option(command: Command) -> Command:
    """Add the option that names the Lease of the election."""
    text = "The Lease of the election [default: credrotator, own namespace]."
    return setting("--lease", metavar="NAMESPACE/NAME", help=text)(command)


def workers_option(command: Command) -> Command:
    """Add the option that says how many policies are handled at a time."""
    text = "Policies at a time."
    kind = click.IntRange(1, MAX_WORKERS)
    return setting("--workers", type=kind, metavar="N", default=16, show_default=True, help=text)(command)


def reading_options(command: Command) -> Command:
    """Add the options that say which policies, and how their exchanges are made."""
    options: list[Callable[[Command], Command]] = [
        setting("-f", "--filename", multiple=True, type=FILE, help="Manifests: a file, a directory or -; repeatable."),
        setting("-R", "--recursive", is_flag=True, help="With -f: directories in directories too."),
        setting(
            "--out",
            metavar="DIR",
            shell_complete=completing.directories,
            help="Where the Secrets are published: DIR/<namespace>/<secret>/<key>.",
        ),
        setting("--out-group", metavar="GROUP", help="A group that may read and write there too, as fsGroup has it."),
        setting(
            "-n",
            "--namespace",
            multiple=True,
            shell_complete=completing.namespaces,
            help="Only this namespace; repeatable.",
        ),
        setting("-A", "--all-namespaces", is_flag=True, help="All namespaces (the default with -f)."),
        setting("-l", "--selector", default="", help="Only policies with these labels."),
        setting("--kubeconfig", type=FILE, help="Read from the cluster of this kubeconfig."),
        setting("--context", help="Context of the kubeconfig."),
        setting("--allowed-issuer", multiple=True, metavar="GLOB", help="Issuers that policies may use; repeatable."),
        setting("--ca-file", metavar="PEM", type=FILE, help="One more CA to trust, for issuers and vendors."),
        setting(
            "--issuer-ca",
            type=ForIssuers("PEM"),
            multiple=True,
            metavar="GLOB=PEM",
            help="A CA to trust for these issuers only; repeatable.",
        ),
        setting(
            "--issuer-proxy",
            type=ForIssuers("URL"),
            multiple=True,
            metavar="GLOB=URL",
            help="The proxy to these issuers; direct: none. Repeatable.",
        ),
        setting(
            "--token-file",
            multiple=True,
            metavar="[NAMESPACE/]NAME=PATH",
            help="A token that policies may name instead of an issuer; repeatable.",
        ),
        setting("--timeout", type=Span(), default="30s", help="Longest time for one exchange.", show_default=True),
        setting("--azure-scope", help="Scope of Entra tokens [default: Azure OpenAI's in the authority's cloud]."),
        setting(
            "--log-format",
            type=click.Choice(logs.FORMS),
            default="auto",
            show_default=True,
            callback=log_as,
            expose_value=False,
            help="How the log is written; auto: JSON in a cluster, unless on a terminal.",
        ),
        setting(
            "--config",
            type=FILE,
            is_eager=True,
            callback=load_config,
            expose_value=False,
            help="YAML file of settings.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def log_as(context: click.Context, _parameter: click.Parameter, form: logs.Form) -> None:
    """Log in this form from now on (callback of ``--log-format``)."""
    if not context.resilient_parsing:
        logs.install(sys.stderr, form)


def read_settings(common: dict[str, Any]) -> Settings:
    """Build Settings from the shared options.

    Raises:
        UsageError: They do not fit together.
    """
    out = common.pop("out")
    common["filenames"] = common.pop("filename")
    common["allowed_issuers"] = common.pop("allowed_issuer")
    common["namespaces"] = common.pop("namespace")
    common["routes"] = IssuerRoutes(common.pop("issuer_ca"), common.pop("issuer_proxy"))
    common["token_files"] = common.pop("token_file")
    return Settings(out=Path(out) if out else None, **common)


def need_store(settings: Settings, *, required: bool = True) -> DirectoryStore:
    """Return the store of ``--out``; one that is never read where it is not required.

    Raises:
        UsageError: There is none.
    """
    if settings.out is None and not required:
        return DirectoryStore(Path("/nonexistent"), system_clock)
    if settings.out is None:
        raise UsageError("name a directory for the credentials with --out DIR")
    return DirectoryStore(settings.out, system_clock, access=settings.access)


def exchanger(
    settings: Settings, clock: Clock = system_clock, instrumentation: Instrumentation = NO_INSTRUMENTATION
) -> Exchanger:
    """Return the exchange that the settings describe; a SkewedClock is put right by it."""
    allowed = AllowedIssuers(settings.allowed_issuers)
    tokens = settings.token_paths()
    said = ExchangeSettings(allowed, settings.ca_file, settings.timeout, settings.routes, tokens)
    return Exchanger(said, clock, instrumentation=instrumentation)


def choose(inventory: Inventory, names: Sequence[str], settings: Settings, namespace: str) -> list[ObjectKey]:
    """Return the policies that names and ``-n`` choose, in order; ``namespace`` is that of names without one.

    A cluster without any is no mistake: a job may be there before the first policy. Manifests without any are.

    Raises:
        UsageError: A name is not there, or nothing is left of the manifests.
    """
    there = sorted({*inventory.policies, *inventory.invalid})
    if settings.namespaces and not settings.all_namespaces:
        there = [key for key in there if key.namespace in settings.namespaces]
    if not there:
        within = settings.namespaces and not settings.all_namespaces
        where = f" in namespace {' or '.join(settings.namespaces)}" if within else ""
        where = f" with labels {printable(settings.selector, 80)}{where}" if settings.selector else where
        if settings.in_cluster and not names:
            click.echo(f"there is no BackendSecurityPolicy{where} in the cluster", err=True)
            return []
        source = "the cluster" if settings.in_cluster else "what -f names"
        raise UsageError(f"there is no BackendSecurityPolicy{where} in {source}")
    asked = [ObjectKey.parse(name, namespace) for name in names]
    for key in asked:
        if key not in there:
            close = difflib.get_close_matches(str(key), map(str, there), 1)
            raise UsageError(f"there is no policy {key}" + (f"; did you mean {close[0]}?" if close else ""))
    return [key for key in there if not asked or key in asked]
