"""Signing keys and signed tokens of a sandbox server.

Owns key pairs, their rotation, their JWK Set, and the making of JWTs. Must not decide what a token says.
Specification: RFC 7517 (JWK Set), RFC 7519 (JWT), RFC 7518 §3 (RS256, ES256).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Literal

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Algorithm = Literal["RS256", "ES256"]
ALGORITHMS: list[str] = ["RS256", "ES256"]


class SigningKeys:
    """The keys of one server: the newest signs, all of them are published."""

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm: Algorithm = algorithm
        self._lock = threading.Lock()
        self._keys: list[RSAKey | ECKey] = []

    def rotate(self, *, keep_old: bool = True) -> None:
        """Sign with a new key from now on; with ``keep_old`` the others stay in the JWK Set."""
        fresh = _generated(self.algorithm)
        with self._lock:
            self._keys = [fresh, *(self._keys if keep_old else [])]

    def private(self) -> list[dict[str, Any]]:
        """Return the keys as private JWKs, the one that signs first, for ``load`` of another run."""
        return [key.as_dict(private=True) for key in self._current()]

    def load(self, keys: Sequence[Mapping[str, Any]]) -> None:
        """Go on with the keys of another run."""
        loaded = [(RSAKey if key["kty"] == "RSA" else ECKey).import_key(dict(key)) for key in keys]
        with self._lock:
            self._keys = list(loaded)

    def jwks(self) -> dict[str, Any]:
        """Return the public JWK Set (RFC 7517 §5)."""
        return {"keys": [_public(key, self.algorithm) for key in self._current()]}

    def public(self) -> KeySet:
        """Return the set to verify with."""
        return key_set(self.jwks())

    def sign(self, claims: Mapping[str, Any], header: Mapping[str, Any] | None = None) -> str:
        """Return ``claims`` as a compact JWT; ``header`` adds to or replaces ``typ``, ``alg`` and ``kid``."""
        key = self._current()[0]
        full = {"typ": "JWT", "alg": self.algorithm, "kid": key.thumbprint(), **(header or {})}
        return jwt.encode(full, dict(claims), key, algorithms=ALGORITHMS)

    def _current(self) -> list[RSAKey | ECKey]:
        # The first key is made when it is first wanted: an RSA key costs tens of milliseconds.
        with self._lock:
            if not self._keys:
                self._keys = [_generated(self.algorithm)]
            return list(self._keys)


def key_set(document: Mapping[str, Any]) -> KeySet:
    """Return a published JWK Set as keys; raises ``ValueError``, ``KeyError`` or ``JoseError`` if it is none."""
    return KeySet.import_key_set(document)  # type: ignore[arg-type]  # its type is a TypedDict, and this came by wire


def _generated(algorithm: Algorithm) -> RSAKey | ECKey:
    return RSAKey.generate_key(2048) if algorithm == "RS256" else ECKey.generate_key("P-256")


def _public(key: RSAKey | ECKey, algorithm: Algorithm) -> dict[str, Any]:
    return {**key.as_dict(private=False), "kid": key.thumbprint(), "use": "sig", "alg": algorithm}
