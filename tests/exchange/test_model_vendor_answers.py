"""What Anthropic and OpenAI answer: codes, odd refusals, and what is never published."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from credrotator.core.errors import Denied, RotationError, Transient
from credrotator.sandbox import (
    DEFAULT_CLIENT,
    MISSING,
    Answer,
    CutShort,
    GzipBomb,
    Huge,
    Override,
    Redirect,
    ServiceError,
    garbage,
    hostile,
)
from tests.exchange.vendor_side import AUDIENCES, VendorSide
from tests.support.exchanging import TOKEN, Backend, check_showable, refused

if TYPE_CHECKING:
    from credrotator.sandbox import Fault

CODES: list[tuple[str, type[RotationError], str]] = [
    ("invalid_grant", Denied, "InvalidGrant"),
    ("invalid_request", Denied, "InvalidRequest"),
    ("unsupported_grant_type", Denied, "UnsupportedGrantType"),
    ("access_denied", Denied, "AccessDenied"),
    ("permission_error", Denied, "PermissionError"),
    ("not_found_error", Denied, "NotFoundError"),
    ("server_error", Transient, "Failed"),
    ("temporarily_unavailable", Transient, "Failed"),
]


@pytest.mark.parametrize(("code", "kind", "reason"), CODES)
def test_by_code(vendor: VendorSide, code: str, kind: type[RotationError], reason: str) -> None:
    """Each code of a refusal has its class, its own reason and one thing to do; nothing is tried again by itself."""
    vendor.server.faults.add(ServiceError(code), path=vendor.path)
    with refused(kind, vendor.reason(reason)):
        vendor.exchange()
    assert len(vendor.token_requests()) == 1


def test_throttled(vendor: VendorSide) -> None:
    """429 with Retry-After is a rate limit, of this account alone."""
    vendor.server.faults.add(Answer(429, retry_after=7), path=vendor.path)
    with refused(Transient, vendor.reason("Throttled")) as caught:
        vendor.exchange()
    assert caught.value.retry_after == timedelta(seconds=7)


def test_fault_19_a_fresh_token_once(world: Backend) -> None:
    """Fault 19's twin: a token that the vendor calls expired is replaced once, in the same attempt."""
    openai = VendorSide(world, "openai")
    openai.server.faults.add(ServiceError("invalid_grant", "the token has expired"), path=openai.path, times=1)
    openai.exchange()
    assert world.issuer.requests.count(TOKEN) == 2


ODD: list[tuple[int, object, type[RotationError], str]] = [
    (400, {"error": {"code": 400}}, Denied, "Refused"),
    (400, {"error": 5}, Denied, "Refused"),
    (400, {"error": "üü"}, Denied, "Refused"),
    (403, "<html>", Denied, "Refused"),
    (404, {}, Denied, "Refused"),
    (503, "<html>", Transient, "Failed"),
    (200, {"error": "invalid_grant"}, Denied, "InvalidGrant"),
]


@pytest.mark.parametrize("row", ODD)
def test_fault_10_odd_refusals(vendor: VendorSide, row: tuple[int, object, type[RotationError], str]) -> None:
    """Fault 10: the status tells where no code does; odd bodies are a refusal, never a crash."""
    status, body, kind, reason = row
    text = body if isinstance(body, str) else json.dumps(body)
    vendor.server.faults.add(Answer(status, text), path=vendor.path)
    with refused(kind, vendor.reason(reason)):
        vendor.exchange()


RESPONSES: list[tuple[dict[str, Any], str | None]] = [
    ({"access_token": ""}, "InvalidResponse"),
    ({"access_token": MISSING}, "InvalidResponse"),
    ({"access_token": 7}, "InvalidResponse"),
    ({"access_token": "tök"}, "InvalidResponse"),
    ({"access_token": "a\nb"}, "InvalidResponse"),
    ({"access_token": "a\x1b[2Jb"}, "InvalidResponse"),
    ({"access_token": "x" * 20_001}, "TokenTooLong"),
    ({"token_type": "DPoP"}, "InvalidResponse"),
    ({"token_type": "N_A"}, "InvalidResponse"),
    ({"token_type": 7}, "InvalidResponse"),
    ({"token_type": MISSING}, None),
    ({"token_type": "bearer"}, None),
    ({"expires_in": MISSING}, "InvalidResponse"),
    ({"expires_in": 0}, "InvalidResponse"),
    ({"expires_in": -1}, "InvalidResponse"),
    ({"expires_in": True}, "InvalidResponse"),
    ({"expires_in": "soon"}, "InvalidResponse"),
    ({"expires_in": 1e400}, "InvalidResponse"),
    ({"expires_in": "60"}, None),
]


@pytest.mark.parametrize(("changes", "reason"), RESPONSES)
def test_nothing_is_published_that_is_not_called_valid(
    vendor: VendorSide, changes: dict[str, Any], reason: str | None
) -> None:
    """A token without a known end, of another type, or with characters that no token has is no credential."""
    vendor.server.faults.add(Override(changes), path=vendor.path)
    if reason is None:
        vendor.exchange()
        return
    with pytest.raises(RotationError) as caught:
        vendor.exchange()
    assert caught.value.reason == reason
    check_showable(caught.value)


HOSTILE: list[Fault] = [
    *garbage().values(),
    hostile("invalid_grant"),
    Huge(),
    GzipBomb(),
    CutShort(),
    Redirect("https://evil.example/"),
]


@pytest.mark.parametrize("fault", HOSTILE, ids=lambda fault: type(fault).__name__)
def test_hostile_answers(vendor: VendorSide, fault: Fault) -> None:
    """Whatever is answered ends in a classed error that shows nothing secret; the request is not repeated elsewhere."""
    vendor.server.faults.add(fault, path=vendor.path)
    with pytest.raises(RotationError) as caught:
        vendor.exchange()
    check_showable(caught.value)


def test_an_answer_that_repeats_the_token(vendor: VendorSide) -> None:
    """Fault 72's twin: the subject token that a refusal repeats reaches no message."""
    compact = vendor.world.issuer.issue(DEFAULT_CLIENT, AUDIENCES[vendor.name])
    exchanger = vendor.exchanger()
    vendor.server.faults.add(ServiceError("invalid_grant", f"bad: {compact}"), path=vendor.path)
    with refused(Denied, vendor.reason("InvalidGrant")):
        vendor.exchange(exchanger)
