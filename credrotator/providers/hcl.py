"""Terraform from templates: HCL's quoting, names of resources, and the one place here that knows Jinja2.

Source: Terraform language, "Configuration Syntax" and "Strings and Templates".
"""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_NOT_IN_NAME = re.compile(r"[^0-9a-z]+")


def render(package: str, template: str, **values: object) -> str:
    """Render a template that lies in a provider's package.

    ``hcl`` quotes a text or a list of texts; what is not quoted has to be a name that :func:`resource_name` made.
    """
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415 - 20 ms and 4 MiB, for advice only

    environment = Environment(
        # A name that is misspelt would leave an empty value in a file that people apply.
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - HCL is no HTML; hcl quotes
    )
    environment.filters["hcl"] = hcl
    source = resources.files(package).joinpath(template).read_text(encoding="utf-8")
    return environment.from_string(source).render(**values)


def resource_name(*parts: str) -> str:
    """Make the name of a resource; the first part begins with a letter, as it has to."""
    return _NOT_IN_NAME.sub("_", "_".join(parts).lower()).strip("_")


def hcl(value: str | Sequence[str]) -> str:
    """Quote a text: HCL's escapes are among those of JSON, and a template begins with ``${`` or ``%{``."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("${", "$${").replace("%{", "%%{")
    return f"[{', '.join(map(hcl, value))}]"
