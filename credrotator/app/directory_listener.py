"""What follows an outcome in a directory: it is kept for the next ``status``, and files are rendered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from credrotator.app.outcome_documents import outcome_document

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from credrotator.app.rendering import Renderer
    from credrotator.core.model import InvalidPolicy, ObjectKey, Policy
    from credrotator.core.outcome import Action, Outcome
    from credrotator.core.outcome_shape import LastOutcome, OutcomeDocument
    from credrotator.files.directory import DirectoryStore

RENDERED_IN_A_PASS: tuple[Action, ...] = ("rotated",)
"""The pass renders once more at its end."""
RENDERED_BY_A_DAEMON: tuple[Action, ...] = ("rotated", "kept")
"""After a restart everything is kept, and a template may be new."""

SAME_CREDENTIAL: tuple[Literal["provider", "secret", "expiresAt", "warnings"], ...] = (
    "provider",
    "secret",
    "expiresAt",
    "warnings",
)
"""What two outcomes about one credential have in common."""


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
        looks: Whether policies are attempted again and again (a daemon): what was last done then says more than that
            nothing had to be done since.
    """

    def __init__(
        self,
        store: DirectoryStore,
        renderer: Renderer,
        render_after: Collection[Action],
        rendered: Callable[[], None] = lambda: None,
        *,
        looks: bool = False,
    ) -> None:
        self._store = store
        self._renderer = renderer
        self._render_after = render_after
        self._rendered = rendered
        self._looks = looks

    def __call__(self, _policy: Policy | InvalidPolicy, outcome: Outcome) -> None:
        """See ``OutcomeListener``."""
        document = outcome_document(outcome)
        if not (self._looks and outcome.reason == "Fresh" and self._is_on_record(document, outcome.policy)):
            # Before rendering, which may fail: what happened to the policy is on record in any case.
            self._store.record(document, outcome.policy)
        if outcome.action in self._render_after:
            self._renderer.render()
            self._rendered()

    def _is_on_record(self, document: OutcomeDocument, policy: ObjectKey) -> bool:
        """Tell whether the very credential that is fresh is the one whose rotation is on record.

        That it is fresh after a failure, or that somebody else has renewed it meanwhile, is news.
        """
        last: LastOutcome = self._store.last_outcome(policy) or {}
        return last.get("action") == "rotated" and all(last.get(name) == document[name] for name in SAME_CREDENTIAL)

    def forget(self, key: ObjectKey) -> None:
        """See ``OutcomeListener``; what was published stays, and so does its last outcome."""
