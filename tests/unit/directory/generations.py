"""What lies in the directory of a Secret, and how it is read there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.twins import SECRET

if TYPE_CHECKING:
    from pathlib import Path

    from credrotator.core.model import ObjectKey
    from credrotator.files.directory import DirectoryStore


def place(root: Path, key: ObjectKey = SECRET) -> Path:
    """Return the directory of a Secret."""
    return root / key.namespace / key.name


def version(store: DirectoryStore) -> str | None:
    """Return the version that the next write has to name."""
    stored = store.read(SECRET)
    return stored.version if stored else None


def value(store: DirectoryStore, key: str = "a") -> str | None:
    """Return a stored value."""
    stored = store.read(SECRET)
    return stored.document.data[key].reveal() if stored else None


def generation_names(root: Path) -> set[str]:
    """Return the names of the generations that are there."""
    return {path.name for path in place(root).iterdir() if path.is_dir() and not path.is_symlink()}


def store_root(store: DirectoryStore) -> Path:
    """Return a store's directory."""
    return store._root


def assert_old(store: DirectoryStore, root: Path) -> None:
    """The old value is there, for the store and for readers, and can be replaced."""
    assert value(store) == "old"
    assert (place(root) / "a").read_text() == "old"


def assert_whole(store: DirectoryStore, root: Path) -> None:
    """Both keys and the annotations are of one publication, and readers find them."""
    stored = store.read(SECRET)
    assert stored
    first, second = (stored.document.data[key].reveal() for key in ("a", "b"))
    assert first == second == (place(root) / "a").read_text() == (place(root) / "b").read_text()
    name, _, again = first.split(":")
    assert name == again == stored.document.annotations.get("n", name)
