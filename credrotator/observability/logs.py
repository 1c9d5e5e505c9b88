"""How the log is written: for people on a terminal, as JSON for machines.

Owns the choice between the two and the layout of the JSON. What must not be shown is the business of ``redaction``: of
a record's texts, each is masked before it becomes JSON, where quotes and line ends are not what they were any more.
Source: RFC 3339, RFC 8259.
"""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING, Literal, TextIO

from credrotator.core.attempts import current
from credrotator.observability import redaction
from credrotator.observability.redaction import MaskingFormatter, is_ours, mask_record, show_moment

if TYPE_CHECKING:
    from collections.abc import Mapping

Form = Literal["auto", "text", "json"]
FORMS: tuple[Form, ...] = ("auto", "text", "json")
AUDIT = "credrotator.audit"
"""Logger of the decisions about credentials."""
IN_A_CLUSTER = "KUBERNETES_SERVICE_HOST"
"""Set by the kubelet in every container."""
# Made once: json.dumps with an argument makes an encoder for each line.
_encode = json.JSONEncoder(default=str).encode


class JsonFormatter(MaskingFormatter):
    """Writes a record as one JSON object on one line.

    ``time``, ``level``, ``logger`` and ``message`` always; ``policy`` and ``rotation`` within a look; ``traceback``
    where there is one; then the members of ``fields``, which a record of ours may carry as ``extra``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        entry: dict[str, object] = {
            "time": show_moment(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        attempt = current()
        if attempt is not None:
            entry["policy"] = str(attempt.policy)
            entry["rotation"] = attempt.rotation
        # NOTE: a library may call anything of its own ``fields``.
        fields = record.__dict__.get("fields") if is_ours(record) else None
        if fields:
            entry.update(fields)
        traces = [self.formatException(record.exc_info)] if record.exc_info else []
        if record.stack_info:
            traces.append(self.formatStack(record.stack_info))
        if traces:
            entry["traceback"] = "\n".join(traces)
        return _encode(_masked(record, entry))

    def uncaught(self, error: BaseException, thread: str | None) -> str:
        """See MaskingFormatter."""
        message = f"thread {thread} ended by an error" if thread else "ended by an error"
        info = (type(error), error, error.__traceback__)
        return self.format(logging.LogRecord(redaction.OURS, logging.CRITICAL, "", 0, message, None, info)) + "\n"


def _masked(record: logging.LogRecord, entry: dict[str, object]) -> dict[str, object]:
    texts = [value for value in entry.values() if isinstance(value, str)]
    together = "\n".join(texts)
    # One search instead of a dozen: nearly always there is nothing to mask.
    if mask_record(record, together) == together:
        return entry
    return {name: mask_record(record, value) if isinstance(value, str) else value for name, value in entry.items()}


def install(stream: TextIO, form: Form = "auto", environment: Mapping[str, str] = os.environ) -> None:
    """Let all logging go to ``stream`` in one form; ``auto``: JSON in a cluster, unless a person looks on.

    Whoever reads JSON wants the audit records at any verbosity; a person on a terminal has the command's own table.
    """
    if form == "auto":
        form = "json" if environment.get(IN_A_CLUSTER) and not stream.isatty() else "text"
    redaction.install(stream, JsonFormatter() if form == "json" else None)
    # In text, a person has the table; records that repeat it are for -v. In JSON they are always written: that is the
    # audit log.
    logging.getLogger(AUDIT).setLevel(logging.INFO if form == "json" else logging.NOTSET)
