"""Files rendered from published credentials (``--template SRC:DST``), by Jinja2, sandboxed.

A template sees ``secrets``, a mapping from ``namespace/name`` to the Secret's keys and texts. Files are replaced
atomically, with mode 0600, and only when their content changed, as Vault Agent and consul-template do. This is how
the gateway's filter is fed without a cluster.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from credrotator.atomic import write_file
from credrotator.errors import PolicyError, RotationError, UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from credrotator.model import Sensitive

    Secrets = Callable[[], Mapping[str, Mapping[str, Sensitive]]]


@dataclass(frozen=True, slots=True)
class _Target:
    source: str
    template: Template
    destination: Path


class Templates:
    """All templates of a run. Render requests that come while one is under way are answered by one more."""

    def __init__(self, pairs: tuple[str, ...], secrets: Secrets) -> None:
        self._targets = [_parse(pair) for pair in pairs]
        self._secrets = secrets
        self._rendering = threading.Lock()
        self._asked = threading.Event()
        self.failures: dict[Path, RotationError] = {}
        """What went wrong in the latest rendering of each destination."""

    def render(self) -> None:
        """Bring all files up to date; failures are kept in ``failures``, the old file stays."""
        self._asked.set()
        while self._targets and self._asked.is_set() and self._rendering.acquire(blocking=False):
            try:
                self._asked.clear()
                self._render_all()
            finally:
                self._rendering.release()

    def _render_all(self) -> None:
        texts = {name: {key: value.reveal() for key, value in data.items()} for name, data in self._secrets().items()}
        for target in self._targets:
            try:
                write_file(target.destination, _render(target, texts))
            except RotationError as error:
                self.failures[target.destination] = error
            else:
                self.failures.pop(target.destination, None)


def _parse(pair: str) -> _Target:
    """Read SRC:DST and compile the template, before anything is rotated for it."""
    source, colon, destination = pair.partition(":")
    if not (source and colon and destination):
        raise UsageError(f"--template {printable(pair)}: expected SRC:DST, two file names with a colon between them")
    if not Path(destination).parent.is_dir():
        raise UsageError(f"--template {printable(pair)}: there is no directory {Path(destination).parent}")
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    try:
        template = environment.from_string(Path(source).read_text(encoding="utf-8"))
    except TemplateSyntaxError as error:
        raise UsageError(f"{source}:{error.lineno}: {error.message}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read template {source}: {getattr(error, 'strerror', None) or error}") from error
    return _Target(source, template, Path(destination))


def _render(target: _Target, secrets: Mapping[str, Any]) -> bytes:
    try:
        return target.template.render(secrets=secrets).encode()
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        there = ", ".join(sorted(secrets)) or "none"
        raise PolicyError(
            "TemplateFailed",
            f"{target.source}: {printable(error)}",
            hint=f'Secrets that are there: {there}; test for others with {{% if "…" in secrets %}}',
        ) from error
