"""The clock that vendors put right, and issuers do not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credrotator.exchange.exchanger import Exchanger, ExchangeSettings
from credrotator.exchange.http.clock_offset import UNCONFIRMED_S, SkewedClock
from credrotator.exchange.issuers.allowed import AllowedIssuers
from credrotator.providers import PROVIDERS
from credrotator.sandbox import SkewedDate

if TYPE_CHECKING:
    from tests.support.exchanging import Backend

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


def clock() -> SkewedClock:
    """A clock that stands still at NOW."""
    return SkewedClock(lambda: NOW)


@pytest.mark.parametrize("minutes", [-600, -10, 10, 600])
def test_fault_23_a_vendor_puts_the_clock_right(minutes: int) -> None:
    """A clock that is wrong by minutes is corrected by the Date of a vendor's answer, in both directions."""
    skewed = clock()
    skewed.observe("sts", format_datetime(NOW + timedelta(minutes=minutes), usegmt=True), trusted=True)
    assert skewed() == NOW + timedelta(minutes=minutes)
    assert skewed.seen() == {"sts": timedelta(minutes=minutes)}


def test_fault_23_a_correction_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """One warning for each change, not one for each answer; an issuer's date makes none."""
    skewed = clock()
    assert skewed.believed() is None
    skewed.observe("issuer", format_datetime(NOW - timedelta(hours=5), usegmt=True), trusted=False)
    assert skewed.believed() is None
    for seconds in (600, 601, 599):
        skewed.observe("sts", format_datetime(NOW + timedelta(seconds=seconds), usegmt=True), trusted=True)
    assert [record.getMessage() for record in caplog.records] == [
        "this machine's clock is 10m behind that of sts, which counts"
    ]
    assert skewed.believed() == timedelta(seconds=599)
    skewed.observe("sts", format_datetime(NOW, usegmt=True), trusted=True)
    assert (len(caplog.records), skewed.believed()) == (2, timedelta(0))


def test_fault_23_the_api_server_counts_until_a_vendor_does() -> None:
    """Only ahead, which makes renewals earlier: a clock that is behind from the start is put right at once."""
    skewed = clock()
    skewed.suppose("api-server", format_datetime(NOW - timedelta(minutes=10), usegmt=True))
    assert skewed() == NOW
    skewed.suppose("api-server", format_datetime(NOW + timedelta(minutes=10), usegmt=True))
    assert (skewed(), skewed.believed()) == (NOW + timedelta(minutes=10), None)
    skewed.suppose("api-server", format_datetime(NOW + timedelta(seconds=2), usegmt=True))
    assert skewed() == NOW
    skewed.observe("sts", format_datetime(NOW, usegmt=True), trusted=True)
    skewed.suppose("api-server", format_datetime(NOW + timedelta(minutes=10), usegmt=True))
    assert (skewed(), skewed.seen()["api-server"]) == (NOW, timedelta(minutes=10))


def test_fault_23_a_clock_that_nobody_asked_yet() -> None:
    """A standby does not ask; that its clock was set back before it leads has no effect either."""
    shown, passed_s = [NOW], [0.0]
    skewed = SkewedClock(lambda: shown[0], lambda: passed_s[0])
    shown[0], passed_s[0] = NOW - timedelta(hours=1), 600.0
    assert skewed() == NOW + timedelta(minutes=10)


def test_fault_23_an_issuer_is_noted_and_not_believed() -> None:
    """A policy's author chooses the issuer: its date puts off nobody's renewal."""
    skewed = clock()
    skewed.observe("issuer", format_datetime(NOW - timedelta(hours=5), usegmt=True), trusted=False)
    assert skewed() == NOW
    assert skewed.seen() == {"issuer": timedelta(hours=-5)}


def test_delay_is_no_skew() -> None:
    """Date has whole seconds and is some seconds old when it arrives; that corrects nothing."""
    skewed = clock()
    skewed.observe("sts", format_datetime(NOW + timedelta(minutes=10), usegmt=True), trusted=True)
    skewed.observe("sts", format_datetime(NOW - timedelta(seconds=9), usegmt=True), trusted=True)
    assert skewed() == NOW


