"""Values that stand where a secret should: ciphertext, references to a vault, templates that nobody filled in. Pure.

Owns how such a value is told from a secret. One that is sent to an issuer helps nobody and may lock the client, so it
is refused by name. A pattern is for the whole value, unless nothing else can look like it: a generated secret may have
any character anywhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StandIn:
    """What a value is instead of a secret, as a noun, and what a person can do about it."""

    what: str
    hint: str
    encrypted: bool = False


_DECRYPT = "decrypt it before credrotator reads it"
_SOPS = "decrypt the file first: sops --decrypt FILE | credrotator … -f -"
_FILL_IN = "put the secret itself there, or let the tool that fills this in run first"

_CIPHERTEXT = (
    (re.compile(r"ENC\[AES256_GCM,"), StandIn("a value that SOPS encrypted", _SOPS, encrypted=True)),
    (re.compile(r"ENC\[[A-Z0-9_]+,"), StandIn("a value that eyaml encrypted", _DECRYPT, encrypted=True)),
    (re.compile(r"\A\s*\$ANSIBLE_VAULT;"), StandIn("a value that Ansible Vault encrypted", _DECRYPT, encrypted=True)),
    (
        re.compile(r"-----BEGIN (?:AGE ENCRYPTED FILE|PGP MESSAGE|CMS|PKCS7)-----|\A\s*age-encryption\.org/v"),
        StandIn("an encrypted file", _DECRYPT, encrypted=True),
    ),
    (
        re.compile(r"\A\s*vault:v[0-9]+:[\w+/=]+\s*\Z"),
        StandIn("a value that Vault encrypted", _DECRYPT, encrypted=True),
    ),
    (re.compile(r"\A\s*(?:ENC\(.+\)\s*\Z|\{cipher\})"), StandIn("an encrypted value", _DECRYPT, encrypted=True)),
)
"""Searched for anywhere in a value: a key file may be encrypted in parts."""
_PLACEHOLDERS = (
    (re.compile(r"(?:>>)?vault:[\w/.-]+(?:#.*)?"), "a reference to Vault (vault:…)"),
    (re.compile(r"(?:secret)?ref\+[a-z0-9]+:.+"), "a reference that vals fills in (ref+…)"),
    (re.compile(r"[a-z][a-z0-9+.-]*://\S+"), "a reference to a secret elsewhere (…://…)"),
    (re.compile(r"@[A-Za-z.]+\([^()]*\)|arn:[\w-]+:(?:secretsmanager|ssm):.+"), "a reference to a secret elsewhere"),
    (re.compile(r"<[A-Za-z][\w .:/#|@-]*>"), "a placeholder (<…>)"),
    (re.compile(r"\{\{.*\}\}"), "a template that nobody rendered ({{…}})"),
    (re.compile(r"\$\{[^{}]*\}|\$\([^()]*\)|\$[A-Za-z_]\w+"), "a variable that nobody replaced"),
    (re.compile(r"%[A-Za-z_]\w*%|#\{[^{}]+\}#?|@@?[A-Za-z_]\w*@@?|__[A-Za-z]\w*__"), "a variable that nobody replaced"),
    (re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*_(?:KEY|SECRET|TOKEN|PASSWORD)"), "the name of a variable"),
    (re.compile(r"[*•]{3,}|[xX]{3,}|\.{3,}|…"), "a mask"),
)
_REQUEST = re.compile(
    r"[\[(]?(?:(?:please)?(?:change|replace)(?:me|this|it)(?:now|please)?|(?:replaced?|insert)(?:with|at|by|your).*"
    r"|your.*(?:secret|key|token|password|credential)s?(?:here)?|todo|tbd|fixme|placeholder|redacted|hidden|masked)[\])]?"
)
_SPACING = re.compile(r"[\s_-]+")
# Above it a value is a file or a key; the patterns with ``.*`` take time by its length.
_LONGEST = 1000


def stand_in(value: str) -> StandIn | None:
    """Tell what a value is that is no secret; None for anything that may be one."""
    for pattern, ciphertext in _CIPHERTEXT:
        if pattern.search(value):
            return ciphertext
    # Templates that write ``"<secret>"`` into YAML by hand leave their quotes in the value.
    text = value.strip().strip("\"'")
    if len(text) > _LONGEST:
        return None
    for pattern, what in _PLACEHOLDERS:
        if pattern.fullmatch(text):
            return StandIn(what, _FILL_IN)
    if _REQUEST.fullmatch(_SPACING.sub("", text).lower()):
        return StandIn("a text that asks to be replaced", _FILL_IN)
    return None
