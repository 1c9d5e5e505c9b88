"""Where settings come from: flags win over ``CREDROTATOR_*`` variables, which win over a config file.

Owns the options that commands share, and the checks that are about the command line itself.
"""

from __future__ import annotations

import grp
import os
import re
import stat
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from credrotator.core.durations import parse_duration
from credrotator.core.errors import UsageError, printable
from credrotator.core.model import ObjectKey
from credrotator.exchange.http.proxies import usable_proxy
from credrotator.exchange.issuers.routes import DIRECT, IssuerRoutes
from credrotator.files.atomic import Access
from credrotator.files.bounded import MIB, file_mode, read_bytes
from credrotator.files.manifests import ManifestOptions
from credrotator.policies.documents import read_document
from credrotator.policies.reader import PUBLIC_AUTHORITY, Defaults
from credrotator.policies.schema import NAMESPACE
from credrotator.policies.selectors import parse_selector

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_AUTHORITY = re.compile(r"https://[A-Za-z0-9.-]+(:[0-9]{1,5})?")
_LABEL = NAMESPACE.pattern
_TOKEN_FILE = re.compile(rf"(?P<who>((?P<namespace>{_LABEL})/)?(?P<name>{_LABEL}))=(?P<path>/[^\x00]+)")
_API_SERVERS = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CONFIG_LIMIT_BYTES = MIB
_NUMBER = re.compile(r"[0-9]{1,9}")
_GLOB = re.compile(r"https?://[^/\s]\S*", re.IGNORECASE)


class Span(click.ParamType[timedelta]):
    """A duration on the command line, in Go's notation."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """See click.ParamType."""
        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class ForIssuers(click.ParamType[tuple[str, str]]):
    """``GLOB=VALUE`` on the command line: a value for the issuers that a glob names."""

    name = "for issuers"

    def __init__(self, what: str) -> None:
        self._what = what

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """See click.ParamType."""
        if isinstance(value, tuple):
            return value
        glob, _, meant = str(value).partition("=")
        if not _GLOB.fullmatch(glob) or not meant:
            # Without what was written: a password may stand in it.
            self.fail(f"expected GLOB={self._what}, the glob such as https://idp.example/*", param, ctx)
        return glob, meant


def setting(*names: str, **attributes: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare an option that can also be set by its ``CREDROTATOR_…`` variable and in the config file."""
    longest = max((name.partition("/")[0] for name in names), key=len).lstrip("-")
    variable = "CREDROTATOR_" + longest.upper().replace("-", "_")
    return click.option(*names, envvar=variable, show_envvar=True, **attributes)


def load_config(context: click.Context, _parameter: click.Parameter, name: str | None) -> str | None:
    """Make a config file's entries the defaults of the command's options (callback of ``--config``)."""
    if name is None:
        return None
    try:
        found = read_document(read_bytes(Path(name), CONFIG_LIMIT_BYTES).decode("utf-8-sig")) or {}
    except UsageError as error:
        raise click.BadParameter(str(error)) from error
    except ValueError as error:
        raise click.BadParameter(f"{name} is not YAML: {printable(error)}") from error
    if not isinstance(found, dict):
        raise click.BadParameter(f"{name}: expected settings, one per line, such as out: /var/lib/credrotator")
    options = _options(context.command)
    others: set[str] = set()
    if set(found) - options.keys():
        others = _options_of_other_commands(context)
    if unknown := set(found) - options.keys() - others:
        listed = ", ".join(sorted(printable(key) for key in unknown))
        known = ", ".join(sorted({*options, *others}))
        raise click.BadParameter(f"{name}: unknown settings: {listed}; known are {known}")
    for key, value in found.items():
        if key in options and (why := _unfit(options[key], value)):
            raise click.BadParameter(f"{name}: {key}: {why}")
    entries = {
        str(options[key].name): [value] if options[key].multiple and not isinstance(value, list) else value
        for key, value in found.items()
        if key in options and value is not None
    }
    context.default_map = {**(context.default_map or {}), **entries}
    return name


def _unfit(option: click.Option, value: object) -> str | None:
    """Say why a setting cannot have a value, as far as click would not; None if it can."""
    values = value if isinstance(value, list) and option.multiple else [value]
    if any(isinstance(each, list | dict) for each in values):
        return f"expected {'values, one per line after a -' if option.multiple else 'one value'}"
    if not option.is_flag and any(isinstance(each, bool) for each in values):
        return "expected a text; quote the value"
    return None


def _options(command: click.Command) -> dict[str, click.Option]:
    """Return what a config file can set for a command: what a ``CREDROTATOR_…`` variable can, but the file itself."""
    options = [option for option in command.params if isinstance(option, click.Option) and option.envvar]
    return {str(option.name).replace("_", "-"): option for option in options if option.name != "config"}


def _options_of_other_commands(context: click.Context) -> set[str]:
    """One file serves all commands, so what only another one knows is no mistake."""
    root = context.find_root().command
    if not isinstance(root, click.Group):
        return set()
    commands = (root.get_command(context, command) for command in root.list_commands(context))
    return {name for command in commands if command for name in _options(command)}


