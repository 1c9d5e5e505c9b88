"""Endpoints that repeat what a request proved itself by, and what then reaches a message (reliability.md I9, 72)."""

from __future__ import annotations

import html
import json
import logging
import traceback
from typing import TYPE_CHECKING

import pytest

from credrotator.core.errors import RotationError
from credrotator.sandbox import Answer, App, Client, Echo, Override
from credrotator.sandbox.apps import DEFAULT_APP, DEFAULT_TENANT
from credrotator.sandbox.clients import BASIC, DEFAULT_CLIENT, POST
from credrotator.sandbox.echofaults import ECHOES
from tests.support.exchanging import DISCOVERY, TOKEN, Backend, check_showable

if TYPE_CHECKING:
    from collections.abc import Callable

    from credrotator.sandbox import Fault

SECRET = "cAn4ry/9zQ+w1tH 0dD:p4rTs&\"x'<~>"
SHOWN = 3
"""Characters of a secret that may be left at either end of a cut."""


def shows(rendered: str) -> str:
    """Return the longest part of the secret that stands in a text, or in what that decodes to."""
    readings = (rendered, html.unescape(rendered), rendered.replace("\\/", "/").replace("\\\\", "\\"))
    parts = {SECRET[start:end] for start in range(len(SECRET)) for end in range(start + SHOWN + 1, len(SECRET) + 1)}
    return max((part for part in parts if any(part in reading for reading in readings)), key=len, default="")


def render(error: RotationError) -> str:
    """Return all renderings of an error, its traceback included."""
    return "".join([repr(error), error.message, error.hint, error.reason, *traceback.format_exception(error)])


@pytest.fixture
def told(world: Backend) -> Backend:
    """Let both kinds of clients have the secret."""
    world.values |= {"oidc": SECRET, "entra": SECRET}
    world.issuer.clients[DEFAULT_CLIENT] = Client(SECRET, subject=DEFAULT_CLIENT)
    world.sandbox.entra.tenants[DEFAULT_TENANT][DEFAULT_APP] = App({SECRET: None})
    return world


CODES: dict[str, tuple[str, Callable[[Backend], object]]] = {
    "issuer": ("invalid_client", lambda world: world.token()),
    "entra": ("7000215", lambda world: world.exchange_azure(world.azure_secret())),
}


@pytest.mark.parametrize("method", [BASIC, POST])
@pytest.mark.parametrize("form", ECHOES)
@pytest.mark.parametrize("status", [400, 401, 403])
def test_fault_72_by_the_issuer(told: Backend, form: str, method: str, status: int) -> None:
    """Fault 72: in whatever form an issuer repeats the client secret, and in whichever way that was sent."""
    told.issuer.auth_methods = [method]
    told.issuer.faults.add(Echo(form, status=status), path=TOKEN)
    with pytest.raises(RotationError) as caught:
        told.token()
    check_showable(caught.value, SECRET)
    assert shows(render(caught.value)) == ""
    assert "***" in caught.value.message


@pytest.mark.parametrize("form", ECHOES)
def test_fault_72_by_the_vendor_that_has_a_client_secret(told: Backend, form: str) -> None:
    """Fault 72: the same for a vendor that takes a client secret itself."""
    told.sandbox.entra.faults.add(Echo(form, "7000215"), path="*/oauth2/v2.0/token")
    with pytest.raises(RotationError) as caught:
        told.exchange_azure(told.azure_secret())
    check_showable(caught.value, SECRET)
    assert shows(render(caught.value)) == ""
    assert "***" in caught.value.message


VENDORS: dict[str, tuple[str, str, Callable[[Backend], object]]] = {
    "sts": ("AccessDenied", "sts", lambda world: world.exchange_aws()),
    "entra": ("700211", "entra", lambda world: world.exchange_azure()),
    "google": ("invalid_grant", "google", lambda world: world.exchange_gcp()),
    "google, by key": ("invalid_grant", "google", lambda world: world.exchange_gcp(world.gcp_key())),
}


@pytest.mark.parametrize("form", ECHOES)
@pytest.mark.parametrize("name", VENDORS)
def test_fault_72_by_the_vendors(world: Backend, name: str, form: str) -> None:
    """Fault 72: the token or assertion that a vendor was shown is masked likewise, by the same border."""
    code, service, ask = VENDORS[name]
    faults = {"sts": world.sandbox.sts, "entra": world.sandbox.entra, "google": world.sandbox.google}[service].faults
    faults.add(Echo(form, code))
    with pytest.raises(RotationError) as caught:
        ask(world)
    check_showable(caught.value)
    assert "***" in caught.value.message


@pytest.mark.parametrize("keep", range(4, len(SECRET) + 1))
@pytest.mark.parametrize("before", ["", "x" * 280 + " "])
def test_fault_72_cut_in_the_middle(told: Backend, keep: int, before: str) -> None:
    """Fault 72: a secret that the issuer cuts, or that our own limit would, leaves no telling part."""
    told.issuer.auth_methods = [POST]
    told.issuer.faults.add(Echo("plain", lead=before, keep=keep), path=TOKEN)
    with pytest.raises(RotationError) as caught:
        told.token()
    assert shows(render(caught.value)) == ""


PLACES: dict[str, Fault] = {
    "error code": Answer(400, json.dumps({"error": SECRET, "error_description": "x"})),
    "another member": Answer(400, json.dumps({"errorCode": "E1", "errorSummary": SECRET})),
    "content type": Answer(200, "<html>", content_type=f'text/html; secret="{SECRET}"'),
    "status 200": Answer(200, json.dumps({"error": "invalid_client", "error_description": SECRET})),
    "redirect": Answer(302, headers={"Location": f"https://elsewhere.example/{SECRET.replace(' ', '%20')}?s={SECRET}"}),
    "token type": Override({"token_type": SECRET, "access_token": "opaque"}),
    "expires_in": Override({"expires_in": SECRET}),
    "token": Override({"access_token": SECRET}),
}


@pytest.mark.parametrize("place", PLACES)
def test_fault_72_in_any_place(told: Backend, place: str, caplog: pytest.LogCaptureFixture) -> None:
    """Fault 72: wherever in its answer an issuer repeats the secret, it reaches neither a message nor the log."""
    told.issuer.faults.add(PLACES[place], path=TOKEN)
    with caplog.at_level(logging.DEBUG, "credrotator"), pytest.raises(RotationError) as caught:
        told.token()
    check_showable(caught.value, SECRET)
    assert shows(render(caught.value) + caplog.text) == ""


@pytest.mark.parametrize("member", ["issuer", "token_endpoint"])
def test_fault_72_by_an_issuer_that_remembers(told: Backend, member: str, caplog: pytest.LogCaptureFixture) -> None:
    """Fault 72: an issuer that was sent the secret before may put it into the next discovery document."""
    exchanger = told.exchanger()
    told.issuer.faults.add(
        Override({member: f"https://localhost:{told.issuer.port}/{SECRET.replace(' ', '%20')}"}), path=DISCOVERY
    )
    with caplog.at_level(logging.DEBUG, "credrotator"), pytest.raises(RotationError) as caught:
        told.token(exchanger)
    assert shows(render(caught.value)) == ""


def test_fault_72_not_in_the_warning(told: Backend, caplog: pytest.LogCaptureFixture) -> None:
    """Fault 72: a token type is quoted in a warning, and the secret is not."""
    told.issuer.faults.add(Override({"token_type": SECRET}), path=TOKEN)
    with caplog.at_level(logging.DEBUG, "credrotator"):
        (warning,) = told.token().warnings
    assert shows(warning + caplog.text) == ""
    assert "***" in warning
