"""Files rendered from published credentials (``--template``), by Jinja2, sandboxed.

A template sees what ``template_values`` has. Files are replaced atomically, with mode 0600 unless the operator says
another, and only when their content changed, as Vault Agent and consul-template do. This is how the gateway's filter is
fed without a cluster.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from credrotator.core.errors import PolicyError, RotationError, UsageError, printable
from credrotator.files.atomic import PRIVATE, Access, write_file
from credrotator.files.template_targets import Target, read_targets
from credrotator.files.template_values import FILTERS, Content, Named, Values

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    Exclusive = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class _Compiled:
    target: Target
    template: Template


class _Missing(StrictUndefined):
    """What a template asks for in vain."""

    def __init__(
        self, hint: str | None = None, obj: Any = None, name: str | None = None, exc: type = UndefinedError
    ) -> None:
        super().__init__(obj.lacks(name) if isinstance(obj, Named) else hint, obj, name, exc)


class Templates:
    """All templates of a run. Render requests that come while one is under way are answered by one more.

    Args:
        texts: What ``--template`` names, each.
        content: Returns what is published now.
        exclusive: Keeps other processes that render the same files out, from the reading of the Secrets to the
            writing of the files; otherwise the slower one could write what it read before the other published.
        access: Who else may write beside the files, and read those of which nothing else is said.
        namespace: Of policies that are named without one.

    Raises:
        UsageError: A template cannot be read, or there is no directory for its file.
    """

    def __init__(
        self,
        texts: tuple[str, ...],
        content: Callable[[], Content],
        exclusive: Exclusive = nullcontext,
        *,
        access: Access = PRIVATE,
        namespace: str = "default",
    ) -> None:
        self._templates = [_compile(target) for target in read_targets(texts, namespace)]
        self._content = content
        self._exclusive = exclusive
        self._access = access
        self._rendering = threading.Lock()
        self._asked = threading.Event()
        self.failures: dict[Path, RotationError] = {}
        """What went wrong in the latest rendering of each destination."""

    def render(self) -> None:
        """Bring all files up to date; failures are kept in ``failures``, the old file stays."""
        self._asked.set()
        # Ten workers that publish at once make two renderings, not ten: the one under way, and one that sees all of it.
        while self._templates and self._asked.is_set() and self._rendering.acquire(blocking=False):
            try:
                self._asked.clear()
                self._render_all()
            finally:
                self._rendering.release()

    def _render_all(self) -> None:
        try:
            with self._exclusive():
                content = self._content()
                for compiled in self._templates:
                    self._render_one(compiled, Values(content, compiled.target.policy))
        except RotationError as error:
            self.failures.update({compiled.target.destination: error for compiled in self._templates})

    def _render_one(self, compiled: _Compiled, values: Values) -> None:
        target = compiled.target
        try:
            write_file(target.destination, _render(compiled, values), self._access, target.access)
        except RotationError as error:
            self.failures[target.destination] = error
        else:
            self.failures.pop(target.destination, None)


def _compile(target: Target) -> _Compiled:
    # Sandboxed though the operator wrote it: presets and copied templates are foreign code, and need no more than
    # values.
    environment = ImmutableSandboxedEnvironment(undefined=_Missing, keep_trailing_newline=True)
    environment.filters.update(FILTERS)
    try:
        return _Compiled(target, environment.from_string(target.text))
    except TemplateSyntaxError as error:
        raise UsageError(f"{target.source}:{error.lineno}: {error.message}") from error


def _render(compiled: _Compiled, values: Values) -> bytes:
    try:
        return compiled.template.render(values.variables).encode()
    # What expressions of a template can raise; anything else is a fault of ours.
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RuntimeError) as error:
        where = f"{compiled.target.source}:{_line(error.__traceback__)}"
        raise PolicyError(
            "TemplateFailed", f"{where}: {printable(values.masked(str(error)))}", hint=values.advice
        ) from error


def _line(traceback: TracebackType | None) -> int:
    """Return the template's line in which rendering stopped (Jinja2 puts its own frames into the traceback)."""
    line = 0
    while traceback:
        if traceback.tb_frame.f_code.co_filename == "<template>":
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line
