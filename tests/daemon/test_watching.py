"""Manifests that change while the daemon runs."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
import yaml

from credrotator.core.errors import PolicyError, UsageError
from credrotator.core.model import InvalidPolicy, Policy
from credrotator.files.directory import DirectoryStore
from credrotator.files.manifest_source import ManifestSource
from credrotator.files.published_states import DirectoryStates
from credrotator.policies.reader import Defaults
from credrotator.providers import policy_reader
from tests.daemon.watching import HAND_EDITS, POLL, PUBLISHED, A, B, Watching, client
from tests.support.denied import deny_listing
from tests.support.manifests import aws
from tests.support.twins import MemoryStore, StandingClock, document
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[Watching]:
    """A directory with one policy and its client secret; not started."""
    found = Watching(tmp_path)
    found.write("a.yaml", aws("a"))
    found.write("secret.yaml", client("one"))
    yield found
    found.source.stop()


def test_first_reading(watching: Watching) -> None:
    """It is done when start returns: every policy is reported, once."""
    assert watching.source.trouble() is not None
    watching.start()
    assert (watching.told, set(watching.source.policies())) == ([A], {A})
    assert isinstance(watching.source.get(A), Policy)
    assert watching.source.trouble() is None
    assert watching.client_secret() == "one"


def test_a_new_file(watching: Watching) -> None:
    """Its policies are reported, those of other files are not."""
    watching.start()
    watching.write("b.yaml", aws("b"))
    eventually(lambda: watching.told == [A, B])


def test_an_edit(watching: Watching) -> None:
    """An edited policy is reported; a file that was only touched is no change."""
    watching.start()
    watching.write("a.yaml", aws("a"))
    watching.write("a.yaml", aws("a", role="other"))
    eventually(lambda: watching.told == [A, A])


def test_a_deleted_file(watching: Watching) -> None:
    """Its policies are gone, and reported so that they are forgotten."""
    watching.start()
    (watching.directory / "a.yaml").unlink()
    eventually(lambda: watching.told == [A, A])
    assert watching.source.get(A) is None


def test_a_mistake(watching: Watching) -> None:
    """A policy that cannot be read any more is invalid, and reported; corrected, it is a policy again."""
    watching.start()
    watching.write("a.yaml", aws("a") | {"spec": {}})
    eventually(lambda: isinstance(watching.source.get(A), InvalidPolicy))
    watching.write("a.yaml", aws("a"))
    eventually(lambda: isinstance(watching.source.get(A), Policy))
    assert watching.told == [A, A, A]


def test_a_secret_that_is_there_twice(watching: Watching, caplog: pytest.LogCaptureFixture) -> None:
    """The log says where the other one is, without the values."""
    watching.write("another.yaml", client("other"))
    watching.start()
    (record,) = [record for record in caplog.records if "defined twice" in record.message]
    assert record.levelname == "WARNING"
    assert "another.yaml:1 and in" in record.message
    assert "secret.yaml:1; the latter is used" in record.message
    assert watching.client_secret() == "one"


BROKEN = {
    "no YAML": "kind: [BackendSecurityPolicy\n",
    "cut off": "apiVersion: v1\nkind",
    "tab": "kind:\tBackendSecurityPolicy\n\tname: a\n",
    "no object": "- a\n- b\n",
    "no kind": yaml.safe_dump({name: value for name, value in aws("a").items() if name != "kind"}),
    "misspelt kind": yaml.safe_dump(aws("a") | {"kind": "BackendSecurityPolcy"}),
    "misspelt name": yaml.safe_dump(aws("a") | {"metadata": {"nmae": "a"}}),
    "no text": b"\xff\xfek\0i\0n\0d\0",
    "not closed": '{"kind": "BackendSecurityPolicy"',
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_fault_67_a_file_that_becomes_unreadable(
    watching: Watching, content: str | bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Its policies stay as they were last read; not ready, counted, and logged once; other files are read on."""
    watching.write("b.yaml", aws("b"))
    watching.start()
    path, whole = watching.directory / "a.yaml", watching.source.get(A)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    eventually(lambda: watching.source.trouble() is not None)
    assert "a.yaml" in str(watching.source.trouble())
    assert (watching.source.get(A), watching.source.unreadable()) == (whole, 1)
    watching.write("b.yaml", aws("b", role="other"))
    eventually(lambda: watching.told == [A, B, B])
    assert watching.source.get(A) == whole
    assert len([record for record in caplog.records if "stays in force" in record.message]) == 1
    watching.write("a.yaml", aws("a", role="other"))
    eventually(lambda: watching.source.trouble() is None and watching.source.get(A) != whole)
    assert watching.source.unreadable() == 0