@pytest.mark.parametrize("date", [None, "", "yesterday", "Tue, 99 Nov 2026 12:00:00 GMT"])
def test_a_date_that_is_none_says_nothing(date: str | None) -> None:
    """A header that is absent or malformed changes nothing."""
    skewed = clock()
    skewed.observe("sts", date, trusted=True)
    assert skewed() == NOW
    assert skewed.seen() == {}


def test_fault_23_an_exchange_with_a_wrong_clock(world: Backend) -> None:
    """With this machine's clock an hour and a half ahead, STS's expiry looks past; by its own date it is not."""
    skewed = SkewedClock(lambda: datetime.now(UTC) + timedelta(minutes=90))
    allowed = AllowedIssuers((world.sandbox.issuer.url,))
    settings = ExchangeSettings(allowed, str(world.sandbox.ca_file))
    exchanger = Exchanger(settings, skewed, PROVIDERS, {})
    world.sandbox.issuer.token_life = timedelta(hours=6)
    credential = world.exchange_aws(exchanger)
    assert timedelta(minutes=58) < credential.expires_at - skewed() <= timedelta(hours=1)
    assert abs(skewed.offset + timedelta(minutes=90)) < timedelta(seconds=10)


def test_fault_23_a_clock_ahead_by_more_than_a_token_lives(world: Backend) -> None:
    """Each token looks expired as it comes; it is shown to STS all the same, whose date then puts the clock right.

    What STS gave is as old as it is by that date: by the wrong clock it would have been issued after its expiry.
    """
    skewed = SkewedClock(lambda: datetime.now(UTC) + timedelta(hours=2))
    allowed = AllowedIssuers((world.sandbox.issuer.url,))
    exchanger = Exchanger(ExchangeSettings(allowed, str(world.sandbox.ca_file)), skewed, PROVIDERS, {})
    world.sandbox.issuer.token_life = timedelta(minutes=5)
    before = datetime.now(UTC)
    credential = world.exchange_aws(exchanger)
    assert before - timedelta(seconds=5) <= credential.issued_at <= datetime.now(UTC) + timedelta(seconds=5)
    assert credential.expires_at - credential.issued_at > timedelta(minutes=59)
    world.exchange_aws(exchanger)
    assert world.sandbox.sts.requests.total == 2


def test_fault_23_an_issuer_s_date_over_the_wire(world: Backend) -> None:
    """An issuer whose Date is hours off is seen in the metric, and nothing follows from it."""
    skewed = SkewedClock(lambda: datetime.now(UTC))
    settings = ExchangeSettings(AllowedIssuers((world.sandbox.issuer.url,)), str(world.sandbox.ca_file))
    world.sandbox.issuer.faults.add(SkewedDate(timedelta(hours=3)))
    world.exchange_aws(Exchanger(settings, skewed, PROVIDERS, {}))
    assert skewed.offset == timedelta(0)
    assert skewed.seen()["issuer"] > timedelta(hours=2)


class Passing:
    """A machine's clock that is right, and seconds, both of which a test lets pass."""

    def __init__(self) -> None:
        self.passed_s = 0.0
        self.clock = SkewedClock(lambda: NOW + timedelta(seconds=self.passed_s), lambda: self.passed_s)

    def hear(self, endpoint: str, off: timedelta, *, trusted: bool = True) -> timedelta:
        """Hear a Date that is off by so much; return the offset that is believed then."""
        date = format_datetime(NOW + timedelta(seconds=self.passed_s) + off, usegmt=True)
        self.clock.observe(endpoint, date, trusted=trusted)
        return self.clock.offset


HOUR_BACK = -timedelta(hours=1)


