"""The command line with the root logger at DEBUG, whatever it says itself: what somebody has who debugs a vendor.

``LOUD_EXPLODE`` names a place in the exchange that fails with a text that no code of ours would write: with the whole
answer of STS in it (``answer``), or with the bare subject token (``token``). ``LOUD_UNMASKED`` takes the masking away,
to see that there is something to mask.
"""

from __future__ import annotations

import logging
import os
from typing import Any, NoReturn

from credrotator.cli.main import main
from credrotator.observability import redaction
from credrotator.providers.aws import sts as aws


def _explode_with_answer(answer: Any, *_: Any) -> NoReturn:
    raise LookupError(f"cannot use {answer}")


def _explode_with_token(_sts: Any, _policy: Any, _source: Any, token: Any) -> NoReturn:
    raise LookupError(token.token.reveal().rpartition(".")[2], token.token.reveal())


def _unmasked(text: str) -> str:
    return text


def _loud() -> None:
    root: Any = logging.root
    root.setLevel(logging.DEBUG)
    root.setLevel = lambda _: None
    where: Any = aws
    match os.environ.pop("LOUD_EXPLODE", ""):
        case "answer":
            where.credential_in = _explode_with_answer
        case "token":
            where.Sts.exchange = _explode_with_token
        case _:
            pass
    if os.environ.pop("LOUD_UNMASKED", ""):
        redaction.masked = redaction.by_pattern = _unmasked
    main()


if __name__ == "__main__":
    _loud()
