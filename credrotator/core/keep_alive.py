"""How long a connection may be idle, for all clients here. Pure: numbers, and no socket.

Firewalls and load balancers drop what is idle for a minute or so, and tell neither side: a request on such a connection
gets no answer until it times out. Keep-alive packets are sent before that, and a connection that was idle for nearly as
long is not used again. Source: reliability.md 60.
"""

from __future__ import annotations

import socket

LONGEST_IDLE_S = 45.0
_FIRST_PROBE_S, _PROBE_EVERY_S, _PROBES = 20, 10, 3
_NAMES = {"TCP_KEEPIDLE": _FIRST_PROBE_S, "TCP_KEEPINTVL": _PROBE_EVERY_S, "TCP_KEEPCNT": _PROBES}

SocketOption = tuple[int, int, int]
"""Level, name and value, as ``setsockopt`` takes them."""


def socket_options() -> list[SocketOption]:
    """Return the options of each TCP connection: small requests at once, and keep-alive where the system has it."""
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    names = [(getattr(socket, name, None), value) for name, value in _NAMES.items()]
    return [*options, *((socket.IPPROTO_TCP, name, value) for name, value in names if name is not None)]
