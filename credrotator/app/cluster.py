"""A cluster, as the operator names it: the API server, and which policies in it are meant."""

from __future__ import annotations

import socket
import uuid
from typing import TYPE_CHECKING

from credrotator import __version__
from credrotator.app.serving import listed, serving
from credrotator.core.errors import UsageError, printable
from credrotator.core.model import ObjectKey
from credrotator.kube.access import check_account_right, check_filter_rights, check_rights
from credrotator.kube.account_tokens import ClusterAccountTokens
from credrotator.kube.client.api import NO_OBSERVER, KubeApi
from credrotator.kube.client.api_errors import ClusterNotNamed, ConfigurationError
from credrotator.kube.filter_config_reader import FilterConfigs
from credrotator.kube.paths import served_version
from credrotator.kube.served_schema import read_schema
from credrotator.kube.source import Scope
from credrotator.kube.store import ClusterStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from credrotator.app.settings import Settings
    from credrotator.core.ports import PolicySource
    from credrotator.kube.access import Right
    from credrotator.kube.client.api import DateObserver

LEASE = "credrotator"
"""Name of the Lease by which replicas agree on a leader, unless ``--lease`` says another."""


class Cluster:
    """The parts that talk to one API server.

    Args:
        settings: Name the cluster and its policies.
        dates: Told of the server's dates.

    Attributes:
        api: The server.
        store: Its Secrets.
        account_tokens: What gets tokens of its service accounts.
        identity: This process, among replicas.

    Raises:
        UsageError: There is no such cluster.
    """

    def __init__(self, settings: Settings, dates: DateObserver) -> None:
        self._settings = settings
        self.api = connect(settings.kubeconfig, settings.context, dates)
        self.store = ClusterStore(self.api)
        self.account_tokens = ClusterAccountTokens(self.api)
        # NOTE: host name and pid are not enough: pods in the host's network share the one, and have pid 1 each.
        self.identity = f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"

    def close(self) -> None:
        """Give up the connections."""
        self.api.close()

    @property
    def namespace(self) -> str:
        """The namespace of policies that are named without one."""
        return self._settings.namespace or self.api.default_namespace

    def scope(self) -> Scope:
        """Return which policies are meant: the namespaces of ``-n``, all with ``-A``, else the context's own.

        Raises:
            RotationError: The gateway's API is not served, or the server cannot be asked.
        """
        namespaces = () if self._settings.all_namespaces else self._namespaces()
        version = served_version(self.api)
        return Scope(version, namespaces, self._settings.selector, read_schema(self.api, version))

    def serving(self, source: PolicySource) -> str:
        """Say which policies a daemon serves here; see ``serving``."""
        namespaces = () if self._settings.all_namespaces else self._namespaces()
        of = f"of {'namespace ' * bool(namespaces)}{listed(namespaces) or 'all namespaces'}"
        labels = f" with labels {printable(self._settings.selector, 80)}" if self._settings.selector else ""
        where = f"{of}{labels} at {printable(self.api.server)}, credentials to Secrets there"
        return serving(source, where, self._settings)

    def lease(self, name: str | None) -> ObjectKey:
        """Return the Lease of the election: the one that ``--lease`` names, else the usual one."""
        return ObjectKey.parse(name or LEASE, self.api.default_namespace)

    def rights(self, lease: str | None) -> list[Right]:
        """Ask what this account may do where the policies are, with the Lease, and where filters are configured."""
        namespaces: Sequence[str | None] = (None,) if self._settings.all_namespaces else self._namespaces()
        asked = list(check_rights(self.api, namespaces, self.lease(lease)))
        which = FilterConfigs.named(self._settings.verify_delivery, self._settings.filter_namespace)
        return [*asked, *check_filter_rights(self.api, which)] if which else asked

    def account_right(self, account: ObjectKey) -> Right:
        """Ask whether this account may have tokens of a service account."""
        return check_account_right(self.api, account)

    def _namespaces(self) -> tuple[str, ...]:
        return self._settings.namespaces or (self.api.default_namespace,)


def connect(kubeconfig: str | None, context: str | None, dates: DateObserver = NO_OBSERVER) -> KubeApi:
    """Make a client for the cluster that kubectl would talk to, else the one that this pod runs in.

    Raises:
        UsageError: There is none, or its configuration cannot be used.
    """
    try:
        return KubeApi.from_config(kubeconfig, context, user_agent=f"credrotator/{__version__}", dates=dates)
    except ClusterNotNamed as error:
        raise UsageError("no cluster: name one with --kubeconfig or KUBECONFIG, or read manifests with -f") from error
    except ConfigurationError as error:
        raise UsageError(str(error)) from error
