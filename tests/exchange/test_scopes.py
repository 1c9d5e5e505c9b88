"""What a policy asks for and does not get."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from credrotator.core.errors import Denied
from credrotator.sandbox import ServiceError
from tests.support.exchanging import refused

if TYPE_CHECKING:
    from tests.support.exchanging import Backend


@pytest.mark.parametrize(
    ("code", "reason"), [("invalid_scope", "InvalidScope"), ("unauthorized_client", "UnauthorizedClient")]
)
def test_fault_09_the_message_names_the_scope(world: Backend, code: str, reason: str) -> None:
    """The issuer or the policy has to be corrected: denied, and the message names the scope in question."""
    world.issuer.faults.add(ServiceError(code, status=400), path="/token")
    with refused(Denied, reason) as caught:
        world.token(scopes=("models.invoke",))
    assert "models.invoke" in caught.value.message
