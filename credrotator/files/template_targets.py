"""What ``--template`` names: where the text comes from, which file it becomes, and who may read that.

``SRC:DST[:MODE[:GROUP]]``, where SRC is a file, or ``preset:NAME`` with ``@NAMESPACE/POLICY`` for one policy only.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from credrotator.core.errors import UsageError, printable
from credrotator.core.model import ObjectKey
from credrotator.files.atomic import Access, group_number
from credrotator.files.bounded import MIB, file_mode, read_text
from credrotator.providers.presets import preset, preset_names

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMIT_BYTES = MIB
"""Size of a template."""
PRESET = "preset:"
EXPECTED = "expected SRC:DST[:MODE[:GROUP]], SRC being a file or preset:NAME"
# The destination as short as possible: a path that ends in ``:0640`` cannot be meant.
_FORM = re.compile(
    r"(?P<source>preset:[^:]*|[^:]+):(?P<destination>[^\0]+?)(:(?P<mode>[0-9][^:/]*)(:(?P<group>[^:/]+))?)?", re.DOTALL
)
_MODE = re.compile(r"0?[0-7]{3}")
_NOT_TO_OTHERS = 0o007
_NOT_EXECUTABLE = 0o111


@dataclass(frozen=True, slots=True)
class Target:
    """One file to render.

    Attributes:
        source: Of the template, as messages call it.
        text: The template.
        destination: The file.
        access: Who may read the file, where the operator says so.
        policy: The only policy whose credential the template is for; None: all.
    """

    source: str
    text: str
    destination: Path
    access: Access | None = None
    policy: ObjectKey | None = None


def read_targets(texts: Sequence[str], namespace: str = "default") -> list[Target]:
    """Read what ``--template`` names, before anything is rotated for it.

    Args:
        texts: One of each template.
        namespace: Of policies that are named without one.

    Raises:
        UsageError: A template cannot be read, there is no directory for its file, or two are for one file.
    """
    targets = [_read(text, namespace) for text in texts]
    seen: set[Path] = set()
    for destination in (target.destination.absolute() for target in targets):
        # Two templates of one file would undo each other's work, at every pass.
        if destination in seen:
            raise UsageError(f"--template: {destination} is named twice; render each file from one template")
        seen.add(destination)
    return targets


def _read(text: str, namespace: str) -> Target:
    form = _FORM.fullmatch(text)
    if form is None:
        raise UsageError(f"--template {printable(text)}: {EXPECTED}")
    source, destination = form["source"], Path(form["destination"])
    try:
        # Before anything is rotated for it: a directory that is missing would show after the first renewal only.
        _check_destination(destination)
        access = _access(form["mode"], form["group"])
        if source.startswith(PRESET):
            name, _, policy = source.removeprefix(PRESET).partition("@")
            chosen = ObjectKey.parse(policy, namespace) if policy else None
            return Target(source, _preset(name), destination, access, chosen)
    except UsageError as error:
        raise UsageError(f"--template {printable(text)}: {error}") from error
    return Target(source, read_text(Path(source), LIMIT_BYTES, "template"), destination, access)


def _preset(name: str) -> str:
    known = preset_names()
    if name not in known:
        raise UsageError(f"there is no preset {printable(name, 80)}; there are {', '.join(known)}")
    return preset(name)


def _access(mode: str | None, group: str | None) -> Access | None:
    """Read a mode: others than the owner and a group are never let in, and no credential is a program."""
    if mode is None:
        return None
    number = int(mode, 8) if _MODE.fullmatch(mode) else None
    if number is None:
        raise UsageError(f"mode {printable(mode, 20)} is not one such as 0640")
    if number & (_NOT_TO_OTHERS | _NOT_EXECUTABLE) or not number & stat.S_IRUSR:
        raise UsageError(f"mode {mode} is not for a credential; use 0600, or 0640 with a group")
    return Access(group_number(group) if group else None, number)


def _check_destination(destination: Path) -> None:
    folder = file_mode(destination.parent)
    if folder is None or not stat.S_ISDIR(folder):
        raise UsageError(f"there is no directory {destination.parent}")
    there = file_mode(destination)
    if there is not None and stat.S_ISDIR(there):
        raise UsageError(f"{destination} is a directory; name a file in it")
