"""Key files of service accounts: what is used of one, and what was done to it on its way into a Secret.

Account and key are used and nothing else: the other fields say where to send things, and a policy's author wrote them.
Nothing of a file is ever quoted. Source: https://cloud.google.com/iam/docs/keys-create-delete
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.auth import crypt
from google.auth.exceptions import GoogleAuthError

from credrotator.core.errors import PolicyError, printable
from credrotator.core.json_text import read_json
from credrotator.exchange.http.transport import text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from credrotator.core.sensitive import Sensitive
    from credrotator.providers.gcp.source import GcpServiceAccount

UNIVERSE = "googleapis.com"
TOKEN_AUDIENCE = "https://oauth2.googleapis.com/token"
TOKEN_URIS = (
    TOKEN_AUDIENCE,
    "https://accounts.google.com/o/oauth2/token",
    "https://www.googleapis.com/oauth2/v4/token",
    "https://www.googleapis.com/oauth2/v3/token",
)
"""What Google has written into key files over the years; all of them are one endpoint."""
LONGEST_KEY = 8 * 1024
"""Characters of a PEM; twice what Google makes. A signature with a key without bounds takes time without bounds."""
HINT = "put a service account's key there, as gcloud iam service-accounts keys create writes it"
AS_IT_IS = (
    "put the file there as it was downloaded: kubectl create secret generic NAME --from-file=service_account.json"
)
_EMAIL = re.compile(r"[A-Za-z0-9._%+-]{1,100}@[A-Za-z0-9.-]{1,200}")
_PEM_BEGIN = "-----BEGIN"


@dataclass(frozen=True, slots=True)
class Account:
    """A service account with a key of it."""

    email: str
    signer: crypt.RSASigner


def read_key_file(content: Sensitive, source: GcpServiceAccount) -> Account:
    """Read a service account's key file.

    Raises:
        PolicyError: KeyFileInvalid: it is none, or one of another kind, or belongs elsewhere than to Google's public
            cloud, or was changed on its way.
    """

    def wrong(what: str, hint: str = HINT) -> PolicyError:
        ref = source.key_file
        return PolicyError("KeyFileInvalid", f"{ref.path}: key {ref.key} of Secret {ref.secret} {what}", hint=hint)

    document = _document(content, wrong)
    if document.get("type") != "service_account":
        raise wrong(_other_type(document))
    for name, expected in (("universe_domain", (UNIVERSE,)), ("token_uri", TOKEN_URIS)):
        # A file of another universe (a sovereign cloud) is for another token endpoint: its assertion would go to the
        # wrong one.
        if document.get(name) is not None and document[name] not in expected:
            raise wrong(f"has the {name} {printable(document[name], 80)}; expected {expected[0]}")
    email, key, key_id = (text(document, name) for name in ("client_email", "private_key", "private_key_id"))
    if not _EMAIL.fullmatch(email) or not key:
        raise wrong("has no client_email, or no private_key")
    return Account(email, _signer(key, key_id, wrong))


def _other_type(document: Mapping[str, Any]) -> str:
    """Say of what type a file is; a configuration of workload identity federation names what its author chose.

    Commands and files of this machine, and addresses, are run, read or asked for nobody: whoever writes a policy is not
    who runs credrotator. Source: https://google.aip.dev/auth/4117 (credential_source).
    """
    named = printable(text(document, "type") or "none", 40)
    source = document.get("credential_source")
    kinds = {"executable": "a command", "file": "a file", "url": "an address", "environment_id": "this machine's cloud"}
    origin = next((what for name, what in kinds.items() if isinstance(source, dict) and source.get(name)), None)
    if origin is None:
        return f"is of type {named}, expected service_account"
    what = f"is of type {named} with a credential_source that is {origin} of this machine's"
    return f"{what}, which no policy may choose; expected service_account"


def _document(content: Sensitive, wrong: Callable[..., PolicyError]) -> Mapping[str, Any]:
    try:
        document = read_json(content.reveal())
    except ValueError as error:
        # NOTE: without the cause, which quotes what it stumbled over.
        if _is_encoded(content):
            raise wrong("is Base64 of a key file: it was encoded once more on its way", AS_IT_IS) from None
        raise wrong(f"is not JSON ({type(error).__name__})") from None
    if isinstance(document, str) and document.lstrip().startswith("{"):
        raise wrong("is a JSON text that holds a key file: it was quoted once more on its way", AS_IT_IS)
    if not isinstance(document, dict):
        raise wrong("is not a JSON object")
    return document


def _signer(key: str, key_id: str, wrong: Callable[..., PolicyError]) -> crypt.RSASigner:
    if len(key) > LONGEST_KEY:
        raise wrong(f"has a private_key of more than {LONGEST_KEY} characters")
    if (flaw := _flaw(key)) is not None:
        raise wrong(flaw, AS_IT_IS)
    try:
        signer: crypt.RSASigner = crypt.RSASigner.from_string(key, printable(key_id, 80) or None)
        # PyCA loads EC keys, too, and only the signature shows that RS256 cannot be made with one.
        signer.sign(b"")  # a key of another kind is taken, and stumbled over here
    except (ValueError, TypeError, AttributeError, GoogleAuthError) as error:
        raise wrong(f"has a private_key that no RS256 signature can be made with ({type(error).__name__})") from None
    return signer


def _is_encoded(content: Sensitive) -> bool:
    """Tell whether a key file was encoded as the data of a Secret is, and then put where that is done again."""
    try:
        # ``data`` instead of ``stringData`` with a value that ``base64`` made.
        return base64.b64decode(content.reveal().strip(), validate=True).lstrip().startswith(b"{")
    except ValueError:
        return False


def _flaw(key: str) -> str | None:
    """Say what was done to a private key on its way, where that shows."""
    if "\\n" in key:
        return "has a private_key whose line ends were escaped once more (a backslash and an n in place of each)"
    if key.startswith(_PEM_BEGIN) and len(key.strip().splitlines()) == 1:
        return "has a private_key without its line ends"
    if not key.lstrip().startswith(_PEM_BEGIN):
        return f"has a private_key that does not begin with {_PEM_BEGIN}, and so is no PEM"
    return None
