"""A token's expiry from a response that says it well, badly or not at all (RFC 6749 §5.1; reliability.md 13)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credrotator.core.errors import Transient
from credrotator.exchange.http.endpoint import ISSUER
from credrotator.exchange.lifetimes import DEFAULT_TOKEN_LIFE, LONGEST_TOKEN, expiry
from tests.support.exchanging import FrozenClock, refused

NOW = FrozenClock()()


def at(seconds: float) -> datetime:
    """Return the moment so many seconds from now."""
    return NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("expires_in", "exp", "wanted"),
    [
        (3600, None, at(3600)),
        ("3600", None, at(3600)),
        (3600.0, None, at(3600)),
        (3600, at(300), at(300)),
        (300, at(3600), at(300)),
        (None, at(900), at(900)),
        (None, None, NOW + DEFAULT_TOKEN_LIFE),
        (1e12, None, NOW + LONGEST_TOKEN),
        (float("inf"), None, NOW + LONGEST_TOKEN),
        (None, at(1e9), NOW + LONGEST_TOKEN),
    ],
)
def test_fault_13_read(expires_in: object, exp: datetime | None, wanted: datetime) -> None:
    """The sooner of expires_in and exp; without both a default; never more than 24 h."""
    assert expiry(ISSUER, expires_in, exp, NOW) == wanted


@pytest.mark.parametrize(
    "expires_in", [0, -1, "0", "-5", "soon", "", float("nan"), "nan", float("-inf"), True, [], {}, 10**400]
)
def test_fault_13_rejected(expires_in: object) -> None:
    """What is no positive number of seconds is refused, never guessed at."""
    with refused(Transient, "InvalidResponse"):
        expiry(ISSUER, expires_in, None, NOW)


def test_a_token_that_has_expired_is_refused() -> None:
    """Fault 23: an exp in the past is a clock that is wrong, here or there."""
    with refused(Transient, "TokenExpired") as caught:
        expiry(ISSUER, 3600, at(-1), NOW)
    assert "clock" in caught.value.hint


json_values: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@given(expires_in=json_values, exp=st.none() | st.datetimes().map(lambda naive: naive.replace(tzinfo=NOW.tzinfo)))
def test_an_expiry_is_always_sane(expires_in: object, exp: datetime | None) -> None:
    """Whatever a response says, the result is after now and within 24 h, or a refusal."""
    try:
        found = expiry(ISSUER, expires_in, exp, NOW)
    except Transient:
        return
    assert NOW < found <= NOW + LONGEST_TOKEN
    assert exp is None or found <= exp
