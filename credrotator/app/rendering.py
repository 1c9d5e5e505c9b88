"""Files that are rendered from the credentials of a directory, where templates are named.

Jinja2 takes its time to load, so it is imported only where there is a template.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from credrotator.core.model import RotatablePolicy
from credrotator.core.published_credential import published_credential
from credrotator.core.sensitive import Sensitive

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from credrotator.core.errors import RotationError
    from credrotator.core.model import ObjectKey
    from credrotator.core.published_credential import PublishedCredential
    from credrotator.files.directory import DirectoryStore
    from credrotator.files.template_values import Content
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


def make_renderer(texts: tuple[str, ...], source: HasInventory, store: DirectoryStore, namespace: str) -> Renderer:
    """Compile the templates (``SRC:DST``); they see every Secret that carries a policy's credential.

    Raises:
        UsageError: A template cannot be read.
    """
    if not texts:
        return NoTemplates()
    from credrotator.files.templates import Templates  # noqa: PLC0415 - see above

    content = partial(_content, source, store)
    return Templates(texts, content, store.exclusive, access=store.access, namespace=namespace)


def _content(source: HasInventory, store: DirectoryStore) -> Content:
    """Return the values of each Secret by its name: what was published, else what the manifests say."""
    from credrotator.files.template_values import Content  # noqa: PLC0415 - see above

    inventory = source.inventory
    values: dict[str, dict[str, Sensitive]] = {}
    credentials: list[PublishedCredential] = []
    awaited: dict[ObjectKey, Collection[str]] = {}
    for policy in inventory.policies.values():
        if policy.secret is None:
            continue
        if policy.secret in inventory.secrets:
            there = inventory.secrets[policy.secret]
            # ``replace``: a binary value is no use in a text file, and must not end the rendering of all others.
            values[str(policy.secret)] = {name: Sensitive(raw.decode(errors="replace")) for name, raw in there.items()}
        # What was published wins: the manifest's own is a placeholder, or older.
        if stored := store.read(policy.secret):
            values[str(policy.secret)] = dict(stored.document.data)
        if not isinstance(policy, RotatablePolicy):
            continue
        if taken := published_credential(policy, stored.document if stored else None):
            credentials.append(taken)
        else:
            awaited[policy.key] = dict(policy.source.kind.variables)
    return Content(values, credentials, awaited)
