"""The options that commands share, how their help is laid out, and the settings that are made of them."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from credrotator.app.consumers import Consumers
from credrotator.app.settings import Settings
from credrotator.cli import completions as completing
from credrotator.cli.config_file import load_config
from credrotator.cli.habits import HabitualCommand, VerbosityOption
from credrotator.cli.parameters import ForIssuers, Line, Span
from credrotator.cli.setting_option import SettingOption
from credrotator.exchange.issuers.routes import IssuerRoutes
from credrotator.observability import logs
from credrotator.providers import operator_options

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from credrotator.providers.provider import OperatorOption

FILE = click.Path()
"""Looked at where it is used, with our own words; the type lets a shell complete it."""
# Each is a thread. Some dozens hide the time of requests; beyond that the API server is the limit
# (docs/performance.md).
DEFAULT_WORKERS, MAX_WORKERS = 24, 64
FORMATS = ("table", "wide", "name", "json", "yaml")


class CommonOption(SettingOption):
    """An option that several commands share."""


class PolicyCommand(HabitualCommand):
    """A command whose help lists its own options first, and those that it shares with others after them."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See click.Command."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": [], "Common options": []}
        for option in self.get_params(ctx):
            if isinstance(option, click.Option) and (record := option.get_help_record(ctx)):
                common = isinstance(option, CommonOption | VerbosityOption)
                sections["Common options" if common else "Options"].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


Command = Any
"""A click command, or the function that becomes one."""


