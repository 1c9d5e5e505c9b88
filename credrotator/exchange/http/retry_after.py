"""Whether this exchange is a probe: one that may ask although patience was asked for (reliability.md I7).

Like the deadline it is a context variable, because it has to reach every place that remembers somebody's wish. A probe
overrides wishes only; what bounds the rate to an endpoint holds for it too.
"""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_probing: ContextVar[bool] = ContextVar("probing", default=False)


@contextlib.contextmanager
def ignoring_retry_after(on: bool) -> Iterator[None]:  # noqa: FBT001 - the sentence is read aloud: probing(probe)
    """Let what is asked in the block be a probe, or not."""
    token = _probing.set(on)
    try:
        yield
    finally:
        _probing.reset(token)


def ignores_retry_after() -> bool:
    """Tell whether Retry-After is to be overridden, because the credential would not live to see its end."""
    return _probing.get()
