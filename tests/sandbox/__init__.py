"""Tests of the local issuer, STS and Entra, over real sockets and with the vendors' own clients."""
