"""The wrapper that every secret text is kept in, from the moment it is read until it is written."""

from __future__ import annotations

from typing import ClassVar, Self


class Sensitive:
    """A secret text that shows itself only to :meth:`reveal`.

    NOTE: a plain slotted class on purpose; ``dataclasses.asdict`` would open a dataclass.
    """

    __slots__ = ("_text",)
    _held: ClassVar[dict[int, str]] = {}
    """The text of each one that is alive, for whoever has to keep them out of an output."""

    def __init__(self, text: str) -> None:
        self._text = text
        # By identity: two equal secrets are two entries, so that the end of one does not hide the other from the search
        # (a WeakSet would).
        self._held[id(self)] = text

    def __del__(self) -> None:
        self._held.pop(id(self), None)

    @classmethod
    def held(cls) -> set[str]:
        """Return the texts of all secrets that are alive at this moment."""
        # NOTE: copied in one step; other threads make and drop secrets meanwhile.
        return set(cls._held.copy().values())

    def reveal(self) -> str:
        """Return the secret itself; the caller puts it on the wire or into the Secret and nowhere else."""
        return self._text

    def __repr__(self) -> str:
        return "Sensitive(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        # Not in constant time: both sides are ours, and nobody outside can measure it.
        return isinstance(other, Sensitive) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __bool__(self) -> bool:
        return bool(self._text)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: dict[int, object]) -> Self:
        # NOTE: it never changes, and ``dataclasses.asdict`` copies what it does not know.
        return self

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a secret is not pickled")
