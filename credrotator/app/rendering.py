"""Files that are rendered from the credentials of a directory, where templates are named.

Jinja2 takes its time to load, so it is imported only where there is a template.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

from credrotator.core.model import Sensitive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credrotator.core.errors import RotationError
    from credrotator.files.directory import DirectoryStore
    from credrotator.policies.inventory import Inventory

log = logging.getLogger("credrotator.run")


class HasInventory(Protocol):
    """A reading, or a source that reads again."""

    @property
    def inventory(self) -> Inventory:
        """What was read last."""


class Renderer(Protocol):
    """What renders files after a publication."""

    @property
    def failures(self) -> Mapping[Any, RotationError]:
        """What went wrong in the last rendering, by file."""

    def render(self) -> None:
        """Render everything anew."""


class NoTemplates:
    """Renders no file, since none is named."""

    def __init__(self) -> None:
        self.failures: dict[Any, RotationError] = {}

    def render(self) -> None:
        """See ``Renderer``."""


class LoggedRenderer:
    """Renders, and logs what went wrong: for a daemon, which nobody watches."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer

    @property
    def failures(self) -> Mapping[Any, RotationError]:
        """See ``Renderer``."""
        return self._renderer.failures

    def render(self) -> None:
        """See ``Renderer``."""
        self._renderer.render()
        for failure in self.failures.values():
            log.error("template: %s: %s", failure.reason, failure.message)


def make_renderer(pairs: tuple[str, ...], source: HasInventory, store: DirectoryStore) -> Renderer:
    """Compile the templates (``SRC:DST``); they see every Secret that carries a policy's credential.

    Raises:
        UsageError: A template cannot be read.
    """
    if not pairs:
        return NoTemplates()
    from credrotator.files.templates import Templates  # noqa: PLC0415 - see above

    return Templates(pairs, lambda: _secrets(source.inventory, store), store.exclusive, access=store.access)


def _secrets(inventory: Inventory, store: DirectoryStore) -> dict[str, dict[str, Sensitive]]:
    """Return the values of each Secret by its name: what was published, else what the manifests say."""
    values: dict[str, dict[str, Sensitive]] = {}
    for key in {policy.secret for policy in inventory.policies.values() if policy.secret}:
        if key in inventory.secrets:
            values[str(key)] = {
                name: Sensitive(raw.decode(errors="replace")) for name, raw in inventory.secrets[key].items()
            }
        if stored := store.read(key):
            values[str(key)] = dict(stored.document.data)
    return values
