"""What is wrong with the shape of an object, in words: field paths, what was expected, what may have been meant. Pure.

Owns the wording of Pydantic's findings and of unknown fields. What fields mean together is ``policy.py``'s.
"""

from __future__ import annotations

import difflib
from functools import cache, lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, get_args

from credrotator.core.errors import printable
from credrotator.core.model import Problem
from credrotator.policies import schema as api

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pydantic import ValidationError

MANY = 20
"""Problems or warnings that are listed one by one; the rest is counted."""


# One slip in a word of five letters, two in one of ten; below, fields that only resemble each other would be called
# slips.
_ALIKE = 0.8
_TELLING = 10
"""Letters of a field's beginning that tell what was meant."""


def few(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """List the first problems and count the rest: nobody reads a thousand."""
    more = (Problem("", f"and {len(problems) - MANY} more"),) if len(problems) > MANY else ()
    return (*problems[:MANY], *more)


def schema_problems(error: ValidationError) -> Iterator[Problem]:
    """Say of each mismatch where it is, what was expected, and what is there; nothing of the rest of the document."""
    for item in error.errors(include_url=False, include_context=True):
        yield Problem(_path(item["loc"]), _sentence(item["type"], item["msg"], item["loc"], item["input"]))


def _path(location: Sequence[str | int]) -> str:
    """Write a field path: ``spec.targetRefs[3].name``, ``metadata.annotations[example.com/x]``."""
    text = ""
    for index, part in enumerate(location):
        bracket = isinstance(part, int) or location[:index] == ("metadata", "annotations")
        text += f"[{printable(part, 80)}]" if bracket else f".{printable(part, 80)}"
    return text.removeprefix(".")


def _sentence(kind: str, message: str, location: Sequence[str | int], got: object) -> str:
    match kind:
        case "missing":
            return missing(str(location[-1]), got)
        case "string_too_short":
            return "must not be empty"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"expected an object, got {_kind_of(got)}"
        case "literal_error":
            shown = repr(printable(got, 80)) if isinstance(got, str) else _kind_of(got)
            return f"{message.replace('Input should be', 'expected')}, got {shown}"
        # The usual cause: an account number or ``on`` without quotes.
        case "string_type" if isinstance(got, int | float):
            return f"expected a string, got {_kind_of(got)}; quote the value"
        case "string_type" | "list_type":
            return f"{message.replace('Input should be a valid', 'expected a')}, got {_kind_of(got)}"
        case "too_long":
            return message.replace("List should have at most", "expected at most").partition(" after")[0]
        case _:
            pass
    # Pydantic's own words; what the patterns above do not know is rare, and never has the input in it.
    return printable(message)


def missing(field: str, parent: object) -> str:
    """Say that a field of an object is not there, and what may have been meant for it."""
    return "required field is missing" + instead(_meant(field, parent))


def _meant(field: str, parent: object) -> list[str]:
    """Find what the author may have written instead of a field."""
    # Bounded: difflib takes time by the product of lengths, and a tenant may write a thousand long names.
    names = [name[:80] for name in islice(parent, MANY) if isinstance(name, str)] if isinstance(parent, dict) else []
    beside = _beside(field)
    return difflib.get_close_matches(field, [name for name in names if name not in beside], 1, 0.75)


def _beside(field: str) -> set[str]:
    """Name the fields that the API has beside one: they are no slips of it, however alike."""
    shapes = [shape for shape in vars(api).values() if isinstance(shape, type) and issubclass(shape, api.SchemaModel)]
    fields = [{info.alias or name for name, info in shape.model_fields.items()} for shape in shapes]
    return set[str]().union(*(names for names in fields if field in names))


def instead(similar: Sequence[str]) -> str:
    """Complete a sentence about a missing field with what stands there in its place."""
    return "".join(f"; there is {printable(name, 80)}, is that a typing error?" for name in similar)


def suggestion(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Complete a sentence about an unknown name with the one that was probably meant; empty if none comes near."""
    fields = list(known)
    longer = [field for field in fields if name.startswith(field)]  # "audience" for "aud"
    meant = difflib.get_close_matches(name[:80], fields, 1, cutoff) or longer[:1]
    return "".join(f"; did you mean {field}?" for field in meant)


def choice_problems(block: object, shape: type[api.SchemaModel], path: str, *, alpha: bool) -> Iterator[Problem]:
    """Say what is wrong with the choices in an object, whatever else is wrong with it.

    Args:
        block: The object as it was read; anything.
        shape: What it should be.
        path: Where it stands.
        alpha: By the rules of ``v1alpha1``.
    """
    if not isinstance(block, dict):
        return
    if shape.choice:
        yield from _choice_problems(block, shape.choice, path, required=shape.choice.required[0 if alpha else 1])
    for name, inner in _inner_shapes(shape):
        yield from choice_problems(block.get(name), inner, f"{path}.{name}", alpha=alpha)


@cache
def _inner_shapes(shape: type[api.SchemaModel]) -> tuple[tuple[str, type[api.SchemaModel]], ...]:
    """List the fields of a shape that have a shape of their own, by their names in the API."""
    fields = []
    for name, info in shape.model_fields.items():
        inner = [part for part in (info.annotation, *get_args(info.annotation)) if _is_shape(part)]
        fields += [(info.alias or name, part) for part in inner[:1]]
    return tuple(fields)


def _is_shape(part: object) -> bool:
    return isinstance(part, type) and issubclass(part, api.SchemaModel)


def _choice_problems(block: Mapping[str, Any], choice: api.Choice, path: str, *, required: bool) -> Iterator[Problem]:
    """A field that nearly is one of them is no slip to pass over: without it, something else would be rotated."""
    chosen = [name for name in choice.fields if block.get(name) is not None]
    slips = [(name, meant) for name in islice(block, MANY) if (meant := _slip(name, choice.fields))]
    for name, meant in slips:
        yield Problem(f"{path}.{printable(name, 80)}", f"unknown field; did you mean {meant}?")
    names = " and ".join(choice.fields)
    if len(chosen) > 1:
        yield Problem(path, choice.both or f"expected {'exactly' if required else 'at most'} one of {names}")
    elif required and not chosen and not slips:
        yield Problem(path, f"expected exactly one of {names}")


def _slip(name: object, fields: tuple[str, ...]) -> str | None:
    """Return the field that was probably meant by another name."""
    if not isinstance(name, str) or name in fields:
        return None
    return _nearest(name[:80].lower(), fields)


# The same names stand in every policy.
@lru_cache(maxsize=256)
def _nearest(written: str, fields: tuple[str, ...]) -> str | None:
    for field in fields:
        ratio = difflib.SequenceMatcher(None, written, field.lower()).ratio()
        if ratio >= _ALIKE or (len(written) >= _TELLING and field.lower().startswith(written)):
            return field
    return None


def _kind_of(value: object) -> str:
    names = {type(None): "nothing", dict: "an object", list: "a list", bool: "a boolean", str: "a string"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)


def unknown_fields(shape: api.SchemaModel, path: str) -> Iterator[str]:
    """Name what the API does not know; in ``oidc`` only likely slips, the rest there serves browsers' log-ins."""
    fields = type(shape).model_fields
    known = [info.alias or name for name, info in fields.items()]
    for name in islice(shape.model_extra or {}, MANY):
        meant = suggestion(name, known, 0.75 if isinstance(shape, api.Oidc) else 0.6)
        if meant or not isinstance(shape, api.Oidc):
            yield f"{path}.{printable(name, 80)}: unknown field{meant}"
    for name, info in fields.items():
        value = getattr(shape, name)
        for index, child in enumerate(_children(value)):
            suffix = f"[{index}]" if isinstance(value, list) else ""
            yield from unknown_fields(child, f"{path}.{info.alias or name}{suffix}")


def _children(value: object) -> list[api.SchemaModel]:
    items = value if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, api.SchemaModel)]


def mechanism_problems(spec: Mapping[str, Any], kind: str, *, strict: bool) -> Iterator[Problem]:
    """Say what is wrong with the mechanisms of a type; ``strict``: with others beside it too."""
    required = api.MECHANISMS[kind].block
    if spec.get(required) is None:
        unknown = [name[:80] for name in islice(spec, MANY) if name not in api.SPEC_FIELDS]
        meant = difflib.get_close_matches(required, unknown, 1)
        yield Problem(f"spec.{required}", f"required with type {kind}" + instead(meant))
    # CEL rules of v1beta1's CRD; v0.2 had none, and people's manifests of that time do carry leftovers.
    for mechanism in api.MECHANISMS.values() if strict else ():
        if mechanism.block != required and spec.get(mechanism.block) is not None:
            yield Problem(f"spec.{mechanism.block}", f"must not be set with type {kind}; remove it or change the type")
