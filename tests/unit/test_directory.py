"""The Secret stores keep the port's promises, and the one on disk those of the kubelet's volumes."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from credrotator.core.errors import Denied, PolicyError, RotationError, StoreClosed, Transient
from credrotator.core.model import ObjectKey
from credrotator.core.secret_document import SecretDocument
from credrotator.core.sensitive import Sensitive
from credrotator.files.atomic import locked, open_directory
from credrotator.files.directory import ANNOTATIONS, DATA, LOCK, OUTCOMES, DirectoryStore
from tests.support.store_compliance import SecretStoreCompliance
from tests.support.twins import KEY, SECRET, MemoryStore, StandingClock, document

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credrotator.core.ports import SecretStore

PUBLISHES = 10_000
KILLS = 20


class TestMemoryStore(SecretStoreCompliance):
    """The twin keeps the promises, so that what is shown with it holds for the real one."""

    @pytest.fixture
    def store(self) -> SecretStore:
        return MemoryStore()


class TestDirectoryStore(SecretStoreCompliance):
    """The real one."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> SecretStore:
        return DirectoryStore(tmp_path / "out", StandingClock())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a directory for Secrets that is not there yet."""
    return tmp_path / "out"


@pytest.fixture
def store(root: Path) -> DirectoryStore:
    """Return a store on it."""
    return DirectoryStore(root, StandingClock())


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


class TestLayout:
    """The layout of the kubelet's Secret volumes, with the annotations beside the data."""

    def test_as_the_kubelet_lays_it_out(self, store: DirectoryStore, root: Path) -> None:
        """Key → ..data/key, ..data → one generation named after the time, values in it (atomic_writer.go)."""
        store.publish(document(annotations=[("n", "v")], credentials="x", other="y"), None)
        secret = place(root)
        generation = (secret / DATA).readlink()
        assert re.fullmatch(r"\.\.2026_11_24_12_00_00\.[0-9a-f]+", str(generation))
        assert {name.name for name in secret.iterdir()} == {DATA, LOCK, str(generation), "credentials", "other"}
        assert (secret / "credentials").readlink() == Path("..data/credentials")
        assert {name.name for name in (secret / DATA).iterdir()} == {ANNOTATIONS, "credentials", "other"}
        assert (secret / "credentials").read_bytes() == b"x"

    @pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
    def test_modes(self, store: DirectoryStore, root: Path, umask: int) -> None:
        """Files are 0600 in directories 0700, whatever the umask is and whatever is written first."""
        before = os.umask(umask)
        try:
            store.record({"action": "skipped"}, KEY)
            store.publish(document(credentials="x"), None)
            store.publish(document(credentials="y"), version(store))
        finally:
            os.umask(before)
        for path in [root, *root.rglob("*")]:
            if not path.is_symlink():
                assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path

    def test_previous_generation_stays(self, store: DirectoryStore, root: Path) -> None:
        """The generation before stays for readers on their way; older ones go when readers have had their time."""
        generations: list[str] = []
        for number in range(4):
            store.publish(document(a=str(number)), version(store))
            generations.append(str(version(store)))
            os.utime(place(root) / generations[-1], (60 * number, 60 * number))
        assert generation_names(root) == set(generations[2:])

    def test_quick_succession(self, store: DirectoryStore, root: Path) -> None:
        """However quickly publications follow each other, a reader held up in an old generation still finds it."""
        for number in range(4):
            store.publish(document(a=str(number)), version(store))
        assert len(generation_names(root)) == 4

    def test_changed_type(self, store: DirectoryStore, root: Path) -> None:
        """The link of a key that is no more goes; what a person keeps in the directory stays."""
        store.publish(document(credentials="x"), None)
        (place(root) / "notes.txt").write_text("mine")
        (place(root) / "elsewhere").symlink_to("/etc/hostname")
        store.publish(document(azureAccessToken="y"), version(store))
        names = {path.name for path in place(root).iterdir() if not path.name.startswith("..")}
        assert names == {"azureAccessToken", "notes.txt", "elsewhere"}

    @pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../../etc", "/etc", ".hidden", "nul\0", "x" * 256])
    def test_names_lead_nowhere_else(self, store: DirectoryStore, root: Path, name: str) -> None:
        """A manifest's namespace or name never leads out of the directory."""
        for key in (ObjectKey(name, "x"), ObjectKey("x", name)):
            with pytest.raises(PolicyError, match="cannot be the name of a file"):
                store.publish(document(key, a="x"), None)
            with pytest.raises(PolicyError):
                store.read(key)
            store.record({"action": "failed"}, key)
            assert store.last_outcome(key) is None
        with pytest.raises(PolicyError):
            store.publish(SecretDocument(SECRET, {name: Sensitive("x")}, {}), None)


