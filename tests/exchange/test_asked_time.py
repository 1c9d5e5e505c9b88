"""What time it is, asked of vendor and issuer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from credrotator.core.errors import Transient
from credrotator.exchange.asked_time import ASKED_AGAIN_S, AskedTime
from credrotator.exchange.exchanger import Exchanger, ExchangeSettings
from credrotator.exchange.issuers.allowed import AllowedIssuers
from credrotator.providers import PROVIDERS
from tests.support.waiting import LIMIT_S

if TYPE_CHECKING:
    from tests.support.exchanging import Backend

HOUR = timedelta(hours=1)


class Behind:
    """The clock of a machine that is behind; ``seconds`` goes on as a test lets it."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def __call__(self) -> datetime:
        return datetime.now(UTC) - 3 * HOUR

    def seconds(self) -> float:
        return self.passed_s


def is_now(moment: datetime) -> bool:
    """Tell whether it is what a right clock shows, as far as a slow machine lets it."""
    return abs(moment - datetime.now(UTC)) < timedelta(seconds=LIMIT_S)


@pytest.mark.parametrize("name", ["aws", "azure"])
def test_fault_68_the_vendor_is_asked_then_the_issuer(world: Backend, name: str) -> None:
    """Once for all that ask within a minute; an answer of any status will do, and where nobody tells that is said."""
    clock = Behind()
    settings = ExchangeSettings(AllowedIssuers((world.sandbox.issuer.url,)), str(world.sandbox.ca_file))
    ask, source = AskedTime(Exchanger(settings, clock, PROVIDERS, {}), clock, clock.seconds), getattr(world, name)()
    assert is_now(ask(source))
    vendor = {"aws": world.sandbox.sts, "azure": world.sandbox.entra}[name]
    for service in (vendor, world.sandbox.issuer):
        service.stop()
        assert is_now(ask(source))
        clock.passed_s += ASKED_AGAIN_S + 1
        if service is vendor:
            assert is_now(ask(source))
    with pytest.raises(Transient, match="neither vendor nor issuer"):
        ask(source)
