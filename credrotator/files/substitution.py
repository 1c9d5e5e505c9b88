"""Values of Secrets that stand in the environment or in files, named by annotations of the gateway's stand-alone form.

``substitution.aigw.run/env/KEY: VARIABLE`` and ``substitution.aigw.run/file/KEY: PATH`` on a Secret, as ``aigw run``
fills them. For an operator's own files only: in a cluster a tenant writes annotations, and would have the operator's
variables and files sent to an issuer of the tenant's choice. Source: the gateway's ``cmd/aigw/run.go``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from credrotator.core.errors import UsageError, printable
from credrotator.files.bounded import MIB, read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PREFIX = "substitution.aigw.run/"
ENV, FILE = f"{PREFIX}env/", f"{PREFIX}file/"
LIMIT_BYTES = MIB
"""The size of a Secret, which the API server limits too."""
# ``kubectl get -o yaml`` prints them, people do not write them; one is enough.
_BY_THE_SERVER = ("uid", "resourceVersion", "creationTimestamp", "managedFields")


@dataclass
class Substitutes:
    """What the annotations of one Secret stand for.

    Attributes:
        values: By the Secret's key.
        problems: Why a key has no value, by the key.
        files: What was read.
    """

    values: dict[str, bytes] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)


def from_a_cluster(metadata: Mapping[str, Any]) -> bool:
    """Tell whether an object was read from an API server, which sets fields that a person does not write."""
    return any(metadata.get(name) for name in _BY_THE_SERVER)


def substitutes(annotations: Mapping[str, str], environment: Mapping[str, str]) -> Substitutes:
    """Read what the annotations of a Secret name; a variable wins over a file, as in ``aigw run``."""
    result = Substitutes()
    for key, path in _named(annotations, FILE):
        _read_file(key, path, result)
    for key, variable in _named(annotations, ENV):
        result.problems.pop(key, None)
        if environment.get(variable):
            # surrogateescape: bytes that are no UTF-8 come through Python's environment like this, and go out as they
            # were.
            result.values[key] = environment[variable].encode("utf-8", "surrogateescape")
        else:
            result.problems[key] = f"the variable {printable(variable, 80)} is not set; set it, or remove {ENV}{key}"
    return result


def _named(annotations: Mapping[str, str], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in annotations.items():
        if name.startswith(prefix) and name != prefix:
            yield printable(name.removeprefix(prefix), 80), value


def _read_file(key: str, name: str, result: Substitutes) -> None:
    path = Path(os.path.expanduser(name))  # noqa: PTH111 - Path's own raises where there is no home
    result.files.append(path)
    try:
        content = read_bytes(path, LIMIT_BYTES)
    except UsageError as error:
        result.problems[key] = f"{error}; correct {FILE}{key}"
        return
    lines = content.rstrip(b"\r\n")
    # A file of one line ends in a newline by habit; the reader of Secrets warns of others.
    result.values[key] = content if b"\n" in lines else lines
