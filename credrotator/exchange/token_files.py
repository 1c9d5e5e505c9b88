"""Subject tokens from files that somebody keeps fresh, such as the kubelet with a projected service-account token.

Owns the reading of such files. Which there are, and whose policies may use them, is the operator's word: a policy names
one by a name, never by a path. Read anew at each use, and never kept. Source: Kubernetes, "Projected Volumes"
(serviceAccountToken); RFC 7519 §4.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.core.claims import audiences, claim_time, read_claims
from credrotator.core.errors import Denied, Transient, printable
from credrotator.core.model import ObjectKey, Sensitive, SubjectToken

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from credrotator.core.model import TokenFile

LONGEST_BYTES = 64 * 1024
EVERYBODY = ""
"""Stands for the namespace of a file that policies of all namespaces may use."""


class TokenFiles:
    """The operator's token files, by the namespace whose policies may use each, and its name."""

    def __init__(self, files: Mapping[ObjectKey, Path]) -> None:
        self._files = files

    def token(self, namespace: str, wanted: TokenFile) -> SubjectToken:
        """Read the token that policies of a namespace know by this name.

        Raises:
            Denied: There is no such file for them, or what is in it is not the token that the policy wants.
            Transient: It cannot be read at this moment.
        """
        path = self._files.get(ObjectKey(namespace, wanted.name)) or self._files.get(ObjectKey(EVERYBODY, wanted.name))
        if path is None:
            known = sorted({key.name for key in self._files if key.namespace in {EVERYBODY, namespace}})
            there = f"name one of {', '.join(known)}, or " if known else ""
            raise Denied(
                "TokenSourceNotAllowed",
                f"there is no token file {wanted.name} that policies of namespace {namespace} may use",
                hint=f"{there}have the operator allow it: --token-file {wanted.name}=PATH",
            )
        token = Sensitive(_content(path, wanted.name))
        claims = read_claims(token)
        expires_at = claim_time(claims, "exp")
        if claims is None or expires_at is None:
            what = "no signed JWT" if claims is None else "a JWT without exp"
            hint = "project a serviceAccountToken there; the token of a Secret does not expire and is not taken"
            raise Denied("TokenFileInvalid", f"what token file {wanted.name} holds is {what}", hint=hint)
        if wanted.audience and wanted.audience not in audiences(claims):
            got = ", ".join(audiences(claims)) or "none"
            raise Denied(
                "TokenFileAudience",
                f"the policy wants a token for {printable(wanted.audience)}, token file {wanted.name} is for {got}",
                hint="correct aud in the policy, or the audience of the projected volume",
            )
        return SubjectToken(token, expires_at, claims)


def _content(path: Path, name: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST_BYTES + 1)
    except OSError as error:
        what = error.strerror or type(error).__name__
        hint = "see --token-file and the volume behind it; the kubelet writes the file before the pod starts"
        raise Transient("TokenFileUnreadable", f"token file {name} cannot be read: {what}", hint=hint) from error
    text = content.decode("ascii", "replace").strip()
    return text if len(content) <= LONGEST_BYTES else ""
