"""Each kind of endpoint that is asked, and how a test asks them all."""

from __future__ import annotations

import socket
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from credrotator.exchange.exchanger import Exchanger
    from credrotator.sandbox.service import Service
    from tests.support.exchanging import Backend

ASKS: dict[str, tuple[Callable[[Backend], Service], Callable[[Backend, Exchanger], object]]] = {
    "Issuer": (lambda world: world.sandbox.issuer, lambda world, exchanger: world.token(exchanger)),
    "Sts": (lambda world: world.sandbox.sts, lambda world, exchanger: world.exchange_aws(exchanger)),
    "Entra": (
        lambda world: world.sandbox.entra,
        lambda world, exchanger: world.exchange_azure(world.azure_secret(), exchanger),
    ),
    "Google": (
        lambda world: world.sandbox.google,
        lambda world, exchanger: world.exchange_gcp(world.gcp_key(), exchanger),
    ),
}
everywhere = pytest.mark.parametrize("name", ASKS)


class listening:  # noqa: N801 - reads as the context manager it is
    """A server that does one thing to each connection, and then closes it."""

    def __init__(self, serve: Callable[[socket.socket], object]) -> None:
        self._serve = serve
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> int:
        self._thread.start()
        return int(self._socket.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            with closing(peer):
                try:
                    self._serve(peer)
                except OSError:
                    continue