@pytest.fixture
def fast_root(tmp_path: Path) -> Iterator[Path]:
    """Return a directory for many publications, in memory where that can be had."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path / "out"
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="credrotator-test-") as directory:
        yield Path(directory) / "out"


@pytest.fixture
def fast_store(fast_root: Path) -> DirectoryStore:
    """Return a store there. On a disk it does not wait for the platter, which readers cannot tell."""
    return DirectoryStore(fast_root, StandingClock(), durable=fast_root.is_relative_to("/dev/shm"))


POLLING_READER = """
import os, select, sys
secret, polls, bad, seen = sys.argv[1], 0, [], [0]
def whole(text):
    number, body, again = text.rstrip("\\n").split(":")
    assert number == again and len(body) == int(number) * 37 % 5000 and text.endswith("\\n"), "torn"
    return int(number)
def pair():
    data = os.open(os.path.join(secret, "..data"), os.O_RDONLY | os.O_DIRECTORY)
    try:
        return [open(os.open(key, os.O_RDONLY, dir_fd=data)).read() for key in ("a", "b")]
    except FileNotFoundError:
        return None  # two publications passed since the first line; who needs two keys looks again
    finally:
        os.close(data)
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    polls += 1
    try:
        with open(os.path.join(secret, "a")) as file:
            seen.append(whole(file.read()))
        assert seen[-1] >= seen[-2], "an older one again"
        both = pair()
        assert not both or (whole(both[0]) and both[0] == both[1]), "two generations mixed"
    except Exception as error:
        bad.append(repr(error))
with open(os.path.join(secret, "a")) as file:  # the last poll may have come before the last publication
    seen.append(whole(file.read()))
print(polls, len(bad), len(set(seen)), seen[-1], bad[:3])
"""

PUBLISHER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from credrotator.files.directory import DirectoryStore
from credrotator.core.errors import Conflict
from credrotator.core.model import ObjectKey
from credrotator.core.sensitive import Sensitive
from credrotator.core.secret_document import SecretDocument
root, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
store, key = DirectoryStore(root, lambda: datetime.now(UTC)), ObjectKey("default", "ai-eg-bsp-bedrock")
done = number = 0
print("ready", flush=True)
while done < count:
    number += 1
    stored = store.read(key)
    text = f"{name}-{number}:" + "x" * (number * 37 % 5000) + f":{name}-{number}"
    data = {"a": Sensitive(text), "b": Sensitive(text)}
    try:
        store.publish(SecretDocument(key, data, {"n": f"{name}-{number}"}), stored.version if stored else None)
        done += 1
    except Conflict:
        pass
"""

STOPPING_PUBLISHER = """
import os, sys
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from credrotator.files.directory import DirectoryStore
from credrotator.core.model import ObjectKey
from credrotator.core.sensitive import Sensitive
from credrotator.core.secret_document import SecretDocument
key = ObjectKey("default", "ai-eg-bsp-bedrock")
def publish_twice(root, steps_left):
    def hook(event, arguments):
        nonlocal steps_left
        steps_left -= event == "open" or event.startswith("os.")
        if steps_left == 0:
            os._exit(9)
    sys.addaudithook(hook)
    store = DirectoryStore(root, lambda: datetime.now(UTC))
    for number in range(2):
        stored = store.read(key)
        data = {name: Sensitive(f"{number}::{number}") for name in ("a", "b")}
        store.publish(SecretDocument(key, data, {"n": str(number)}), stored.version if stored else None)
    os._exit(0)
for step in count(1):
    child = os.fork()
    if not child:
        publish_twice(Path(sys.argv[1]) / str(step), step)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        break
print(step)
"""


