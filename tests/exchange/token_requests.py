"""The token request that arrived at the issuer, and what it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from credrotator.sandbox import Override
from tests.support.exchanging import TOKEN, Backend

if TYPE_CHECKING:
    from credrotator.sandbox.recording import RecordedRequest

BASIC, POST = "client_secret_basic", "client_secret_post"


def sent(world: Backend) -> RecordedRequest:
    """Return the one token request that arrived."""
    (request,) = world.issuer.requests.matching(TOKEN)
    return request


def fields(world: Backend) -> dict[str, list[str]]:
    """Return the form of the one token request."""
    return parse_qs(sent(world).body.decode(), keep_blank_values=True, strict_parsing=True)


def answers(world: Backend, **members: Any) -> None:
    """Let the token endpoint answer with other members."""
    world.issuer.faults.add(Override(members), path=TOKEN)
