"""What the commands that read policies share: options, reading, choosing."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from credrotator.clock import system_clock
from credrotator.directory import DirectoryStore
from credrotator.errors import UsageError
from credrotator.exchange.exchanger import Exchanger, ExchangeSettings
from credrotator.exchange.issuers import AllowedIssuers
from credrotator.manifests import Reading, read_manifests
from credrotator.model import ObjectKey
from credrotator.settings import Settings, Span, load_config, setting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from credrotator.inventory import Inventory

FORMATS = click.Choice(["table", "wide", "json", "yaml"])

Command = Any
"""A click command, or the function that becomes one."""


def reads_policies(command: Command) -> Command:
    """Add the options of a command that reads policies once, the names that choose among them, and how to print."""
    command = setting("-o", "--output", type=FORMATS, default="table", show_default=True, help="How to print.")(command)
    command = reading_options(command)
    return click.argument("names", nargs=-1, metavar="[NAMESPACE/NAME]...")(command)


def reading_options(command: Command) -> Command:
    """Add the options that say which policies, and how their exchanges are made."""
    options: list[Callable[[Command], Command]] = [
        setting("-f", "--filename", multiple=True, help="Manifests: a file, a directory or -; repeatable."),
        setting("--out", metavar="DIR", help="Where the Secrets are published: DIR/<namespace>/<secret>/<key>."),
        setting("-n", "--namespace", help="Only this namespace; also that of manifests which name none."),
        setting("-A", "--all-namespaces", is_flag=True, help="All namespaces (the default with -f)."),
        setting("--kubeconfig", help="Read from the cluster of this kubeconfig."),
        setting("--context", help="Context of the kubeconfig."),
        setting("--allowed-issuer", multiple=True, metavar="GLOB", help="Issuers that policies may use; repeatable."),
        setting("--ca-file", metavar="PEM", help="One more CA to trust, for issuers, STS and Entra."),
        setting("--timeout", type=Span(), default="30s", help="Longest time for one exchange.", show_default=True),
        setting("--azure-scope", help="Scope of Entra tokens [default: Azure OpenAI's in the authority's cloud]."),
        setting("--config", is_eager=True, callback=load_config, expose_value=False, help="YAML file of settings."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def read_settings(common: dict[str, Any]) -> Settings:
    """Build Settings from the shared options.

    Raises:
        UsageError: They do not fit together.
    """
    out = common.pop("out")
    common["filenames"] = common.pop("filename")
    common["allowed_issuers"] = common.pop("allowed_issuer")
    return Settings(out=Path(out) if out else None, **common)


def need_store(settings: Settings) -> DirectoryStore:
    """Return the store of ``--out``.

    Raises:
        UsageError: There is none.
    """
    if settings.out is None:
        raise UsageError("name a directory for the credentials with --out DIR")
    return DirectoryStore(settings.out, system_clock)


def read(settings: Settings) -> Reading:
    """Read the manifests, and say on standard error what could not be read."""
    reading = read_manifests(settings.filenames, sys.stdin, settings.defaults)
    for problem in reading.problems:
        click.echo(f"warning: {problem}", err=True)
    return reading


def exchanger(settings: Settings) -> Exchanger:
    """Return the exchange that the settings describe."""
    allowed = AllowedIssuers(settings.allowed_issuers)
    return Exchanger(ExchangeSettings(allowed, settings.ca_file, settings.timeout), system_clock)


def choose(inventory: Inventory, names: Sequence[str], settings: Settings) -> list[ObjectKey]:
    """Return the policies that names and ``-n`` choose, in order.

    Raises:
        UsageError: A name is not there, or nothing is left.
    """
    there = sorted({*inventory.policies, *inventory.invalid})
    if settings.namespace and not settings.all_namespaces:
        there = [key for key in there if key.namespace == settings.namespace]
    if not there:
        where = f" in namespace {settings.namespace}" if settings.namespace and not settings.all_namespaces else ""
        raise UsageError(f"there is no BackendSecurityPolicy{where} in what -f names")
    asked = [ObjectKey.parse(name, settings.namespace or "default") for name in names]
    for key in asked:
        if key not in there:
            close = difflib.get_close_matches(str(key), map(str, there), 1)
            raise UsageError(f"there is no policy {key}" + (f"; did you mean {close[0]}?" if close else ""))
    return [key for key in there if not asked or key in asked]
