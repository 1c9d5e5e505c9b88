"""Subject tokens from files that somebody keeps fresh, such as the kubelet with a projected service-account token.

Owns the reading of such files. Which there are, and whose policies may use them, is the operator's word: a policy names
one by a name, never by a path. Read anew at each use, and never kept. Source: Kubernetes, "Projected Volumes"
(serviceAccountToken); RFC 7519 §4.1.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from credrotator.core.claims import audiences, claim_time, read_claims
from credrotator.core.errors import Denied, Transient, printable
from credrotator.core.model import ObjectKey, SubjectToken
from credrotator.core.sensitive import Sensitive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credrotator.core.model import TokenFile

# A projected token has one or two KiB; the rest is room for groups.
LONGEST_BYTES = 64 * 1024
API_SERVER_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
"""With it a pod talks to the API server; whoever is shown it can do the same."""
EVERYBODY = ""
"""Stands for the namespace of a file that policies of all namespaces may use."""


class TokenFiles:
    """The operator's token files, by the namespace whose policies may use each, and its name.

    Args:
        files: Where each is.
        secret: The one that is never shown to anybody, under whatever name it is reached.
    """

    def __init__(self, files: Mapping[ObjectKey, Path], secret: Path = API_SERVER_TOKEN) -> None:
        self._files = files
        self._secret = secret

    def token(self, namespace: str, asked: TokenFile) -> SubjectToken:
        """Read the token that policies of a namespace know by this name.

        Raises:
            Denied: There is no such file for them, or what is in it is not the token that the policy wants.
            Transient: It cannot be read at this moment.
        """
        # The namespace's own first, so that an operator can replace a file that all may use for one of them.
        path = self._files.get(ObjectKey(namespace, asked.name)) or self._files.get(ObjectKey(EVERYBODY, asked.name))
        if path is None:
            known = sorted({key.name for key in self._files if key.namespace in {EVERYBODY, namespace}})
            there = f"name one of {', '.join(known)}, or " if known else ""
            raise Denied(
                "TokenSourceNotAllowed",
                f"there is no token file {asked.name} that policies of namespace {namespace} may use",
                hint=f"{there}have the operator allow it: --token-file {asked.name}=PATH",
            )
        token = Sensitive(_content(path, asked.name, self._secret))
        claims = read_claims(token)
        expires_at = claim_time(claims, "exp")
        if claims is None or expires_at is None:
            what = "no signed JWT" if claims is None else "a JWT without exp"
            hint = "project a serviceAccountToken there; the token of a Secret does not expire and is not taken"
            raise Denied("TokenFileInvalid", f"what token file {asked.name} holds is {what}", hint=hint)
        if asked.audience and asked.audience not in audiences(claims):
            got = ", ".join(audiences(claims)) or "none"
            raise Denied(
                "TokenFileAudience",
                f"the policy wants a token for {printable(asked.audience)}, token file {asked.name} is for {got}",
                hint="correct aud in the policy, or the audience of the projected volume",
            )
        return SubjectToken(token, expires_at, claims)


def _content(path: Path, name: str, secret: Path) -> str:
    try:
        content, state = _read(path)
    except OSError as error:
        what = error.strerror or type(error).__name__
        hint = "see --token-file and the volume behind it; the kubelet writes the file before the pod starts"
        raise Transient("TokenFileUnreadable", f"token file {name} cannot be read: {what}", hint=hint) from error
    if _is_file(state, secret) or _holds(secret, content):
        # By what it is: a link, a mount or a copy has another name.
        message = f"token file {name} holds the token with which this pod talks to the API server"
        hint = "project a token with an audience of its own: this one opens the cluster to whoever is shown it"
        raise Denied("TokenFileForbidden", message, hint=hint)
    # A JWT is ASCII. Replaced and not refused here: what comes of it is no JWT, which has a message of its own.
    text = content.decode("ascii", "replace").strip()
    return text if len(content) <= LONGEST_BYTES else ""


def _read(path: Path) -> tuple[bytes, os.stat_result]:
    # NOTE: opening a pipe would wait for somebody to write.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return file.read(LONGEST_BYTES + 1), state


def _is_file(state: os.stat_result, other: Path) -> bool:
    try:
        return os.path.samestat(state, other.stat())
    except OSError:
        return False


def _holds(other: Path, content: bytes) -> bool:
    try:
        return bool(content.strip()) and other.read_bytes().strip() == content.strip()
    except OSError:
        return False
