"""A masked error is the same error but for its words."""

from __future__ import annotations

from datetime import timedelta

import pytest

from credrotator.core.errors import Outage, Settling
from credrotator.core.sensitive import Sensitive
from credrotator.exchange.http.foreign import masking


def test_masking_keeps_what_an_error_says_of_itself() -> None:
    """How long to wait, whether the other side hangs, and for how long a refusal is not believed: all are kept."""
    waits = timedelta(seconds=7)
    with pytest.raises(Outage) as caught, masking(Sensitive("hunter2hunter2")):
        raise Outage(
            "IssuerTimeout",
            "no answer to hunter2hunter2",
            hint="wait",
            retry_after=waits,
            settling=Settling(3),
            hangs=True,
        )
    error = caught.value
    assert "hunter2" not in error.message
    assert (error.reason, error.hint, error.retry_after, error.settling, error.hangs) == (
        "IssuerTimeout",
        "wait",
        waits,
        Settling(3),
        True,
    )
