"""JWTs that a client signs with its own key, by joserfc.

Owns the claims of such a JWT, the algorithm that fits a key, and what is wrong with a key that does not fit. Nothing of
a key is ever quoted. Source: RFC 7523 §3; OpenID Connect Core 1.0 §9; RFC 7518 §3.1, §3.3 (RSA of 2048 bits or more);
RFC 9864 (Ed25519).
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from credrotator.core.errors import PolicyError, printable
from credrotator.core.sensitive import Sensitive

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from credrotator.core.model import SecretKeyRef

# Used at once. Issuers allow for clocks that differ; a short life keeps one that is logged somewhere from being of use.
LIFE: Final = timedelta(minutes=1)
LEAST_RSA_BITS: Final = 2048
LONGEST_KEY, LONGEST_KEY_ID = 8 * 1024, 256
"""Characters; a signature with a key without bounds takes time without bounds."""
ELLIPTIC: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
RSA: Final = ("RS256", "PS256", "RS384", "PS384", "RS512", "PS512")
"""The preferred one first."""
HINT: Final = "put the client's private key there as PEM (PKCS #8): RSA of 2048 bits or more, P-256, P-384 or Ed25519"

Key = RSAKey | ECKey | OKPKey


def signer(
    pem: Sensitive, key_id: str, reference: SecretKeyRef
) -> Callable[[str, str, datetime, Sequence[str]], Sensitive]:
    """Return what signs a client's assertions: by client id, audience, present moment and the issuer's algorithms.

    Raises:
        PolicyError: ClientKeyInvalid: the key cannot be used. What is returned raises it too: the issuer takes no
            algorithm that fits the key.
    """

    def wrong(what: str, hint: str = HINT) -> PolicyError:
        where = f"{reference.path}: key {reference.key} of Secret {reference.secret}"
        return PolicyError("ClientKeyInvalid", f"{where} {what}", hint=hint)

    if not key_id.strip() or len(key_id) > LONGEST_KEY_ID or not key_id.isprintable():
        raise wrong("stands beside a key-id that is none", "put the id there under which the issuer has the public key")
    key = _key(pem, wrong)

    def sign(client_id: str, audience: str, now: datetime, algorithms: Sequence[str]) -> Sensitive:
        algorithm = _algorithm(key, algorithms, wrong)
        claims = {
            "iss": client_id,
            "sub": client_id,
            "aud": audience,
            # Required by OpenID Connect Core §9, and what an issuer refuses a second use by.
            "jti": str(uuid.uuid4()),
            "iat": int(now.timestamp()),
            "exp": int((now + LIFE).timestamp()),
        }
        header = {"typ": "JWT", "alg": algorithm, "kid": key_id.strip()}
        return Sensitive(jwt.encode(header, claims, key, algorithms=[algorithm]))

    return sign


def _key(pem: Sensitive, wrong: Callable[..., PolicyError]) -> Key:
    text = pem.reveal()
    if len(text) > LONGEST_KEY:
        raise wrong(f"has more than {LONGEST_KEY} characters")
    if "-----BEGIN" not in text:
        raise wrong("is no PEM")
    if "ENCRYPTED" in text:
        raise wrong("is encrypted", "put the key there without a passphrase: openssl pkey -in KEY -out PLAIN")
    if "PRIVATE KEY" not in text:
        raise wrong("is no private key")
    # By trying: a PEM of PKCS #8 does not say in its first line which kind it holds.
    for kind in (RSAKey, ECKey, OKPKey):
        try:
            key: Key = kind.import_key(text)
        except (ValueError, TypeError, AttributeError, JoseError):
            # NOTE: without the cause, which may quote what it stumbled over.
            continue
        return _fit(key, wrong)
    raise wrong("is no private key that can be read")


def _fit(key: Key, wrong: Callable[..., PolicyError]) -> Key:
    if isinstance(key, RSAKey) and key.private_key is not None and key.private_key.key_size < LEAST_RSA_BITS:
        raise wrong(f"is an RSA key of {key.private_key.key_size} bits")
    if isinstance(key, ECKey) and key.curve_name not in ELLIPTIC:
        raise wrong(f"is on the curve {printable(key.curve_name, 20)}")
    if isinstance(key, OKPKey) and key.curve_name != "Ed25519":
        raise wrong(f"is of the kind {printable(key.curve_name, 20)}")
    return key


def _algorithm(key: Key, taken: Sequence[str], wrong: Callable[..., PolicyError]) -> str:
    fitting: tuple[str, ...] = RSA
    if isinstance(key, ECKey):
        fitting = (ELLIPTIC[key.curve_name],)
    elif isinstance(key, OKPKey):
        # Not by its older name EdDSA, which RFC 9864 deprecates.
        fitting = ("Ed25519",)
    chosen = next((each for each in fitting if not taken or each in taken), None)
    if chosen is None:
        shown = printable(", ".join(taken), 80)
        raise wrong(f"makes signatures by {fitting[0]}, and the issuer takes {shown}", "make a key of another kind")
    return chosen
