"""Free ports on the loopback address."""

import random
import socket

# Below the range from which the kernel takes the ports of outgoing connections: a port from there could be
# gone again between this look and the moment at which the server binds it.
_CANDIDATES = range(20_000, 32_000)


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens."""
    for port in random.sample(_CANDIDATES, 100):
        with socket.socket() as ignore_retry_after:
            ignore_retry_after.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                ignore_retry_after.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("none of 100 ports is free")
