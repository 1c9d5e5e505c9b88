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
import time
import traceback
from typing import TYPE_CHECKING, TextIO
from urllib.parse import unquote_plus

from credrotator.core.attempts import current
from credrotator.core.sensitive import Sensitive

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
  | [a-z]*(?:access|id|refresh|session|subject)[-_]?token | (?:x-amz-)?security-token
  | (?:[a-z]+_)?secret[-_]?access[-_]?key | (?:proxy-)?authorization | api-key | private[-_]?key
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
_SIGNATURE = re.compile(r"\w+-HMAC-SHA256 .*?Signature=[0-9a-f]+")
# "eyJ" is ``{"`` in Base64url, with which each header of a JWT begins.
_JWT = re.compile(r"\beyJ[\w-]{6,}\.[\w-]*(?:\.[\w-]*)?")
_PEM = re.compile(r"-----BEGIN (?P<kind>[A-Z ]*PRIVATE KEY)-----.*?(?:-----END (?P=kind)-----|$)", re.DOTALL)
_USER_INFO = re.compile(r"(://[^/\s:@]*):[^/\s@]+@")
_PATTERNS = (
    ("eyJ", _JWT, MASK),
    ("PRIVATE KEY", _PEM, MASK),
    ("-HMAC-SHA256 ", _SIGNATURE, MASK),
    ("://", _USER_INFO, rf"\1:{MASK}@"),
)


def by_pattern(text: str) -> str:
    """Mask what can be nothing but a secret: JWTs, signatures, private keys, passwords in URLs."""
    # What a pattern begins with is looked for first: that takes a tenth of the time, and hardly ever is it there.
    for start, pattern, mask in _PATTERNS:
        if start in text:
            text = pattern.sub(mask, text)
    return text


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
    return by_name(by_pattern(by_value(text)))


class MaskingFormatter(logging.Formatter):
    """Formats a record, traceback included, and masks the whole; a line within a look names policy and rotation."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        return mask_record(record, super().format(record))

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802
        """Write RFC 3339 in UTC, to the millisecond, as the JSON of the same line has it."""
        return show_moment(record.created)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """Append what is looked at; a key that the message names already is not said again."""
        text = super().formatMessage(record)
        attempt = current()
        if attempt is None:
            return text
        key = str(attempt.policy)
        return f"{text} [{attempt.rotation}]" if key in text else f"{text} [{key} {attempt.rotation}]"

    def uncaught(self, error: BaseException, thread: str | None) -> str:
        """Describe what ended the process, or the thread that is named."""
        where = f"Exception in thread {thread}:\n" if thread else ""
        return where + masked("".join(traceback.format_exception(error)))


def is_ours(record: logging.LogRecord) -> bool:
    """Tell whether a line is credrotator's own, and not a library's."""
    return record.name == OURS or record.name.startswith(f"{OURS}.")


def mask_record(record: logging.LogRecord, text: str) -> str:
    """Mask a record's text, or a part of it, as thoroughly as its origin calls for."""
    if is_ours(record) and not (record.exc_info or record.stack_info):
        return by_pattern(text)
    if len(text) > LONGEST:
        return f"{record.levelname} {record.name}: {len(text)} characters, too many to look for secrets in"
    return masked(text)


def show_moment(timestamp_s: float) -> str:
    """Write a Unix time as RFC 3339 in UTC, to the millisecond (what is finer is cut)."""
    thousandths = int(timestamp_s * 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(thousandths // 1000))}.{thousandths % 1000:03}Z"


def install(stream: TextIO, formatter: MaskingFormatter | None = None) -> None:
    """Let all logging go to ``stream``, masked, and mask the tracebacks that end a process or a thread.

    Vendors' loggers stay quiet: what they have to say becomes an outcome.
    """
    # One handler at the root, so that no library's line gets past the mask by a logger of its own.
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter or MaskingFormatter(FORMAT))
    logging.basicConfig(handlers=[handler], level=logging.CRITICAL, force=True)
    # A hook that somebody else has put there (a debugger, a test runner) is theirs.
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _show
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _show_in_thread


def _formatter() -> MaskingFormatter:
    exception = [handler.formatter for handler in logging.getLogger().handlers]
    ours = [formatter for formatter in exception if isinstance(formatter, MaskingFormatter)]
    return ours[0] if ours else MaskingFormatter(FORMAT)


def _show(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    sys.stderr.write(_formatter().uncaught(error, None))


def _show_in_thread(exception: threading.ExceptHookArgs) -> None:
    if exception.exc_value is not None and not isinstance(exception.exc_value, SystemExit):
        sys.stderr.write(_formatter().uncaught(exception.exc_value, exception.thread.name if exception.thread else "?"))


def _unescaped(text: str) -> str:
    """Undo what ``repr`` and JSON do to a text, as far as it matters here."""
    return text.replace("\\n", "\n").replace('\\"', '"').replace("\\'", "'").replace("\\/", "/").replace("\\\\", "\\")
