"""The second line of defence against secrets in logs: what is printed is searched for them first.

The first is never to log them: our own lines hold none, and vendors' loggers stay off. Whoever turns those on (a
debugger, a program that embeds us) gets lines in which botocore and others write whole requests and answers. Owns what
is masked there: by name and shape, since an answer is logged before we have read the secret in it; and by value, all
that a ``Sensitive`` holds. Our own lines without a traceback are masked by shape only: they name fields, and the search
by value takes the longer the more secrets there are (some 5 ms for 10 000 policies).
Source: reliability.md I9.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import traceback
from typing import TYPE_CHECKING, TextIO
from urllib.parse import unquote_plus

from credrotator.model import Sensitive

if TYPE_CHECKING:
    from types import TracebackType

MASK = "***"
LONGEST = 16 * 1024
"""Characters of a vendor's line; a longer one is a body, takes long to search, and helps nobody."""
SHORTEST = 6
"""Characters of a value that is looked for; a shorter one is in every line by chance."""
OURS = "credrotator"
FORMAT = "%(asctime)s %(levelname)s %(message)s"

_NAMES = r"""
    client[-_]?secret | (?:client[-_]?)?assertion | web[-_]?identity[-_]?token | password
  | (?:azure|gcp)?(?:access|id|refresh|session|subject)[-_]?token | (?:x-amz-)?security-token
  | (?:aws_)?secret[-_]?access[-_]?key | (?:proxy-)?authorization | api-key | private[-_]?key
"""
_NAMED = re.compile(
    rf"""
    (?<![A-Za-z/])(?P<name>{_NAMES})
    # As in a form or a file, a header, JSON or a Python dict, XML, a tuple.
    (?P<between>\\?["']?\s*[=:>]\s*(?:b(?=["']))?|["']\s*,\s*b?(?=["']))
    (?P<value>
        \\?"(?:\\.|[^"\\])*(?:\\?"|$) | '(?:\\.|[^'\\])*(?:'|$)
      | (?:(?:basic|bearer|negotiate)\s+)?[^\s&<>,;"'(){{}}\[\]]+
    )
    """,
    re.IGNORECASE | re.VERBOSE,
)
_SIGNATURE = re.compile(r"AWS4-HMAC-SHA256 .*?Signature=[0-9a-f]+")
_JWT = re.compile(r"\beyJ[\w-]{6,}\.[\w-]*(?:\.[\w-]*)?")
_PEM = re.compile(r"-----BEGIN (?P<kind>[A-Z ]*PRIVATE KEY)-----.*?(?:-----END (?P=kind)-----|$)", re.DOTALL)
_USER_INFO = re.compile(r"(://[^/\s:@]*):[^/\s@]+@")


def by_shape(text: str) -> str:
    """Mask what can be nothing but a secret: JWTs, signatures, private keys, passwords in URLs."""
    return _USER_INFO.sub(rf"\1:{MASK}@", _SIGNATURE.sub(MASK, _PEM.sub(MASK, _JWT.sub(MASK, text))))


def by_name(text: str) -> str:
    """Mask the values of telling names: form fields, headers, members of JSON and Python objects, XML elements."""
    return _NAMED.sub(rf"\g<name>\g<between>{MASK}", text)


def by_value(text: str) -> str:
    """Mask every secret that is held at this moment; where one stands in another encoding, all of the text."""
    forms = {text, _unescaped(text), unquote_plus(text)}
    # The secrets are many, the text is short: only those are looked for whose beginning is there at all.
    there = {form[start : start + SHORTEST] for form in forms for start in range(len(form) - SHORTEST + 1)}
    suspects = [secret for secret in Sensitive.held() if len(secret) >= SHORTEST and secret[:SHORTEST] in there]
    # The longest first: one may be a part of another.
    for secret in sorted(suspects, key=len, reverse=True):
        text = text.replace(secret, MASK)
    if any(secret in form for form in (_unescaped(text), unquote_plus(text)) for secret in suspects):
        return MASK
    return text


def masked(text: str) -> str:
    """Mask in all three ways."""
    # By value first: half a secret, left over by a pattern that did not foresee it, would not be found any more.
    return by_name(by_shape(by_value(text)))


class MaskingFormatter(logging.Formatter):
    """Formats a record, traceback included, and masks the whole."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        text = super().format(record)
        if (record.name == OURS or record.name.startswith(f"{OURS}.")) and not (record.exc_info or record.stack_info):
            return by_shape(text)
        if len(text) > LONGEST:
            return f"{record.levelname} {record.name}: {len(text)} characters, too many to look for secrets in"
        return masked(text)


def install(stream: TextIO) -> None:
    """Let all logging go to ``stream``, masked, and mask the tracebacks that end a process or a thread.

    Vendors' loggers stay quiet: what they have to say becomes an outcome.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(MaskingFormatter(FORMAT))
    logging.basicConfig(handlers=[handler], level=logging.CRITICAL, force=True)
    # A hook that somebody else has put there (a debugger, a test runner) is theirs.
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _show
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _show_in_thread


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(masked("".join(traceback.format_exception(kind, error, trace))))


def _show_in_thread(found: threading.ExceptHookArgs) -> None:
    if found.exc_value is not None and not isinstance(found.exc_value, SystemExit):
        name = found.thread.name if found.thread else "?"
        sys.stderr.write(f"Exception in thread {name}:\n")
        _show(found.exc_type, found.exc_value, found.exc_traceback)


def _unescaped(text: str) -> str:
    """Undo what ``repr`` and JSON do to a text, as far as it matters here."""
    return text.replace("\\n", "\n").replace('\\"', '"').replace("\\'", "'").replace("\\/", "/").replace("\\\\", "\\")
