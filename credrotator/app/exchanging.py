"""The exchange that the settings describe, and the rotation around it, for every command alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.core.instrumentation import NO_INSTRUMENTATION
from credrotator.exchange.asked_time import AskedTime
from credrotator.exchange.exchanger import Exchanger, ExchangeSettings
from credrotator.exchange.http.circuit import SLOTS
from credrotator.exchange.issuers.allowed import AllowedIssuers
from credrotator.providers import PROVIDERS
from credrotator.rotation.rotation import Rotation

if TYPE_CHECKING:
    from credrotator.app.backend import Backend
    from credrotator.app.settings import Settings
    from credrotator.core.audit_log import AuditLog
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


def make_rotation(
    settings: Settings,
    backend: Backend,
    clock: Clock,
    *,
    instrumentation: Instrumentation,
    audit: AuditLog,
    slots: int = SLOTS,
) -> Rotation:
    """Make the rotation of a command that makes its attempts and ends; a daemon's has more (``make_daemon``).

    Args:
        settings: The operator's.
        backend: Where credentials are published.
        clock: The present moment.
        instrumentation: Told of requests and stages.
        audit: Keeps what is decided.
        slots: Requests to one host at a time.

    Raises:
        UsageError: Nobody said where credentials are published.
    """
    # The store first: that nobody named it is said before anything is made for it.
    store = backend.store
    exchange = make_exchanger(settings, clock, instrumentation, account_tokens=backend.account_tokens, slots=slots)
    time = AskedTime(exchange, clock)
    return Rotation(store, exchange, clock, instrumentation=instrumentation, audit=audit, ask_time=time)
