"""What the gateway makes of ``credentialOverride``, where that is not what the field says. Pure.

Requests bring their own credential by it, so nothing is rotated because of it; but a policy that the gateway drops gets
no credential either. Source: Envoy AI Gateway v1.1, ``api/v1beta1/backendsecurity_policy.go`` and
``internal/controller/gateway.go``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from credrotator.policies.messages import suggestion

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES = ("fromRequestHeaders", "fromDynamicMetadata")
PATH = "spec.credentialOverride"


def override_warnings(override: object) -> Iterator[str]:
    """Say what is wrong with an override: the API takes exactly one source of a request's credential."""
    if override is None:
        return
    if not isinstance(override, dict):
        yield f"{PATH}: expected an object, so the API server refuses the policy"
        return
    for name in override:
        if isinstance(name, str) and name not in SOURCES and (meant := suggestion(name, SOURCES)):
            yield f"{PATH}.{name[:80]}: unknown field{meant}"
    if len(_sources(override)) != 1:
        yield f"{PATH}: expected exactly one of {' and '.join(SOURCES)}, so the API server refuses the policy"


def falls_back(override: object) -> bool:
    """Tell whether a request without a credential gets the policy's own, as is the default of an override."""
    if not isinstance(override, dict):
        return False
    # The API's default is true, so only an explicit false turns it off.
    return any(source.get("fallbackToConfigured") is not False for source in _sources(override))


def _sources(override: dict[str, Any]) -> list[dict[str, Any]]:
    return [source for name in SOURCES if isinstance(source := override.get(name), dict)]
