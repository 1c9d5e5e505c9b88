"""Ready templates for consumers of credentials, by name: one file each, in the language of ``--template``.

They know what their consumers expect, so they stand with the vendors. How they are rendered is none of their business.
"""

from __future__ import annotations

from importlib.resources import files

SUFFIX = ".j2"


def preset_names() -> tuple[str, ...]:
    """List the presets."""
    return tuple(
        sorted(entry.name.removesuffix(SUFFIX) for entry in files(__name__).iterdir() if _is_preset(entry.name))
    )


def preset(name: str) -> str:
    """Return the text of a preset that is in ``preset_names``."""
    return (files(__name__) / f"{name}{SUFFIX}").read_text(encoding="utf-8")


def _is_preset(name: str) -> bool:
    return name.endswith(SUFFIX)
