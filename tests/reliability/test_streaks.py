"""Refusals that pass by themselves, remembered patience, a clock that is set back: small rules with a test each."""

from __future__ import annotations

from datetime import timedelta

import pytest

from credrotator.core.backoff import LONGEST, Streak, failed
from credrotator.core.errors import Settling, Transient
from credrotator.core.outcome import Failure
from credrotator.exchange.http.clock_offset import SkewedClock
from credrotator.exchange.http.failures import CERTIFICATE_SETTLES
from credrotator.exchange.http.retry_after import ignoring_retry_after
from credrotator.exchange.http.single_flight import Shared
from credrotator.providers.aws.sts_errors import STALE
from credrotator.providers.azure.entra import FEDERATION_SETTLES, SETTLING_CODES
from tests.support.twins import HOUR, NOW, StandingClock

MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)


def waits(reason: str, gaps: list[timedelta], settling: Settling | None = None) -> list[timedelta]:
    """Return how long is waited after each of several denials; each comes so long after the one before."""
    streak: Streak | None = None
    now, found = NOW, []
    for gap in gaps:
        now += gap
        error = Failure("denied", reason, "m", "h", settling=settling)
        streak = failed(streak, error, seed="s", now=now, expires_at=None)
        found.append(streak.next_try - now)
    return found


def test_fault_18_an_identity_token_is_denied_after_three_tries() -> None:
    """AWS says it too while it cannot read the issuer's keys: three tries within seconds, then it is believed."""
    found = waits("InvalidIdentityToken", [SECOND] * 5, STALE["InvalidIdentityToken"])
    assert max(found[:3]) <= 4 * SECOND
    assert found[3:] == [LONGEST["denied"]] * 2


@pytest.mark.parametrize("code", [700211, 700212, 700213])
def test_fault_22_a_federated_credential_has_ten_minutes(code: int) -> None:
    """A new one takes minutes to work everywhere: tried soon for 10 min, then slowly."""
    assert code in SETTLING_CODES
    found = waits(f"AADSTS{code}", [MINUTE] * 11, FEDERATION_SETTLES)
    assert max(found[:10]) <= LONGEST["transient"]
    assert found[10] == LONGEST["denied"]


def test_fault_06_a_wrong_certificate_has_a_minute() -> None:
    """Behind a balancer it is wrong for seconds while it is replaced: tried soon for a minute, then slowly."""
    found = waits("IssuerTLS", [2 * SECOND, 2 * SECOND, 4 * SECOND, 8 * SECOND, MINUTE], CERTIFICATE_SETTLES)
    assert found[0] == SECOND
    assert max(found[:4]) <= 8 * SECOND
    assert found[4] == LONGEST["denied"]


def test_fault_08_others_are_believed_at_once() -> None:
    """Every other denial is slow from the first."""
    assert waits("AccessDenied", [SECOND]) == [MINUTE]


def test_fault_10_a_remembered_failure_tells_what_is_left() -> None:
    """Who comes late waits for the rest of the patience, not for all of it once more; a probe is let through."""
    clock = StandingClock()
    shared = Shared[int](clock, clock.seconds)

    def throttled() -> tuple[int, object]:
        raise Transient("IssuerThrottled", "429", hint="wait", retry_after=HOUR)

    with pytest.raises(Transient):
        shared.get("a", throttled)  # type: ignore[arg-type]
    clock.now += 50 * MINUTE
    with pytest.raises(Transient) as caught:
        shared.get("a", lambda: (1, clock.now))
    assert caught.value.retry_after == 10 * MINUTE
    with ignoring_retry_after(on=True):
        assert shared.get("a", lambda: (1, clock.now)) == 1


def test_fault_23_a_clock_that_is_set_back_goes_on() -> None:
    """Without a vendor's word, a step back of an hour changes nothing; a step ahead is followed."""
    machine, seconds = StandingClock(), [0.0]
    clock = SkewedClock(machine, lambda: seconds[0])
    assert clock() == NOW
    machine.now, seconds[0] = NOW - HOUR, 10.0
    assert clock() == NOW + 10 * SECOND
    machine.now, seconds[0] = NOW + HOUR, 20.0
    assert clock() == NOW + HOUR
