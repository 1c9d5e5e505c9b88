"""Files rendered from published credentials (``--template SRC:DST``), by Jinja2, sandboxed.

A template sees ``secrets``, a mapping from ``namespace/name`` to the Secret's keys and texts. Files are replaced
atomically, with mode 0600, and only when their content changed, as Vault Agent and consul-template do. This is how
the gateway's filter is fed without a cluster.
"""

from __future__ import annotations

import stat
import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from credrotator.core.errors import PolicyError, RotationError, UsageError, printable
from credrotator.files.atomic import PRIVATE, Access, write_file
from credrotator.files.bounded import MIB, file_mode, read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from credrotator.core.model import Sensitive

    Secrets = Callable[[], Mapping[str, Mapping[str, Sensitive]]]
    Exclusive = Callable[[], AbstractContextManager[None]]

LIMIT_BYTES = MIB
"""Size of a template."""


@dataclass(frozen=True, slots=True)
class _Target:
    source: str
    template: Template
    destination: Path


class _Secrets(dict[str, "dict[str, str]"]):
    """What templates see under ``secrets``; a type of its own, so that what is missing in it gets a clear message."""


class _Missing(StrictUndefined):
    def __init__(
        self, hint: str | None = None, obj: Any = None, name: str | None = None, exc: type = UndefinedError
    ) -> None:
        super().__init__(f"there is no Secret {name}" if isinstance(obj, _Secrets) else hint, obj, name, exc)


class Templates:
    """All templates of a run. Render requests that come while one is under way are answered by one more.

    Args:
        pairs: ``SRC:DST`` each.
        secrets: Returns what is published now.
        exclusive: Keeps other processes that render the same files out, from the reading of the Secrets to the
            writing of the files; otherwise the slower one could write what it read before the other published.
        access: Who else may read the files, and write beside them.

    Raises:
        UsageError: A template cannot be read, or there is no directory for its file.
    """

    def __init__(
        self,
        pairs: tuple[str, ...],
        secrets: Secrets,
        exclusive: Exclusive = nullcontext,
        *,
        access: Access = PRIVATE,
    ) -> None:
        self._targets = [_parse(pair) for pair in pairs]
        _refuse_twice(self._targets)
        self._secrets = secrets
        self._exclusive = exclusive
        self._access = access
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
        try:
            with self._exclusive():
                secrets = {
                    name: {key: value.reveal() for key, value in data.items()} for name, data in self._secrets().items()
                }
                for target in self._targets:
                    self._render_one(target, _Secrets(secrets))
        except RotationError as error:
            self.failures.update({target.destination: error for target in self._targets})

    def _render_one(self, target: _Target, secrets: _Secrets) -> None:
        try:
            write_file(target.destination, _render(target, secrets), self._access)
        except RotationError as error:
            self.failures[target.destination] = error
        else:
            self.failures.pop(target.destination, None)


def _parse(pair: str) -> _Target:
    """Read SRC:DST and compile the template, before anything is rotated for it."""
    source, colon, destination = pair.partition(":")
    if not (source and colon and destination):
        raise UsageError(f"--template {printable(pair)}: expected SRC:DST, two file names with a colon between them")
    try:
        _check_destination(Path(destination))
    except UsageError as error:
        raise UsageError(f"--template {printable(pair)}: {error}") from error
    text = read_text(Path(source), LIMIT_BYTES, "template")
    environment = ImmutableSandboxedEnvironment(undefined=_Missing, keep_trailing_newline=True)
    try:
        template = environment.from_string(text)
    except TemplateSyntaxError as error:
        raise UsageError(f"{source}:{error.lineno}: {error.message}") from error
    return _Target(source, template, Path(destination))


def _check_destination(destination: Path) -> None:
    folder = file_mode(destination.parent)
    if folder is None or not stat.S_ISDIR(folder):
        raise UsageError(f"there is no directory {destination.parent}")
    there = file_mode(destination)
    if there is not None and stat.S_ISDIR(there):
        raise UsageError(f"{destination} is a directory; name a file in it")


def _refuse_twice(targets: list[_Target]) -> None:
    """Two templates of one file would undo each other's work, at every pass."""
    seen: set[Path] = set()
    for destination in (target.destination.absolute() for target in targets):
        if destination in seen:
            raise UsageError(f"--template: {destination} is named twice; render each file from one template")
        seen.add(destination)


def _render(target: _Target, secrets: _Secrets) -> bytes:
    try:
        return target.template.render(secrets=secrets).encode()
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RuntimeError) as error:
        there = ", ".join(sorted(secrets)) or "none"
        raise PolicyError(
            "TemplateFailed",
            f"{target.source}:{_line(error.__traceback__)}: {printable(_masked(str(error), secrets))}",
            hint=f'Secrets that are there: {there}; test for others with {{% if "…" in secrets %}}',
        ) from error


def _line(traceback: TracebackType | None) -> int:
    """Return the template's line in which rendering stopped (Jinja2 puts its own frames into the traceback)."""
    line = 0
    while traceback:
        if traceback.tb_frame.f_code.co_filename == "<template>":
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line


def _masked(text: str, secrets: _Secrets) -> str:
    """Hide values that an error quotes, such as one that was used as the name of a filter."""
    for value in {value for data in secrets.values() for value in data.values() if value}:
        text = text.replace(value, "***").replace(repr(value)[1:-1], "***")
    return text
