"""Whether this exchange may ask although a Retry-After is not over (reliability.md I7).

Like the deadline it is a context variable, because it has to reach every place that remembers a Retry-After. That alone
is overridden; what bounds the rate to an endpoint holds all the same.
"""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ignoring: ContextVar[bool] = ContextVar("ignoring_retry_after", default=False)


@contextlib.contextmanager
def ignoring_retry_after(on: bool) -> Iterator[None]:  # noqa: FBT001 - the sentence is read aloud
    """Let what is asked in the block override a Retry-After, or not."""
    token = _ignoring.set(on)
    try:
        yield
    finally:
        _ignoring.reset(token)


def ignores_retry_after() -> bool:
    """Tell whether Retry-After is to be overridden, because the credential would not live to see its end."""
    return _ignoring.get()
