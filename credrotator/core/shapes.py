"""How the parts of a credential lie in a Secret whose reader is not the gateway. Pure.

Which shapes there are, and of which parts a credential has, is each provider's to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from credrotator.core.sensitive import Sensitive

if TYPE_CHECKING:
    from collections.abc import Mapping


class Part(NamedTuple):
    """One key of a Secret, the field of the credential that it holds, and what stands before it there."""

    key: str
    field: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Shape:
    """The keys of a Secret; ``name`` is how an annotation asks for them."""

    name: str
    parts: tuple[Part, ...]

    def data(self, fields: Mapping[str, Sensitive]) -> Mapping[str, Sensitive]:
        """Lay out a credential's fields (``Rotatable.fields``)."""
        return {part.key: Sensitive(part.prefix + fields[part.field].reveal()) for part in self.parts}

    def fields(self, data: Mapping[str, Sensitive]) -> Mapping[str, Sensitive] | None:
        """Take a Secret's data apart again; None where it has another shape."""
        fields: dict[str, Sensitive] = {}
        for part in self.parts:
            value = data.get(part.key)
            text = value.reveal() if value else ""
            known = fields.get(part.field)
            if not text.startswith(part.prefix) or not (rest := text.removeprefix(part.prefix).strip()):
                return None
            if known is not None and known.reveal() != rest:
                return None
            fields[part.field] = Sensitive(rest)
        return fields


API_KEY = Shape("api-key", (Part("apiKey", "token"),))
AUTHORIZATION = Shape(
    "authorization-header",
    (Part("Authorization", "token", "Bearer "), Part("credential", "token", "Bearer ")),
)
"""Of kgateway and agentgateway the first key, of Envoy Gateway's ``HTTPRouteFilter`` the second one."""
TOKEN_SHAPES: Mapping[str, Shape | None] = {
    "gateway": API_KEY,
    API_KEY.name: API_KEY,
    AUTHORIZATION.name: AUTHORIZATION,
}
"""Of credentials that are one token, by name; ``gateway`` is what the gateway reads of a static policy."""
