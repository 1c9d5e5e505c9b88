"""JSON answers.

Owns how a Python value becomes a JSON response. Must not know what it means. Specification: RFC 8259.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from werkzeug import Response


def json_answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return ``body`` as JSON; NaN comes out as the invalid token ``NaN``, which a fault may want."""
    return Response(json.dumps(body), status, headers=dict(headers or {}), content_type="application/json")
