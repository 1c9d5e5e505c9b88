"""What the operator sets for all commands, however it was written, and the checks of how it fits together."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from credrotator.core.errors import UsageError, printable
from credrotator.core.model import ObjectKey
from credrotator.exchange.http.proxies import usable_proxy
from credrotator.exchange.issuers.routes import DIRECT, IssuerRoutes
from credrotator.files.atomic import Access, group_number
from credrotator.files.bounded import file_mode
from credrotator.files.manifests import ManifestOptions
from credrotator.policies.reader import Defaults
from credrotator.policies.schema import NAMESPACE
from credrotator.policies.selectors import parse_selector
from credrotator.providers import operator_options

if TYPE_CHECKING:
    from collections.abc import Mapping

_LABEL = NAMESPACE.pattern
_TOKEN_FILE = re.compile(rf"(?P<who>((?P<namespace>{_LABEL})/)?(?P<name>{_LABEL}))=(?P<path>/[^\x00]+)")
_GATEWAY = re.compile(rf"({_LABEL})/[a-z0-9]([a-z0-9.-]{{0,251}}[a-z0-9])?")
# Where the kubelet mounts it in every pod (ServiceAccount admission controller).
_API_SERVERS = Path("/var/run/secrets/kubernetes.io/serviceaccount")
# http too: the operator may name an issuer on a loopback or in a mesh; no policy can do so by itself.
ISSUER_GLOB = re.compile(r"https?://[^/\s]\S*", re.IGNORECASE)


def _opens_the_api_server(path: str) -> bool:
    """Tell whether a file is the pod's own token, by its place or by what it is: a link to it has another name."""
    try:
        # By device and inode: a bind mount or a hard link has another name and is the same file.
        same = (_API_SERVERS / "token").samefile(path)
    except OSError:
        same = False
    return same or Path(os.path.normpath(path)).parent == _API_SERVERS


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
    provider_options: Mapping[str, str] = field(default_factory=dict)
    token_files: tuple[str, ...] = ()
    verify_delivery: tuple[str, ...] = ()
    filter_namespace: str = "envoy-gateway-system"
    verify_credentials: bool = False
    # Read when it is asked for, since it changes under tests; a copy would be taken too early.
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def __post_init__(self) -> None:
        # Variables count like flags here: an exported CREDROTATOR_CONTEXT beside -f would look as if it were obeyed.
        if self.filenames and (self.kubeconfig or self.context):
            raise UsageError("-f reads manifests, so --kubeconfig and --context have no place beside it")
        if self.recursive and not self.filenames:
            raise UsageError("--recursive goes with -f: a cluster has no directories")
        if self.out and not self.filenames:
            raise UsageError("--out goes with -f: in a cluster credentials are published as Secrets")
        self._check_selector()
        self._check_out()
        if self.ca_file:
            _check_file("--ca-file", self.ca_file)
        for glob in self.allowed_issuers:
            if not ISSUER_GLOB.fullmatch(glob):
                raise UsageError(f"--allowed-issuer {printable(glob)}: expected a URL such as https://idp.example/*")

        self._check_routes()
        self._check_verification()
        self.token_paths()

    def _check_selector(self) -> None:
        try:
            parse_selector(self.selector if self.filenames else "")
        except ValueError as error:
            raise UsageError(f"--selector {printable(self.selector, 80)}: {error}") from error

    def _check_out(self) -> None:
        """A link could be led elsewhere by whoever may write beside it (security 12)."""
        if self.out_group and not self.out:
            raise UsageError("--out-group goes with --out: it is about the files there")
        if self.out_group:
            _group(self.out_group)
        mode = _mode_of("--out", self.out, links=True) if self.out else None
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

    def _check_verification(self) -> None:
        if self.verify_delivery and self.filenames:
            raise UsageError("-f reads manifests, so --verify-delivery has no place beside it")
        for text in self.verify_delivery:
            if not _GATEWAY.fullmatch(text):
                raise UsageError(f"--verify-delivery {printable(text, 120)}: expected NAMESPACE/GATEWAY")
        if not re.fullmatch(_LABEL, self.filter_namespace):
            raise UsageError(f"--filter-namespace {printable(self.filter_namespace, 120)}: expected a namespace")

    def token_paths(self) -> dict[ObjectKey, Path]:
        """Return the token files, by the namespace whose policies may use each (empty: all) and its name.

        Raises:
            UsageError: ``--token-file`` names none.
        """
        paths: dict[ObjectKey, Path] = {}
        for text in self.token_files:
            match = _TOKEN_FILE.fullmatch(text)
            if not match:
                expected = "expected NAME=/absolute/path or NAMESPACE/NAME=/absolute/path, names in small letters"
                raise UsageError(f"--token-file {printable(text, 120)}: {expected}")
            key = ObjectKey(match["namespace"] or "", match["name"])
            if key in paths:
                raise UsageError(f"--token-file: {match['who']} is named twice")
            if _opens_the_api_server(match["path"]):
                why = "this token opens the API server to whoever is shown it; project one with an audience of its own"
                raise UsageError(f"--token-file {match['who']}: {why}")
            paths[key] = Path(match["path"])
        return paths

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
    def defaults(self) -> Defaults:
        """What the operator sets for all policies.

        Raises:
            UsageError: A vendor's variable cannot be used.
        """
        options = dict(self.provider_options)
        for option in operator_options():
            text = self.environment.get(option.variable, "").strip() if option.variable else ""
            if text and option.name not in options:
                options[option.name] = option.parse(text)
        return Defaults(self.namespace or "default", options, self.verify_credentials)


def _group(name: str) -> int:
    try:
        return group_number(name)
    except UsageError as error:
        raise UsageError(f"--out-group {error}") from error


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
