"""Bearer tokens, verified as a resource server does it: signature, issuer, audience, expiry (RFC 9068, section 4)."""

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, KeySetSerialization

from tests.e2e.published import token_id
from tests.e2e.upstream.journal import Request, Verdict

_ALGORITHMS = ["RS256", "PS256", "ES256"]


class BearerVerifier:
    """Judges a request by the access token it carries."""

    def __init__(self, keys: KeySetSerialization, *, issuer: str, audience: str) -> None:
        """Trust a JWKS document, for tokens of one issuer that are meant for one audience."""
        self._keys = KeySet.import_key_set(keys)
        self._claims = jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
        )

    def verify(self, request: Request) -> Verdict:
        """Tell which token came, and whether its issuer signed it for this audience and it is in force."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer":
            return Verdict("none", "no bearer token")
        return Verdict(token_id(token), self.fault(token))

    def fault(self, token: str) -> str | None:
        """Return what is wrong with a token, or None."""
        try:
            self._claims.validate(jwt.decode(token, self._keys, algorithms=_ALGORITHMS).claims)
        except (JoseError, ValueError) as error:
            return f"invalid token: {type(error).__name__}"
        return None