@pytest.mark.parametrize("what", ["removed", "a directory", "a broken link", "a pipe"])
def test_fault_67_a_named_file_that_is_away(tmp_path: Path, what: str) -> None:
    """A file that was named by itself, and is something else by now, keeps its policies."""
    watching = Watching(tmp_path)
    watching.write("a.yaml", aws("a"))
    watching.write("b.yaml", aws("b"))
    file = watching.directory / "a.yaml"
    names = [str(file), str(watching.directory / "b.yaml")]
    watching.source = ManifestSource(names, policy_reader(Defaults()), watching.store, POLL)
    watching.start()
    try:
        whole = watching.source.get(A)
        file.unlink()
        if what == "a broken link":
            file.symlink_to("none")
        elif what == "a pipe":
            os.mkfifo(file)
        elif what == "a directory":
            file.mkdir()
        eventually(lambda: watching.source.trouble() is not None)
        assert (watching.source.get(A), watching.source.unreadable()) == (whole, 1)
    finally:
        watching.source.stop()


def test_fault_67_one_document_of_many(watching: Watching) -> None:
    """A file stays whole: the last good reading of all its documents counts, edits beside the mistake do not."""
    watching.write("a.yaml", aws("a"), aws("b"))
    watching.start()
    before = watching.source.get(B)
    text = yaml.safe_dump_all([aws("a"), aws("b", role="other")])
    (watching.directory / "a.yaml").write_text(text.replace("kind: Backend", "kind: [Backend", 1))
    eventually(lambda: watching.source.trouble() is not None)
    assert (watching.source.get(B), set(watching.source.policies())) == (before, {A, B})


def test_fault_67_unreadable_from_the_start(watching: Watching) -> None:
    """What can be read of it is served; that something is missing is said all the same."""
    text = yaml.safe_dump_all([aws("a"), aws("b")]).replace("kind: Backend", "kind: [Backend", 1)
    (watching.directory / "a.yaml").write_text(text)
    watching.start()
    assert (set(watching.source.policies()), watching.source.unreadable()) == ({B}, 1)
    assert watching.source.trouble() is not None


@pytest.mark.parametrize("what", ["a link to nowhere", "a pipe", "no text"])
def test_fault_67_a_file_that_never_could_be_read(watching: Watching, what: str) -> None:
    """The daemon starts with the other files, and takes that one up when it can be read, in part at first."""
    path = watching.directory / "b.yaml"
    if what == "a link to nowhere":
        path.symlink_to("nowhere")
    elif what == "a pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(b"\xff\xfe")
    watching.start()
    assert (set(watching.source.policies()), watching.source.unreadable()) == ({A}, 1)
    assert "b.yaml:1: cannot be read: " in str(watching.source.trouble())
    assert str(watching.source.trouble()).endswith("; nothing of it is in force")
    path.unlink()
    path.write_text(yaml.safe_dump(aws("b")) + "---\n[")
    eventually(lambda: set(watching.source.policies()) == {A, B})
    assert watching.source.unreadable() == 1
    path.write_text(yaml.safe_dump(aws("b")))
    eventually(lambda: watching.source.trouble() is None)


