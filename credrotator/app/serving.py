"""What a daemon says once it knows its policies: how many, where from, where to, and which issuers they may use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.core.counts import counted
from credrotator.core.errors import printable
from credrotator.core.model import InvalidPolicy

if TYPE_CHECKING:
    from credrotator.app.settings import Settings
    from credrotator.core.ports import PolicySource

NAMED = 5
"""Files, namespaces and issuers that are named; the rest is counted."""


def serving(source: PolicySource, where: str, settings: Settings) -> str:
    """Describe it for the log.

    Args:
        source: Has been read.
        where: The policies come from, and the credentials go to.
        settings: Name the issuers.
    """
    keys = list(source.policies())
    wrong = sum(isinstance(source.get(key), InvalidPolicy) for key in keys)
    amiss = f" ({wrong} cannot work as written)" if wrong else ""
    # Said in full although it is the default: an open list is a decision that the operator should have seen.
    issuers = listed(settings.allowed_issuers) or "any by https that is not local"
    return f"{counted(len(keys), 'policy', 'policies')}{amiss} {where}; allowed issuers: {issuers}"


def listed(words: tuple[str, ...]) -> str:
    """Name the first few, and count the rest."""
    named = ", ".join(printable(word) for word in words[:NAMED])
    return f"{named} and {len(words) - NAMED} more" if len(words) > NAMED else named