@contextlib.contextmanager
def running(program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program in another process, which has said that it is ready."""
    command = [sys.executable, "-c", program, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


class TestAtomicSwap:
    """No reader ever sees a torn, missing or mixed value; no writer is lost."""

    @pytest.mark.slow
    @pytest.mark.timeout(300)
    def test_polling_reader(self, fast_store: DirectoryStore, fast_root: Path) -> None:
        """A process that polls through the links during 10 000 publications sees whole values of one generation."""
        self._publish(fast_store, 1, None)
        with running(POLLING_READER, str(place(fast_root))) as reader:
            for number in range(2, PUBLISHES + 1):
                self._publish(fast_store, number, (place(fast_root) / DATA).readlink())
            output, _ = reader.communicate("end\n")
        polls, bad, distinct, last, *details = output.split(maxsplit=4)
        assert bad == "0", details
        assert int(last) == PUBLISHES
        assert int(polls) > PUBLISHES / 10
        assert int(distinct) > PUBLISHES / 100

    @staticmethod
    def _publish(store: DirectoryStore, number: int, expected: Path | None) -> None:
        # Each value has another length than the one before, so that a cut or a mixture shows.
        text = f"{number}:" + "x" * (number * 37 % 5000) + f":{number}\n"
        store.publish(document(a=text, b=text), str(expected) if expected else None)

    def test_two_processes(self, root: Path, store: DirectoryStore) -> None:
        """Two processes that publish one Secret at once both get through, and leave a whole Secret."""
        with running(PUBLISHER, str(root), "one", "60") as one, running(PUBLISHER, str(root), "two", "60") as two:
            assert [one.wait(60), two.wait(60)] == [0, 0]
        assert_whole(store, root)

    @pytest.mark.timeout(300)
    def test_killed_at_any_point(self, root: Path, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """A process that is killed at any point leaves a whole credential; its leftovers harm nobody and go."""
        store.publish(document(a="0::0", b="0::0"), None)
        for number in range(KILLS):
            with running(PUBLISHER, str(root), str(number), "1000000") as process:
                # Spread over a publication's length, which is a few milliseconds.
                threading.Event().wait(0.003 + number * 0.00175)
                process.send_signal(signal.SIGKILL)
            assert_whole(store, root)
        for path in place(root).iterdir():
            os.utime(path, (0, 0), follow_symlinks=False)
        # Of the two that follow, the second comes soon after the first on any machine.
        monkeypatch.setattr("credrotator.files.directory._READER_S", 60.0)
        store.publish(document(c="last"), version(store))
        store.publish(document(c="very last"), version(store))
        assert len(generation_names(root)) == 3
        assert {path.name for path in place(root).iterdir()} == generation_names(root) | {DATA, LOCK, "c"}

    def test_stopped_after_each_step(self, tmp_path: Path) -> None:
        """Whatever step was the last one: the Secret is absent, or it is whole and readers can open its keys."""
        command = [sys.executable, "-c", STOPPING_PUBLISHER, str(tmp_path)]
        steps = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        outcomes = []
        for step in range(1, steps + 1):
            root = tmp_path / str(step)
            store = DirectoryStore(root, StandingClock())
            outcomes.append(value(store))
            if outcomes[-1] is not None:
                assert_whole(store, root)
        assert steps > 20
        assert list(dict.fromkeys(outcomes)) == [None, "0::0", "1::1"]

    def test_reading_while_generations_go(self, fast_store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """The store's own reading starts anew when its generation goes away under its hands; it never reads half."""
        monkeypatch.setattr("credrotator.files.directory._READER_S", -1)
        fast_store.publish(document(a="0", b="0"), None)
        ended, read, threads = threading.Event(), [], []

        def poll() -> None:
            while not ended.is_set():
                stored = fast_store.read(SECRET)
                read.append({text.reveal() for text in stored.document.data.values()} if stored else set())

        for _ in range(2):
            threads.append(threading.Thread(target=poll))
            threads[-1].start()
        for number in range(1, 600):
            fast_store.publish(document(a=str(number), b=str(number)), version(fast_store))
        ended.set()
        for thread in threads:
            thread.join()
        assert {len(values) for values in read} == {1}

    def test_half_made_secret(self, store: DirectoryStore, root: Path) -> None:
        """A directory without ..data, with a generation that nobody links, is an absent Secret; leftovers go."""
        place(root).mkdir(parents=True)
        for directory in (root, root / "default", place(root)):
            directory.chmod(0o700)
        leftover = place(root) / "..2020_01_01_00_00_00.123"
        leftover.mkdir()
        (leftover / "a").write_text("torn")
        (place(root) / "..abc.tmp").symlink_to("..nowhere")
        os.utime(leftover, (0, 0))
        os.utime(place(root) / "..abc.tmp", (60, 60), follow_symlinks=False)
        assert store.read(SECRET) is None
        store.publish(document(a="x"), None)
        assert value(store) == "x"
        assert not leftover.exists()

    def test_generation_gone(self, store: DirectoryStore, root: Path) -> None:
        """A ..data whose generation somebody removed reads as an empty Secret, which a publication repairs."""
        store.publish(document(a="x"), None)
        shutil.rmtree(place(root) / str(version(store)))
        stored = store.read(SECRET)
        assert stored is not None
        assert stored.document.data == {}
        store.publish(document(a="y"), stored.version)
        assert (place(root) / "a").read_text() == "y"

    @pytest.mark.parametrize("planted", ["nothing", "file", "link"])
    def test_key_not_linked(self, store: DirectoryStore, root: Path, tmp_path: Path, planted: str) -> None:
        """A key that readers do not find, or find elsewhere, counts as missing, and a publication repairs it."""
        store.publish(document(a="x"), None)
        key, foreign = place(root) / "a", tmp_path / "foreign"
        key.unlink()
        foreign.write_text("theirs")
        if planted == "file":
            key.write_text("old")
        elif planted == "link":
            key.symlink_to(foreign)
        stored = store.read(SECRET)
        assert stored is not None
        assert stored.document.data == {}
        store.publish(document(a="y"), stored.version)
        assert key.read_text() == "y"
        assert foreign.read_text() == "theirs"


class TestRefusals:
    """Fault 36: whatever stands in the way, the old value stays and the error says what to do."""

    @pytest.fixture(autouse=True)
    def _published(self, store: DirectoryStore) -> None:
        store.publish(document(a="old"), None)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
    def test_disk_full(self, tmp_path: Path) -> None:
        """A full disk is transient; what was there stays, and nothing of the attempt is left to fill it further."""
        with small_disk(tmp_path / "disk") as disk:
            store = DirectoryStore(disk / "out", StandingClock())
            store.publish(document(a="old"), None)
            before = {path.name for path in place(disk / "out").iterdir()}
            error = refused(store, "n" * 2_000_000)
            assert (error.kind, error.reason) == ("transient", "DiskFull")
            assert "No space left on device" in error.message
            assert {path.name for path in place(disk / "out").iterdir()} == before
            assert (place(disk / "out") / "a").read_text() == "old"
            store.publish(document(a="new"), version(store))

    def test_no_more_bytes(self, store: DirectoryStore, root: Path) -> None:
        """The same without root: the system stops the write in the middle of a file."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # Python ignores SIGXFSZ
        try:
            error = refused(store, "n" * 10_000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert (error.kind, error.reason) == ("transient", "DiskFull")
        assert_old(store, root)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
    def test_read_only(self, tmp_path: Path) -> None:
        """A read-only file system is denied, named as such, and still read."""
        with small_disk(tmp_path / "disk") as disk:
            store = DirectoryStore(disk / "out", StandingClock())
            store.publish(document(a="old"), None)
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            error = refused(store)
            assert (error.kind, error.reason) == ("denied", "NotWritable")
            assert "Read-only file system" in error.message
            assert_old(store, disk / "out")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_not_writable(self, store: DirectoryStore, root: Path) -> None:
        """A directory without write permission is denied and named."""
        place(root).chmod(0o500)
        error = refused(store)
        assert (error.kind, error.reason) == ("denied", "NotWritable")
        assert str(place(root)) in error.message
        assert_old(store, root)

    @pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
    def test_not_readable(self, store: DirectoryStore, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """What may not be read is called so: advice about writing would lead astray."""

        def refuse(*_arguments: object, **_options: object) -> int:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(StoreClosed) as caught:
            store.read(SECRET)
        assert (caught.value.kind, caught.value.reason) == ("denied", "NotReadable")
        assert "write" not in caught.value.hint

    def test_too_many_open_files(self, store: DirectoryStore, root: Path) -> None:
        """Running out of file descriptors is not called a full disk."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            with pytest.raises(Transient) as caught:
                store.publish(document(a="new"), "whichever")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert caught.value.reason == "TooManyFiles"
        assert_old(store, root)

    @pytest.mark.parametrize("where", ["default", f"default/{SECRET.name}"])
    def test_planted_directory_link(self, store: DirectoryStore, root: Path, tmp_path: Path, where: str) -> None:
        """A symlink in the place of the namespace's or the Secret's directory is not followed, to read or to write."""
        planted, moved = root / where, tmp_path / "moved"
        planted.rename(moved)
        planted.symlink_to(moved)
        for error in refused_both_ways(store):
            assert error.reason == "UnsafePath"
            assert str(place(root)) in error.message
        assert next(moved.rglob("a")).read_text() == "old"

    @pytest.mark.parametrize("target", ["/etc", "..", "../other/..data", "..data", "a", "/"])
    def test_planted_data_link(self, store: DirectoryStore, root: Path, target: str) -> None:
        """A ..data that leads anywhere but to a generation beside it is refused, to read and to write."""
        (place(root) / DATA).unlink()
        (place(root) / DATA).symlink_to(target)
        for error in refused_both_ways(store):
            assert error.reason == "UnsafePath"
            assert "not a link to a generation beside it" in error.message
        assert (place(root) / DATA).readlink() == Path(target)

    @pytest.mark.parametrize("what", ["file", "directory"])
    def test_data_is_no_link(self, store: DirectoryStore, root: Path, what: str) -> None:
        """A ..data that a copying program made a file or a directory is refused with a clear word."""
        data = place(root) / DATA
        data.unlink()
        data.write_text("x") if what == "file" else data.mkdir()
        with pytest.raises(Denied, match="not a link to a generation"):
            store.read(SECRET)

    @pytest.mark.parametrize("what", ["link", "directory"])
    def test_planted_lock(self, store: DirectoryStore, root: Path, tmp_path: Path, what: str) -> None:
        """A lock file that is a symlink is not followed, and never created elsewhere."""
        lock = place(root) / LOCK
        lock.unlink()
        lock.symlink_to(tmp_path / "elsewhere") if what == "link" else lock.mkdir()
        assert refused(store).reason == "UnsafePath"
        assert not (tmp_path / "elsewhere").exists()
        assert_old(store, root)

    def test_planted_value(self, store: DirectoryStore, root: Path, tmp_path: Path) -> None:
        """A symlink or a pipe in the place of a value is not opened, and a reader does not hang on it."""
        planted = place(root) / DATA / "a"
        planted.unlink()
        planted.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(Denied):
            store.read(SECRET)
        planted.unlink()
        os.mkfifo(planted)
        with pytest.raises(Denied, match="not a regular file"):
            store.read(SECRET)

    @pytest.mark.parametrize("where", ["", "default", f"default/{SECRET.name}"])
    @pytest.mark.parametrize("mode", [0o770, 0o707])
    def test_writable_by_others(self, store: DirectoryStore, root: Path, where: str, mode: int) -> None:
        """A directory into which others may write is refused with its whole path and the command that helps."""
        (root / where).chmod(mode)
        error = refused(store)
        assert (error.kind, error.reason) == ("denied", "UnsafePath")
        assert f"{root / where} can be written to by others (mode {mode:04o})" in error.message
        assert f"chmod go-w {root / where}" in error.hint
        (root / where).chmod(0o700)
        assert_old(store, root)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    @pytest.mark.parametrize("where", ["", "default", f"default/{SECRET.name}"])
    def test_foreign_owner(self, store: DirectoryStore, root: Path, where: str) -> None:
        """A directory of somebody else's is refused, by name and user id."""
        os.chown(root / where, 12345, -1)
        error = refused(store)
        assert (error.kind, error.reason) == ("denied", "UnsafePath")
        assert f"{root / where} belongs to user 12345" in error.message
        os.chown(root / where, os.geteuid(), -1)
        assert_old(store, root)

    @pytest.mark.parametrize("what", ["file", "nothing"])
    def test_root_is_no_directory(self, tmp_path: Path, what: str) -> None:
        """A file in the place of the directory is refused; a missing directory is made, with its parents."""
        root = tmp_path / "deep" / "down"
        store = DirectoryStore(root, StandingClock())
        if what == "nothing":
            store.publish(document(a="x"), None)
            assert value(store) == "x"
            return
        root.parent.mkdir()
        root.write_text("x")
        with pytest.raises(Denied) as caught:
            store.publish(document(a="x"), None)
        assert caught.value.reason == "UnsafePath"

    def test_lock_held(self, store: DirectoryStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A lock that another process never gives back ends in an error, not in a hang."""
        monkeypatch.setattr("credrotator.files.atomic._LOCK_TIMEOUT_S", 0.05)
        with open_directory(place(root)) as secret, locked(secret, LOCK, "x"):
            error = refused(store)
        assert (error.kind, error.reason) == ("transient", "StorageBusy")
        assert_old(store, root)


class TestDamage:
    """What was damaged on the disk is read as far as it goes, so that planning can repair it."""

    @pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"a": 1}', "\xff"])
    def test_annotations(self, store: DirectoryStore, root: Path, text: str) -> None:
        """Damaged annotations never raise."""
        store.publish(document(annotations=[("n", "v")], a="x"), None)
        (place(root) / DATA / ANNOTATIONS).write_bytes(text.encode("latin-1"))
        stored = store.read(SECRET)
        assert stored is not None
        assert all(isinstance(text, str) for text in stored.document.annotations.values())

    def test_value_not_text(self, store: DirectoryStore, root: Path) -> None:
        """A value that is no text any more is read as another one, which its hash then tells."""
        store.publish(document(a="x"), None)
        (place(root) / DATA / "a").write_bytes(b"\xff\xfe")
        assert value(store) == "\ufffd\ufffd"


class TestOutcomes:
    """How the last pass ended is kept beside the Secrets, for ``status``."""

    def test_round_trip(self, store: DirectoryStore) -> None:
        """The outcome is read back with the time at which it was recorded."""
        store.record({"action": "failed", "error": {"reason": "X"}}, KEY)
        assert store.last_outcome(KEY) == {"at": "2026-11-24T12:00:00Z", "action": "failed", "error": {"reason": "X"}}

    def test_none(self, store: DirectoryStore, root: Path) -> None:
        """Nothing recorded, or a damaged record, is None."""
        assert store.last_outcome(KEY) is None
        store.record({"action": "kept"}, KEY)
        (root / OUTCOMES / KEY.namespace / f"{KEY.name}.json").write_text("{")
        assert store.last_outcome(KEY) is None

    def test_cannot_be_kept(self, store: DirectoryStore, root: Path, tmp_path: Path) -> None:
        """Not to be able to record is no failure of the pass; and a planted symlink is not written through."""
        root.mkdir(mode=0o700)
        (root / OUTCOMES).symlink_to(tmp_path)
        store.record({"action": "kept"}, KEY)
        assert not (tmp_path / KEY.namespace).exists()
        assert store.last_outcome(KEY) is None


def refused(store: DirectoryStore, text: str = "new") -> RotationError:
    """Publish in vain, as somebody who knows the version."""
    current = next((path.readlink() for path in store_root(store).glob(f"*/*/{DATA}") if path.is_symlink()), None)
    with pytest.raises(RotationError) as caught:
        store.publish(document(a=text), str(current))
    assert caught.value.hint
    return caught.value


def refused_both_ways(store: DirectoryStore) -> list[RotationError]:
    """Publish and read in vain."""
    with pytest.raises(Denied) as writing:
        store.publish(document(a="new"), None)
    with pytest.raises(Denied) as reading:
        store.read(SECRET)
    return [writing.value, reading.value]


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


@contextlib.contextmanager
def small_disk(where: Path) -> Iterator[Path]:
    """Mount a file system of 1 MiB, if this machine lets us."""
    where.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(where)]
    if not shutil.which("mount") or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", str(where)], check=True)
