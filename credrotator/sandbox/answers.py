"""What every service of the sandbox answers with: JSON, or a refusal.

Owns how a Python value becomes a JSON response, and the one exception with which a route says no. Must not know what
they mean. Specification: RFC 8259.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from werkzeug import Response

if TYPE_CHECKING:
    from collections.abc import Mapping


class Refused(Exception):
    """A route says no; the service renders ``code`` and ``description`` in its own error format."""

    def __init__(self, code: str, description: str | None = None) -> None:
        super().__init__(code, description)
        self.code = code
        self.description = description


def json_answer(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return ``body`` as JSON; NaN comes out as the invalid token ``NaN``, which a fault may want."""
    return Response(json.dumps(body), status, headers=dict(headers or {}), content_type="application/json")
