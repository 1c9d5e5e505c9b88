"""Other packages' plugins of pydantic: none of them is to see what is read here, and to look for some takes 5 ms.

Pydantic knows no other switch than a variable of the environment, so what is started from here must not inherit it.
Source: pydantic's documentation, "Plugins", ``PYDANTIC_DISABLE_PLUGINS``.
"""

from __future__ import annotations

import os

_SWITCH = "PYDANTIC_DISABLE_PLUGINS"
_is_ours = _SWITCH not in os.environ


def switch_off() -> None:
    """Have none loaded; to be called before the first model is made. A person's own setting stays."""
    os.environ.setdefault(_SWITCH, "__all__")


def inherited_environment() -> dict[str, str]:
    """Return the environment for a program that is none of ours."""
    return {name: text for name, text in os.environ.items() if not (_is_ours and name == _SWITCH)}