def test_fault_67_a_directory_that_cannot_be_listed(watching: Watching, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has deleted the files in it: they stay, edits of them are heard of, and it counts as unreadable."""
    watching.start()
    with monkeypatch.context() as patch:
        deny_listing(patch, watching.directory)
        eventually(lambda: watching.source.unreadable() == 1)
        assert "Permission denied; what was read of it before stays in force" in str(watching.source.trouble())
        watching.write("a.yaml", aws("a", role="other"))
        eventually(lambda: watching.told == [A, A])
        assert watching.source.get(A) is not None
    eventually(lambda: watching.source.trouble() is None)


def test_fault_67_a_deleted_document_is_no_mistake(watching: Watching) -> None:
    """Who takes a policy out of a file that can be read means it."""
    watching.write("a.yaml", aws("a"), aws("b"))
    watching.start()
    watching.write("a.yaml", aws("b"))
    eventually(lambda: watching.source.get(A) is None)
    assert watching.source.trouble() is None


def test_an_edit_that_keeps_time_and_size(watching: Watching) -> None:
    """As ``rsync -t`` and ``touch -r`` leave it: the file is another one all the same."""
    watching.start()
    path = watching.directory / "a.yaml"
    status = path.stat()
    path.write_text(path.read_text().replace("bedrock", "kcordeb"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    eventually(lambda: watching.told == [A, A])


def test_fault_42_a_new_client_secret(watching: Watching) -> None:
    """Everybody is looked at, and reads the new one."""
    watching.start()
    watching.write("secret.yaml", client("two"))
    eventually(lambda: watching.told == [A, A])
    assert watching.client_secret() == "two"


def test_a_mounted_config_map(watching: Watching) -> None:
    """The kubelet swaps a link; the files' own names and paths stay the same."""
    root = watching.directory
    for generation, role in (("..one", "bedrock"), ("..two", "other")):
        (root / generation).mkdir()
        (root / generation / "a.yaml").write_text(yaml.safe_dump(aws("a", role=role)))
    (root / "a.yaml").unlink()
    (root / "..data").symlink_to("..one")
    (root / "a.yaml").symlink_to("..data/a.yaml")
    watching.start()
    (root / "..new").symlink_to("..two")
    (root / "..new").rename(root / "..data")
    eventually(lambda: watching.told == [A, A])


def test_a_directory_that_is_away(watching: Watching, caplog: pytest.LogCaptureFixture) -> None:
    """The policies stay in force; it is said once, and trouble for as long as it lasts, unchanged files or not."""
    watching.start()
    away = watching.directory.with_name("away")
    shutil.move(watching.directory, away)
    eventually(lambda: watching.source.trouble() is not None)
    assert isinstance(watching.source.get(A), Policy)
    eventually(lambda: len(caplog.records) >= 1)
    shutil.move(away, watching.directory)
    eventually(lambda: watching.source.trouble() is None)
    assert watching.told == [A]
    assert len([record for record in caplog.records if "stay as they were" in record.message]) == 1


def test_fault_39_a_published_secret_that_went(watching: Watching) -> None:
    """Removed or replaced by somebody, it is a reason to look; the first sight of it is none."""
    watching.store.put(document(PUBLISHED, a="x"))
    watching.start()
    eventually(lambda: A in watching.source._versions)
    del watching.store.secrets[PUBLISHED]
    eventually(lambda: watching.told == [A, A])
    watching.store.put(document(PUBLISHED, a="y"))
    eventually(lambda: watching.told == [A, A, A])


def test_a_store_that_is_away(watching: Watching) -> None:
    """What cannot be read is not taken for removed, and no reason to stop watching."""
    watching.store.put(document(PUBLISHED, a="x"))
    watching.start()
    eventually(lambda: A in watching.source._versions)
    watching.store.broken = PolicyError("X", "away", hint="wait")
    watching.write("b.yaml", aws("b"))
    eventually(lambda: B in watching.told)
    watching.store.broken = None
    del watching.store.secrets[PUBLISHED]
    eventually(lambda: watching.told == [A, B, A])


@pytest.mark.parametrize("edit", HAND_EDITS)
def test_fault_38_a_directory_edited_by_hand(tmp_path: Path, edit: Callable[[Path], None]) -> None:
    """Noticed by the next poll, however it was edited; what nobody touched is no news."""
    watching = Watching(tmp_path)
    store = DirectoryStore(tmp_path / "out", StandingClock(), durable=False)
    store.publish(document(PUBLISHED, credentials="x"), None)
    watching.source = ManifestSource([str(watching.directory)], policy_reader(Defaults()), store, POLL)
    watching.write("a.yaml", aws("a"))
    watching.start()
    try:
        edit(store.path(PUBLISHED))
        eventually(lambda: watching.told == [A, A])
    finally:
        watching.source.stop()


def test_a_poll_opens_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing changes, a poll looks at names and times only: thousands of policies cost little."""
    store = DirectoryStore(tmp_path / "out", StandingClock(), durable=False)
    store.publish(document(PUBLISHED, credentials="x"), None)
    states = DirectoryStates(store)
    first = states.states([PUBLISHED, B])

    def refuse(*arguments: object, **options: object) -> int:
        raise AssertionError(arguments, options)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "listdir", refuse)
    assert states.states([PUBLISHED, B]) == first
    assert first[B] is None


def test_nothing_grows(watching: Watching) -> None:
    """Nothing is remembered of policies that are gone."""
    watching.start()
    eventually(lambda: A in watching.source._versions)
    (watching.directory / "a.yaml").unlink()
    eventually(lambda: not watching.source._versions)


def test_standard_input(tmp_path: Path) -> None:
    """It cannot be looked at twice."""
    with pytest.raises(UsageError):
        ManifestSource(["-"], policy_reader(Defaults()), MemoryStore())


def test_no_such_file(tmp_path: Path) -> None:
    """At the start a file that is not there is wrong use."""
    source = ManifestSource([str(tmp_path / "none")], policy_reader(Defaults()), MemoryStore())
    with pytest.raises(UsageError):
        source.start(lambda _: None)
    source.stop()
