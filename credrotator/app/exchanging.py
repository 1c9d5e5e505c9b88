"""The exchange that the settings describe, for every command alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.core.instrumentation import NO_INSTRUMENTATION
from credrotator.exchange.exchanger import Exchanger, ExchangeSettings
from credrotator.exchange.http.circuit import SLOTS
from credrotator.exchange.issuers.allowed import AllowedIssuers
from credrotator.providers import PROVIDERS

if TYPE_CHECKING:
    from credrotator.app.settings import Settings
    from credrotator.core.instrumentation import Instrumentation
    from credrotator.core.ports import AccountTokens, Clock


def make_exchanger(
    settings: Settings,
    clock: Clock,
    instrumentation: Instrumentation = NO_INSTRUMENTATION,
    *,
    account_tokens: AccountTokens,
    slots: int = SLOTS,
) -> Exchanger:
    """Make the exchange that the settings describe; a SkewedClock is put right by it.

    Args:
        settings: The operator's.
        clock: The present moment.
        instrumentation: Told of requests.
        account_tokens: Gets tokens of service accounts.
        slots: Requests to one host at a time.
    """
    allowed, tokens = AllowedIssuers(settings.allowed_issuers), settings.token_paths()
    described = ExchangeSettings(allowed, settings.ca_file, settings.timeout, settings.routes, tokens, slots)
    return Exchanger(described, clock, PROVIDERS, instrumentation=instrumentation, account_tokens=account_tokens)
