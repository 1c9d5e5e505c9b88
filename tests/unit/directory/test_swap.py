"""Readers beside a publisher see one generation, whole, whatever ends the publisher."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from credrotator.files.directory import DATA, LOCK, DirectoryStore
from tests.support.twins import SECRET, StandingClock, document
from tests.unit.directory.generations import assert_whole, generation_names, place, value, version

if TYPE_CHECKING:
    from collections.abc import Iterator


PUBLISHES = 10_000
KILLS = 20


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
