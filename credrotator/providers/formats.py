"""A credential as the document that a program's own source of credentials expects from another program.

``AWS``: SDKs and Tools Reference Guide, "Process credential provider". ``Azure``: what ``az account get-access-token``
prints, which Azure's SDKs ask for as "Azure CLI credential". ``Google``: AIP-4117, "Determining the subject token in
executable-sourced credentials", whose token is the issuer's. Each document ends with a newline.
"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

from credrotator.core.secretdata import show_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from credrotator.core.model import SubjectToken
    from credrotator.core.published_credential import PublishedCredential

KEYS = {
    "AccessKeyId": "access_key_id",
    "SecretAccessKey": "secret_access_key",
    "SessionToken": "session_token",
}


def _aws(credential: PublishedCredential) -> str:
    keys = {name: credential.fields[field].reveal() for name, field in KEYS.items()}
    return _json({"Version": 1, **keys, "Expiration": show_time(credential.expires_at)})


def _azure(credential: PublishedCredential) -> str:
    # az prints local time without a zone in ``expiresOn``. Newer SDKs read ``expires_on``, which has no such trouble;
    # older ones know only the first.
    local = credential.expires_at.astimezone()
    return _json({
        "accessToken": credential.fields["token"].reveal(),
        "expiresOn": f"{local:%Y-%m-%d %H:%M:%S.%f}",
        "expires_on": int(credential.expires_at.timestamp()),
        "tokenType": "Bearer",
    })  # fmt: skip


def _bearer(credential: PublishedCredential) -> str:
    return credential.fields["token"].reveal() + "\n"


def _env(credential: PublishedCredential) -> str:
    # Quoted for a shell: a token is ASCII without blanks, but a template's or a vendor's next format may not be.
    lines = (f"export {name}={shlex.quote(value.reveal())}\n" for name, value in credential.environment.items())
    return "".join(lines)


def _executable(token: SubjectToken) -> str:
    return _json({
        # AIP-4117 knows no other. ``expiration_time`` may be left out only where the output file is not used.
        "version": 1,
        "success": True,
        "token_type": "urn:ietf:params:oauth:token-type:jwt",
        "id_token": token.token.reveal(),
        "expiration_time": int(token.expires_at.timestamp()),
    })  # fmt: skip


def _json(document: Mapping[str, object]) -> str:
    return json.dumps(document, indent=2) + "\n"


FORMATS: Mapping[str, Callable[[PublishedCredential], str]] = {
    "aws": _aws,
    "azure": _azure,
    "bearer": _bearer,
    "env": _env,
}
"""Of published credentials; a format raises KeyError with the field that a credential lacks."""
TOKEN_FORMATS: Mapping[str, Callable[[SubjectToken], str]] = {"gcp-executable": _executable}
"""Of the issuer's tokens, which the program exchanges itself."""
DEFAULT_FORMAT = "aws"
