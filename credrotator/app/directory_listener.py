"""What follows an outcome in a directory: it is kept for the next ``status``, and files are rendered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.app.outcome_documents import outcome_document

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from credrotator.app.rendering import Renderer
    from credrotator.core.model import InvalidPolicy, ObjectKey, Policy
    from credrotator.core.outcome import Action, Outcome
    from credrotator.files.directory import DirectoryStore

RENDERED_IN_A_PASS: tuple[Action, ...] = ("rotated",)
"""The pass renders once more at its end."""
RENDERED_BY_A_DAEMON: tuple[Action, ...] = ("rotated", "kept")
"""After a restart everything is kept, and a template may be new."""


class Unheard:
    """An OutcomeListener for outcomes that are kept nowhere."""

    def __call__(self, policy: Policy | InvalidPolicy, outcome: Outcome) -> None:
        """See ``OutcomeListener``."""

    def forget(self, key: ObjectKey) -> None:
        """See ``OutcomeListener``."""


class DirectoryListener:
    """An OutcomeListener that keeps outcomes for ``status``, and renders files.

    Args:
        store: Keeps the outcomes.
        renderer: Renders.
        render_after: The outcomes after which it does.
        rendered: Called then.
    """

    def __init__(
        self,
        store: DirectoryStore,
        renderer: Renderer,
        render_after: Collection[Action],
        rendered: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._renderer = renderer
        self._render_after = render_after
        self._rendered = rendered

    def __call__(self, _policy: Policy | InvalidPolicy, outcome: Outcome) -> None:
        """See ``OutcomeListener``."""
        self._store.record(outcome_document(outcome), outcome.policy)
        if outcome.action in self._render_after:
            self._renderer.render()
            self._rendered()

    def forget(self, key: ObjectKey) -> None:
        """See ``OutcomeListener``; what was published stays, and so does its last outcome."""
