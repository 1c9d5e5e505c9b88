"""The Keycloak realms of the suite: an issuer, and a tenant in Entra's place.

Keycloak differs from what they stand for in three ways that shape them. It ignores the `audience` of a token
request, so each audience is a client with a mapper. It takes a client assertion only for one audience, the address
of the realm, where Entra wants `api://AzureADTokenExchange`. And a client proves itself in one way only, so the app
that has a federated credential and the app that has a client secret are two.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from joserfc.jwk import ECKey, RSAKey

from tests.support.parts.oidc_clients import Client

ISSUER = "rotator"
SECRETLESS = "secretless"
TENANT = "11111111-2222-3333-4444-555555555555"

AWS_AUDIENCE = "sts.amazonaws.com"
AWS_ROLE = "arn:aws:iam::123456789012:role/bedrock"
ENTRA_AUDIENCE = "https://cognitiveservices.azure.com"

AWS_CLIENT = "credrotator"
ENTRA_CLIENT = "credrotator-entra"
STRANGER = "stranger"
CLIENT_SECRET = "sandbox-client-secret"

FEDERATED_APP = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
SECRET_APP = "aaaaaaaa-bbbb-cccc-dddd-ffffffffffff"
APP_SECRET = "sandbox-entra-secret"
RESOURCE_SECRET = "resource-secret"

_SUBJECT = "00000000-0000-4000-8000-000000000001"
_SCOPE = f"{ENTRA_AUDIENCE}/.default"

_Json = dict[str, Any]


def issuer_realm(*, entra: str) -> _Json:
    """Return the realm whose tokens AWS and Entra are to trust; `entra` is the audience of the latter."""
    policy = _mapper("hardcoded-claim", **{"claim.name": "policy", "claim.value": "readwrite"})
    # Its tokens are signed like the others', for an audience that nobody trusts.
    stranger = _client(STRANGER, secret=CLIENT_SECRET, mappers=[_audience("https://example.com"), policy])
    return _realm(
        ISSUER,
        token_life_s=900,
        clients=[
            _client(AWS_CLIENT, secret=CLIENT_SECRET, mappers=[_audience(AWS_AUDIENCE), policy]),
            _client(ENTRA_CLIENT, secret=CLIENT_SECRET, mappers=[_audience(entra)]),
            stranger,
        ],
        # The subject of a service account is its user's id, which Keycloak draws by lot unless the user is given.
        users=[
            {
                "id": _SUBJECT,
                "username": f"service-account-{ENTRA_CLIENT}",
                "enabled": True,
                "serviceAccountClientId": ENTRA_CLIENT,
            }
        ],
    )


def entra_realm(*, issuer: str, keys: str, authority: str) -> _Json:
    """Return the tenant, which trusts the client assertions of `issuer` and lives at `authority`."""
    trust = {
        "issuer": issuer,
        "jwksUrl": keys,
        "useJwksUrl": "true",
        "validateSignature": "true",
        "supportsClientAssertions": "true",
        # One assertion serves all policies that would ask the issuer for the same.
        "supportsClientAssertionReuse": "true",
        # The rest belongs to log-in by browser, which this realm has not.
        "authorizationUrl": issuer,
        "tokenUrl": issuer,
        "clientId": "unused",
        "clientSecret": "unused",
    }
    federated = {"jwt.credential.issuer": ISSUER, "jwt.credential.sub": _SUBJECT}
    return _realm(
        TENANT,
        token_life_s=3600,
        attributes={"frontendUrl": authority},
        identityProviders=[{"alias": ISSUER, "providerId": "oidc", "enabled": True, "config": trust}],
        clientScopes=[_scope(_SCOPE, _audience(ENTRA_AUDIENCE))],
        clients=[
            _client(
                FEDERATED_APP,
                clientAuthenticatorType="federated-jwt",
                attributes=federated,
                optionalClientScopes=[_SCOPE],
            ),
            _client(SECRET_APP, secret=APP_SECRET, optionalClientScopes=[_SCOPE]),
            # The resource that the tokens are for; only it may ask whether one is in force.
            _client(ENTRA_AUDIENCE, secret=RESOURCE_SECRET),
        ],
    )


def secretless_realm(*, issuer: str, public_key: str, subject: str, keys: Mapping[str, RSAKey | ECKey]) -> _Json:
    """Return a realm whose clients have no secret.

    Args:
        issuer: Of a cluster that signs for service accounts.
        public_key: With which it does, as PEM.
        subject: The service account that `by-account` is.
        keys: Of the clients `by-NAME`, which sign for themselves.
    """
    trust = {
        "issuer": issuer,
        "useJwksUrl": "false",
        "publicKeySignatureVerifier": public_key,
        "validateSignature": "true",
        "supportsClientAssertions": "true",
        # The rest belongs to log-in by browser, which this realm has not.
        "authorizationUrl": issuer,
        "tokenUrl": issuer,
        "clientId": "unused",
        "clientSecret": "unused",
    }
    federated = {"jwt.credential.issuer": "cluster", "jwt.credential.sub": subject}
    return _realm(
        SECRETLESS,
        token_life_s=900,
        identityProviders=[{"alias": "cluster", "providerId": "oidc", "enabled": True, "config": trust}],
        clients=[
            _client("by-account", clientAuthenticatorType="federated-jwt", attributes=federated),
            *(
                _client(f"by-{name}", clientAuthenticatorType="client-jwt", attributes=_jwks(keys[name]))
                for name in keys
            ),
        ],
    )


def _jwks(key: RSAKey | ECKey) -> _Json:
    algorithm = "RS256" if isinstance(key, RSAKey) else "ES256"
    public = {**key.as_dict(private=False), "kid": key.thumbprint(), "use": "sig", "alg": algorithm}
    return {"use.jwks.string": "true", "jwks.string": json.dumps({"keys": [public]})}


def _realm(name: str, *, token_life_s: int, **rest: object) -> _Json:
    return {
        "realm": name,
        "enabled": True,
        "sslRequired": "none",
        "accessTokenLifespan": token_life_s,
        **rest,
    }


def _client(client_id: str, *, mappers: list[_Json] | None = None, **rest: object) -> _Json:
    return {
        "clientId": client_id,
        "serviceAccountsEnabled": True,
        "standardFlowEnabled": False,
        "fullScopeAllowed": False,
        "protocolMappers": mappers or [],
        **rest,
    }


def _scope(name: str, mapper: _Json) -> _Json:
    return {
        "name": name,
        "protocol": "openid-connect",
        "attributes": {"include.in.token.scope": "true"},
        "protocolMappers": [mapper],
    }


def _audience(audience: str) -> _Json:
    # A client's mappers are told apart by their names.
    return {**_mapper("audience", **{"included.custom.audience": audience}), "name": f"audience {audience}"}


def _mapper(kind: str, **config: str) -> _Json:
    return {
        "name": kind,
        "protocol": "openid-connect",
        "protocolMapper": f"oidc-{kind}-mapper",
        "config": {"access.token.claim": "true", **config},
    }


def issuers_realm(name: str, clients: Iterable[Client], *, scopes: Iterable[str]) -> _Json:
    """Return a realm with these clients, and client scopes that put their own names into the claim `policy`."""
    policies = [_mapper("hardcoded-claim", **{"claim.name": "policy", "claim.value": scope}) for scope in scopes]
    return _realm(
        name,
        token_life_s=900,
        clientScopes=[_scope(scope, policy) for scope, policy in zip(scopes, policies, strict=True)],
        clients=[
            _client(
                client.id,
                mappers=[_audience(audience) for audience in client.audiences],
                serviceAccountsEnabled=client.grant,
                standardFlowEnabled=not client.grant,
                optionalClientScopes=list(client.scopes),
                **_authentication(client),
            )
            for client in clients
        ],
    )


def _authentication(client: Client) -> _Json:
    if client.method == "private_key_jwt":
        return {"clientAuthenticatorType": "client-jwt"}
    return {"secret": client.secret, "attributes": {"client.secret.authentication.allowed.method": client.method}}