@pytest.mark.parametrize(
    "date",
    [
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Fri, 31 Dec 9999 23:59:59 -2359",
        "Mon, 01 Jan 0001 00:00:00 +2359",
        "Mon, 01 Jan 0001 00:00:00 GMT",
        "Mon, 01 Jan 99999 00:00:00 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT",
    ],
)
@pytest.mark.parametrize("trusted", [True, False])
def test_fault_59_a_date_that_is_nobodys_clock(date: str, *, trusted: bool) -> None:
    """It changes nothing, raises nothing, and is not shown either, whoever says it, however often."""
    skewed = clock()
    for _ in range(3):
        skewed.observe("sts", date, trusted=trusted)
        skewed.suppose("api-server", date)
    assert (skewed(), skewed.offset, skewed.seen()) == (NOW, timedelta(0), {})


def test_fault_59_an_hour_back_once_from_the_only_source() -> None:
    """The exchange at hand may end by it; seconds later it is as if it had not been said."""
    passing = Passing()
    assert passing.hear("sts", HOUR_BACK) == HOUR_BACK
    passing.passed_s += UNCONFIRMED_S
    assert passing.clock.offset == timedelta(0)


@pytest.mark.parametrize("witness", ["issuer", "api-server", "entra"])
def test_fault_59_an_hour_back_once_beside_another(witness: str) -> None:
    """Who says something else contradicts it: it is not believed for a moment."""
    passing = Passing()
    passing.hear(witness, timedelta(seconds=1), trusted=witness == "entra")
    assert passing.hear("sts", HOUR_BACK) == timedelta(0)
    assert passing.hear("sts", timedelta(0)) == timedelta(0)


def test_fault_59_a_vendor_that_is_wrong_all_the_time_is_outvoted() -> None:
    """Two others that agree with this machine weigh more than one that says the same again and again."""
    passing = Passing()
    passing.hear("issuer", timedelta(0), trusted=False)
    passing.hear("entra", timedelta(0))
    for _ in range(5):
        assert passing.hear("sts", HOUR_BACK) == timedelta(0)


def test_fault_59_a_vendor_says_it_twice() -> None:
    """With nobody else about, the second time is a confirmation, and it stays."""
    passing = Passing()
    passing.hear("sts", HOUR_BACK)
    passing.passed_s += 60
    assert passing.hear("sts", HOUR_BACK) == HOUR_BACK
    passing.passed_s += 3600
    assert passing.clock.offset == HOUR_BACK


def test_fault_59_an_issuer_and_a_vendor_agree() -> None:
    """A clock that is ahead is put right in the first exchange; an issuer alone puts nothing right."""
    passing = Passing()
    assert passing.hear("issuer", HOUR_BACK, trusted=False) == timedelta(0)
    assert passing.hear("sts", HOUR_BACK) == HOUR_BACK
    passing.passed_s += 3600
    assert passing.clock.offset == HOUR_BACK


OFFSETS_S = st.floats(-2e12, 2e12) | st.integers(-90_000, 90_000).map(float)


@given(st.lists(st.tuples(st.sampled_from(["sts", "entra", "issuer", "api-server"]), OFFSETS_S, st.integers(0, 2000))))
def test_fault_59_whatever_is_said(said: list[tuple[str, float, int]]) -> None:
    """The clock never raises, and is never off by a day."""
    passing = Passing()
    for endpoint, off_s, later_s in said:
        try:
            date = format_datetime(NOW + timedelta(seconds=off_s), usegmt=True)
        except OverflowError:
            date = f"Fri, 31 Dec {int(off_s)} 23:59:59 GMT"
        if endpoint == "api-server":
            passing.clock.suppose(endpoint, date)
        else:
            passing.clock.observe(endpoint, date, trusted=endpoint != "issuer")
        passing.passed_s += later_s
        assert abs(passing.clock() - (NOW + timedelta(seconds=passing.passed_s))) < timedelta(hours=24)


def test_fault_59_a_date_from_a_cache(world: Backend) -> None:
    """An answer with Age was made when its Date says, not now."""
    skewed = SkewedClock(lambda: datetime.now(UTC))
    settings = ExchangeSettings(AllowedIssuers((world.sandbox.issuer.url,)), str(world.sandbox.ca_file))
    world.sandbox.issuer.faults.add(SkewedDate(timedelta(hours=-3), age=timedelta(hours=3)))
    world.exchange_aws(Exchanger(settings, skewed, PROVIDERS, {}))
    assert "issuer" not in skewed.seen()
