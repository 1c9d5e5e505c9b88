"""The Authorization header, kept fresh.

Owns when a token is read again: each minute, since projected service-account tokens are replaced under the same path,
and at once when the server refuses it. Must not send anything. Source: reliability.md 31; KEP-1205 (bound tokens).
"""

from __future__ import annotations

import logging
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from credrotator.core.errors import printable
from credrotator.core.sensitive import Sensitive
from credrotator.kube.client.api_errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger(__name__)

READ_EVERY = timedelta(minutes=1)
REFUSED_EVERY = timedelta(seconds=1)
"""At most this often on refusals: an exec plug-in costs a process each time."""


class HeaderSource(Protocol):
    """Where the header comes from."""

    def read(self, *, afresh: bool) -> Sensitive | None:
        """Return the whole header, None for none. ``afresh``: the server refused the last one.

        Raises:
            ConfigurationError: There should be one, but it cannot be had.
        """


class BearerTokenFile:
    """A file with a bearer token, as the kubelet projects it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, *, afresh: bool) -> Sensitive:  # noqa: ARG002 - a file is always read as it is
        """Return the header; the trailing newline that editors add is no part of a token.

        Raises:
            ConfigurationError: The file cannot be read, is empty, or not ASCII.
        """
        try:
            token = self.path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"the token file {printable(self.path)} cannot be read: {printable(error)}"
            ) from error
        if not token:
            raise ConfigurationError(f"the token file {printable(self.path)} is empty")
        return Sensitive(f"Bearer {token}")


class Authorization:
    """The header for each request, shared by all threads.

    Args:
        source: Where it comes from.
        monotonic: Seconds that only grow.
    """

    def __init__(self, source: HeaderSource, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._header: Sensitive | None = None
        self._read_at: float | None = None

    def header(self) -> Sensitive | None:
        """Return the header to send now.

        Raises:
            ConfigurationError: It cannot be read, and never could.
        """
        with self._lock:
            if self._read_at is None:
                self._take(self._source.read(afresh=False))
            # Read again every minute, as client-go does: the kubelet replaces the file at four fifths of the token's
            # life.
            elif self._age() >= READ_EVERY:
                self._try(afresh=False)
            return self._header

    def renew(self, refused: Sensitive | None) -> bool:
        """Read again after a 401; whether there is another header than the refused one by now."""
        with self._lock:
            # Compared with what was refused: of many threads that get a 401 together, one reads, and the others find
            # its result.
            if self._header == refused and self._age() >= REFUSED_EVERY:
                self._try(afresh=True)
            return self._header != refused

    def _try(self, *, afresh: bool) -> None:
        try:
            self._take(self._source.read(afresh=afresh))
        except ConfigurationError as error:
            # The old one may be good for a while; the server will say.
            log.warning("keeping the old token: %s", error)
            # The time is set, too, or each request would try to read the file again.
            self._take(self._header)

    def _take(self, header: Sensitive | None) -> None:
        self._header, self._read_at = header, self._monotonic()

    def _age(self) -> timedelta:
        return timedelta(seconds=self._monotonic() - (self._read_at or 0.0))