def setting(*names: str, **attributes: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare an option that can also be set by its ``CREDROTATOR_…`` variable and in the config file."""
    # Of a pair such as --leader-elect/--no-leader-elect the first has the variable's name.
    longest = max((name.partition("/")[0] for name in names), key=len).lstrip("-")
    variable = "CREDROTATOR_" + longest.upper().replace("-", "_")
    return click.option(*names, envvar=variable, show_envvar=True, **{"cls": SettingOption, **attributes})


def reads_policies(command: Command, more_formats: tuple[str, ...] = ()) -> Command:
    """Add the options of a command that reads policies once, the names that choose among them, and how to print."""
    formats = click.Choice([*FORMATS, *more_formats])
    command = setting("-o", "--output", type=formats, default="table", show_default=True, help="Output format.")(
        command
    )
    command = reading_options(command)
    return names_policies(command)


def names_policies(command: Command) -> Command:
    """Add the argument that chooses policies by name."""
    return click.argument("names", nargs=-1, metavar="[NAMESPACE/NAME]...", shell_complete=completing.policies)(command)


def lease_option(command: Command) -> Command:
    """Add the option that names the Lease for leader election."""
    text = "Lease for leader election [default: credrotator in its own namespace]."
    return setting("--lease", metavar="NAMESPACE/NAME", help=text)(command)


def workers_option(command: Command) -> Command:
    """Add the option that says how many policies are rotated concurrently."""
    text = "Number of policies rotated concurrently."
    kind = click.IntRange(1, MAX_WORKERS)
    return setting("--workers", type=kind, metavar="N", default=DEFAULT_WORKERS, show_default=True, help=text)(command)


def verification_options(command: Command) -> Command:
    """Add the options that name the Gateways whose filters are compared with what is published."""
    text = "Gateway whose filter configuration is compared with what is published; repeatable."
    command = setting(
        "--filter-namespace",
        metavar="NAMESPACE",
        default="envoy-gateway-system",
        show_default=True,
        help="Namespace of the Gateways' filter configurations.",
    )(command)
    return setting("--verify-delivery", multiple=True, metavar="NAMESPACE/GATEWAY", help=text)(command)


def verify_credentials_option(command: Command) -> Command:
    """Add the option that has new credentials verified before they are published."""
    text = "Verify new credentials before they are published; annotation credrotator.io/verify decides for a policy."
    return setting("--verify-credentials", is_flag=True, help=text)(command)


def template_option(command: Command) -> Command:
    """Add the option that names templates."""
    text = "Template to render after each publication, with --out: a file, or preset:NAME; repeatable."
    return setting("--template", multiple=True, metavar="SRC:DST[:MODE[:GROUP]]", help=text)(command)


def consumer_options(command: Command) -> Command:
    """Add the options that name what follows a publication."""
    run = "Program to run after publications, with --out: arguments without a shell, as one text; repeatable."
    tell = "Signal to send after publications, with --out, to the process whose number is in a file; repeatable."
    options = [
        template_option,
        setting("--exec", type=Line(), multiple=True, metavar="COMMAND", help=run),
        setting("--signal", multiple=True, metavar="NAME:PIDFILE", help=tell),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def read_consumers(common: dict[str, Any]) -> Consumers:
    """Take what follows a publication out of the options."""
    return Consumers(common.pop("template"), common.pop("exec"), common.pop("signal"))


def exchanging_options(command: Command) -> Command:
    """Add the option that limits the time of an exchange."""
    kind, text = Span(positive=True), "Time limit for one exchange."
    option = setting("--timeout", type=kind, default="30s", help=text, show_default=True, cls=CommonOption)
    return option(command)


def reading_options(command: Command) -> Command:
    """Add the options that say which policies, and how their exchanges are made."""
    return reading_only_options(exchanging_options(command))


def reading_only_options(command: Command) -> Command:
    """Add the options of a command that makes no exchanges."""
    common = partial(setting, cls=CommonOption)
    options: list[Callable[[Command], Command]] = [
        common(
            "-f",
            "--filename",
            multiple=True,
            type=FILE,
            help="File or directory of manifests, or - for standard input; repeatable.",
        ),
        common("-R", "--recursive", is_flag=True, help="With -f, read directories in directories too."),
        common(
            "--out",
            metavar="DIR",
            shell_complete=completing.directories,
            help="Directory to publish Secrets in, as DIR/<namespace>/<secret>/<key>.",
        ),
        common("--out-group", metavar="GROUP", help="Group that may read and write in --out too, as with fsGroup."),
        common(
            "-n",
            "--namespace",
            multiple=True,
            shell_complete=completing.namespaces,
            help="Namespace of the policies; repeatable.",
        ),
        common("-A", "--all-namespaces", is_flag=True, help="Policies of all namespaces (the default with -f)."),
        common("-l", "--selector", default="", help="Label selector for policies."),
        common("--kubeconfig", type=FILE, help="Path to the kubeconfig file."),
        common("--context", shell_complete=completing.contexts, help="Kubeconfig context to use."),
        common("--allowed-issuer", multiple=True, metavar="GLOB", help="Issuers that policies may use; repeatable."),
        common("--ca-file", metavar="PEM", type=FILE, help="Additional CA to trust, for issuers and vendors."),
        common(
            "--issuer-ca",
            type=ForIssuers("PEM"),
            multiple=True,
            metavar="GLOB=PEM",
            help="Additional CA to trust for matching issuers only; repeatable.",
        ),
        common(
            "--issuer-proxy",
            type=ForIssuers("URL"),
            multiple=True,
            metavar="GLOB=URL",
            help="Proxy for matching issuers, or direct for none; repeatable.",
        ),
        common(
            "--token-file",
            multiple=True,
            metavar="[NAMESPACE/]NAME=PATH",
            help="Token file that policies may use instead of an issuer; repeatable.",
        ),
        *(common(f"--{option.name}", help=option.flag_help) for option in _provider_flags()),
        common(
            "--log-format",
            type=click.Choice(logs.FORMS),
            default="auto",
            show_default=True,
            callback=log_as,
            expose_value=False,
            help="Log format; auto is JSON in a cluster, and text on a terminal or elsewhere.",
        ),
        common(
            "--config",
            type=FILE,
            # Before the others: their defaults come from it.
            is_eager=True,
            callback=load_config,
            expose_value=False,
            help="Configuration file (YAML).",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _provider_flags() -> list[OperatorOption]:
    return [option for option in operator_options() if option.flag_help]


def log_as(context: click.Context, _parameter: click.Parameter, form: logs.Form) -> None:
    """Log in this form from now on (callback of ``--log-format``)."""
    if not context.resilient_parsing:
        logs.install(sys.stderr, form)


def within_namespaces(settings: Settings, names: Sequence[str]) -> Settings:
    """In a cluster, read the namespaces that are named, and no others: there may be no right to more."""
    named = [name.rpartition("/")[0] for name in names]
    # Manifests need no rights; -n has been said on purpose; and a name without a namespace means the context's own,
    # which is not known here.
    if settings.filenames or settings.namespaces or not all(named):
        return settings
    return replace(settings, namespaces=tuple(dict.fromkeys(named)), all_namespaces=False)


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
    # Providers' options go on as a mapping, so that a new one needs no field of Settings.
    chosen = {option.name: common.pop(option.name.replace("-", "_")) for option in _provider_flags()}
    common["provider_options"] = {name: value for name, value in chosen.items() if value}
    return Settings(out=Path(out) if out else None, **common)
