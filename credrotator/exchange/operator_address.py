"""Addresses of vendors that only the operator may change, by a variable of credrotator's own environment."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from credrotator.core.errors import Denied, printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credrotator.exchange.http.endpoint import Endpoint

# No user, query or fragment: a path is appended to it.
_ADDRESS = re.compile(r"https://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?")


def operator_address(endpoint: Endpoint, environment: Mapping[str, str], default: str) -> str:
    """Return an endpoint's address, without a slash at its end.

    Args:
        endpoint: Its ``address_setting`` is the variable's name.
        environment: Where the variable is looked up.
        default: The vendor's own.

    Raises:
        Denied: The variable holds no https address.
    """
    variable = endpoint.address_setting
    address = environment.get(variable, "").strip() or default
    if not _ADDRESS.fullmatch(address):
        hint = f"correct or remove {variable} in credrotator's environment"
        message = f"{variable}={printable(address, 80)}: expected an https address"
        reason = f"{endpoint.name}Config"
        raise Denied(reason, message, hint=hint)
    return address.rstrip("/")
