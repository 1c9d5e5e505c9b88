"""What a context of a kubeconfig comes to, whoever read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypedDict

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from credrotator.core.sensitive import Sensitive


class Context(TypedDict, total=False):
    """An entry of ``contexts``, as far as it is read here."""

    cluster: str
    user: str
    namespace: str


Cluster = TypedDict("Cluster", {"proxy-url": str, "tls-server-name": str}, total=False)
"""An entry of ``clusters``, as far as the vendor's loader leaves it to us."""
User = TypedDict(
    "User",
    {"tokenFile": str, "as": object, "as-uid": object, "as-groups": object, "as-user-extra": object},
    total=False,
)
"""An entry of ``users``, as far as it is read here; what nobody has checked yet is an object."""


class Header(Protocol):
    """Gives the Authorization header that a context has by itself."""

    def __call__(self) -> Sensitive | None:
        """Return it; None without one.

        Raises:
            ConfigurationError: A plug-in gives none.
        """


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of the server's CA, and of the client's certificate with its key; None for none."""

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None


class TlsFilesMaker(Protocol):
    """Has the files there for as long as they are read."""

    def __call__(self) -> AbstractContextManager[TlsFiles]:
        """Return their names in a block."""


@dataclass(frozen=True, slots=True)
class LoadedContext:
    """One context.

    Attributes:
        server: Base URL.
        verified: Whether its certificate is to be verified.
        folder: That of the file in which the user stands; relative names in it begin there.
    """

    server: str
    verified: bool
    context: Context
    cluster: Cluster
    user: User
    folder: Path
    header: Header
    tls_files: TlsFilesMaker