@dataclass(frozen=True, slots=True)
class Settings:
    """What the commands that read policies share."""

    filenames: tuple[str, ...]
    out: Path | None = None
    out_group: str | None = None
    namespaces: tuple[str, ...] = ()
    all_namespaces: bool = False
    selector: str = ""
    recursive: bool = False
    kubeconfig: str | None = None
    context: str | None = None
    allowed_issuers: tuple[str, ...] = ()
    ca_file: str | None = None
    routes: IssuerRoutes = field(default_factory=IssuerRoutes)
    timeout: timedelta = timedelta(seconds=30)
    azure_scope: str | None = None
    token_files: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def __post_init__(self) -> None:
        if self.filenames and (self.kubeconfig or self.context):
            raise UsageError("-f reads manifests, so --kubeconfig and --context have no place beside it")
        if self.recursive and not self.filenames:
            raise UsageError("--recursive goes with -f: a cluster has no directories")
        if self.out and not self.filenames:
            raise UsageError("--out goes with -f: in a cluster credentials are published as Secrets")
        if self.out_group and not self.out:
            raise UsageError("--out-group goes with --out: it is about the files there")
        self._check_selector()
        self._check_out()
        if self.out_group:
            _group(self.out_group)
        if self.ca_file:
            _check_file("--ca-file", self.ca_file)
        for glob in self.allowed_issuers:
            if not _GLOB.fullmatch(glob):
                raise UsageError(f"--allowed-issuer {printable(glob)}: expected a URL such as https://idp.example/*")

        self._check_routes()
        self.token_paths()

    def _check_selector(self) -> None:
        try:
            parse_selector(self.selector if self.filenames else "")
        except ValueError as error:
            raise UsageError(f"--selector {printable(self.selector, 80)}: {error}") from error

    def _check_out(self) -> None:
        """A link could be led elsewhere by whoever may write beside it (security 12)."""
        if self.out is None:
            return
        mode = _mode_of("--out", self.out, links=True)
        if mode and stat.S_ISLNK(mode):
            raise UsageError(f"--out {printable(self.out)}: this is a link; name the directory that it leads to")
        if mode and not stat.S_ISDIR(mode):
            raise UsageError(f"--out {printable(self.out)}: this is not a directory")

    def _check_routes(self) -> None:
        for glob, file in self.routes.ca_files:
            _check_file(f"--issuer-ca {printable(glob)}", file)
        for glob, proxy in self.routes.proxies:
            if proxy != DIRECT and usable_proxy(proxy) is None:
                raise UsageError(f"--issuer-proxy {printable(glob)}: expected an http or https URL, or direct")

    def token_paths(self) -> dict[ObjectKey, Path]:
        """Return the token files, by the namespace whose policies may use each (empty: all) and its name.

        Raises:
            UsageError: ``--token-file`` names none.
        """
        found: dict[ObjectKey, Path] = {}
        for text in self.token_files:
            match = _TOKEN_FILE.fullmatch(text)
            if not match:
                expected = "expected NAME=/absolute/path or NAMESPACE/NAME=/absolute/path, names in small letters"
                raise UsageError(f"--token-file {printable(text, 120)}: {expected}")
            key = ObjectKey(match["namespace"] or "", match["name"])
            if key in found:
                raise UsageError(f"--token-file: {match['who']} is named twice")
            if Path(os.path.normpath(match["path"])).parent == _API_SERVERS:
                why = "this token opens the API server to whoever is shown it; project one with an audience of its own"
                raise UsageError(f"--token-file {match['who']}: {why}")
            found[key] = Path(match["path"])
        return found

    @property
    def namespace(self) -> str | None:
        """The namespace of manifests, and of policies that are named, which name none."""
        return self.namespaces[0] if self.namespaces else None

    @property
    def access(self) -> Access:
        """Who else may read the credentials in a directory, and write there.

        Raises:
            UsageError: ``--out-group`` names no group of this process.
        """
        return Access(_group(self.out_group) if self.out_group else None)

    @property
    def manifest_options(self) -> ManifestOptions:
        """How manifests are read."""
        return ManifestOptions(self.recursive, self.selector, self.environment)

    @property
    def in_cluster(self) -> bool:
        """Tell whether policies come from an API server."""
        return not self.filenames

    @property
    def defaults(self) -> Defaults:
        """What the operator sets for all policies.

        Raises:
            UsageError: AZURE_AUTHORITY_HOST is no https address.
        """
        host = self.environment.get("AZURE_AUTHORITY_HOST", "").strip()
        if not host:
            return Defaults(self.namespace or "default", PUBLIC_AUTHORITY, self.azure_scope)
        authority = "https://" + host.removeprefix("https://").rstrip("/")
        if not _AUTHORITY.fullmatch(authority):
            raise UsageError(f"AZURE_AUTHORITY_HOST={printable(host)}: expected a host, or https:// and a host")
        return Defaults(self.namespace or "default", authority, self.azure_scope)


def _group(name: str) -> int:
    try:
        number = int(name) if _NUMBER.fullmatch(name) else grp.getgrnam(name).gr_gid
    except (KeyError, ValueError) as error:
        raise UsageError(f"--out-group {printable(name, 80)}: there is no such group; name it by its number") from error
    if os.geteuid() and number not in {os.getegid(), *os.getgroups()}:
        why = "this process is not in the group, so it cannot give it files"
        raise UsageError(f"--out-group {printable(name, 80)}: {why}")
    return number


def _check_file(option: str, name: str) -> None:
    mode = _mode_of(option, Path(name))
    if mode is None or not stat.S_ISREG(mode):
        why = "there is no such file" if mode is None else "this is not a regular file"
        raise UsageError(f"{option} {printable(name)}: {why}")


def _mode_of(option: str, path: Path, *, links: bool = False) -> int | None:
    try:
        return file_mode(path, links=links)
    except UsageError as error:
        raise UsageError(f"{option} {error}") from error
