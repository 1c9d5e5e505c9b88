"""Templates render what is published, whole and privately, or say what is missing and leave the old file."""

from __future__ import annotations

import re
import stat
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from credrotator.core.errors import Transient, UsageError
from credrotator.core.sensitive import Sensitive
from credrotator.files.template_values import Content
from credrotator.files.templates import Templates
from tests.support.waiting import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CANARY = "canary-5d41402a"


class Published:
    """What is published now; ``reads`` counts the looks at it."""

    def __init__(self, text: str | None = None) -> None:
        self.data = {"default/aws": {"credentials": Sensitive(text)}} if text else {}
        self.reads = 0

    def __call__(self) -> Content:
        self.reads += 1
        return Content({name: dict(values) for name, values in self.data.items()})


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory of ours."""
    tmp_path.chmod(0o700)
    return tmp_path


def templates(directory: Path, text: str, secrets: Published) -> Templates:
    """Compile one template, ``in`` to ``out``."""
    (directory / "in").write_text(text)
    return Templates((f"{directory / 'in'}:{directory / 'out'}",), secrets)


def failure(rendered: Templates) -> tuple[str, str]:
    """Return message and hint of the only failure."""
    (error,) = rendered.failures.values()
    assert (error.kind, error.reason) == ("policy", "TemplateFailed")
    return error.message, error.hint


class TestRendering:
    """From published Secrets to a file."""

    def test_rendered(self, directory: Path) -> None:
        """The file holds the text with the credentials filled in, byte for byte, and is private."""
        made = templates(directory, 'x: {{ secrets["default/aws"].credentials | tojson }}\n', Published("k\nv"))
        made.render()
        assert (directory / "out").read_bytes() == b'x: "k\\nv"\n'
        assert stat.S_IMODE((directory / "out").stat().st_mode) == 0o600
        assert made.failures == {}

    def test_only_when_changed(self, directory: Path) -> None:
        """A file whose content is right is not touched; one whose content is not is replaced and looks newer."""
        secrets = Published("1")
        made = templates(directory, '{{ secrets["default/aws"].credentials }}', secrets)
        made.render()
        first = (directory / "out").stat()
        made.render()
        assert (directory / "out").stat().st_mtime_ns == first.st_mtime_ns
        secrets.data["default/aws"]["credentials"] = Sensitive("2")
        made.render()
        assert (directory / "out").read_text() == "2"
        assert (directory / "out").stat().st_mtime_ns > first.st_mtime_ns

    def test_missing_secret(self, directory: Path) -> None:
        """A Secret that is not there fails with its name, the line, and what is there; the old file stays."""
        (directory / "out").write_text("old")
        made = templates(directory, 'a\n{{ secrets["default/azure"].azureAccessToken }}', Published("x"))
        made.render()
        message, hint = failure(made)
        assert message == f"{directory / 'in'}:2: there is no Secret default/azure"
        assert "Secrets that are there: default/aws" in hint
        assert '{% if "…" in secrets %}' in hint
        assert (directory / "out").read_text() == "old"

    def test_missing_key(self, directory: Path) -> None:
        """A key that is not there fails likewise, and those that are there are named."""
        made = templates(directory, '{{ secrets["default/aws"].apiKey }}', Published("x"))
        made.render()
        assert "Secret default/aws has no key apiKey; it has credentials" in failure(made)[0]
        assert not (directory / "out").exists()

    def test_test_for_secret(self, directory: Path) -> None:
        """What the hint proposes works, and so does ``default``."""
        text = '{% if "default/azure" in secrets %}y{% else %}n{% endif %}{{ secrets["default/azure"] | default("d") }}'
        made = templates(directory, text, Published("x"))
        made.render()
        assert (directory / "out").read_text() == "nd"

    def test_recovers(self, directory: Path) -> None:
        """Once the missing Secret is there, the failure is forgotten."""
        secrets = Published()
        made = templates(directory, '{{ secrets["default/aws"].credentials }}', secrets)
        made.render()
        assert made.failures
        secrets.data = Published("x").data
        made.render()
        assert made.failures == {}
        assert (directory / "out").read_text() == "x"

    def test_one_bad_template(self, directory: Path) -> None:
        """A template that fails does not stop the others."""
        (directory / "bad").write_text("{{ secrets.nothing.at.all }}")
        (directory / "good").write_text("fine")
        pairs = tuple(f"{directory / name}:{directory / name}.out" for name in ("bad", "good"))
        made = Templates(pairs, Published())
        made.render()
        assert (directory / "good.out").read_text() == "fine"
        assert list(made.failures) == [directory / "bad.out"]

    def test_unreadable_store(self, directory: Path) -> None:
        """A store that cannot be read is a failure of each file, not an exception in the middle of a pass."""

        def secrets() -> Content:
            raise Transient("StorageFailed", "input/output error", hint="see the log")

        (directory / "in").write_text("x")
        made = Templates((f"{directory / 'in'}:{directory / 'out'}",), secrets)
        made.render()
        assert [error.reason for error in made.failures.values()] == ["StorageFailed"]
        assert not (directory / "out").exists()

    def test_unwritable(self, directory: Path) -> None:
        """A file that cannot be written is a failure that says why."""
        made = templates(directory, "x", Published())
        directory.chmod(0o770)
        made.render()
        assert [error.reason for error in made.failures.values()] == ["UnsafePath"]

    @pytest.mark.parametrize("text", [
        "{{ secrets['default/aws'].credentials.nothing }}",
        "{{ secrets['default/aws'][secrets['default/aws'].credentials] }}",
        "{{ [1] | map(secrets['default/aws'].credentials) | list }}",
        "{{ secrets['default/aws'].credentials + 1 }}",
        "{{ secrets['default/aws'].credentials.index('zzz') }}",
        "{% include secrets['default/aws'].credentials %}",
        "{{ 1 / 0 }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    ])  # fmt: skip
    @pytest.mark.parametrize("value", [CANARY, f"{CANARY}\nsecond line\n"])
    def test_no_secret_in_errors(self, directory: Path, text: str, value: str) -> None:
        """I9: whatever goes wrong while rendering is a failure whose message and hint show no value."""
        made = templates(directory, text, Published(value))
        made.render()
        assert CANARY not in " ".join(failure(made))


class TestSandbox:
    """A template is text with holes, not a program."""

    @pytest.mark.parametrize("text", [
        "{{ ''.__class__.__mro__ }}",
        "{{ secrets.__class__.__init__.__globals__ }}",
        "{{ secrets.clear() }}",
        "{{ secrets.update({}) }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ self.__init__.__globals__ }}",
        "{{ '{0.__class__}'.format(secrets) }}",
        "{% for i in range(10000000) %}x{% endfor %}",
    ])  # fmt: skip
    def test_no_way_out(self, directory: Path, text: str) -> None:
        """Neither attributes that lead into the interpreter nor changes of what is rendered are to be had."""
        secrets = Published("x")
        made = templates(directory, text, secrets)
        made.render()
        failure(made)
        assert not (directory / "out").exists()


class TestUsage:
    """What is wrong with the option itself is said before anything is rotated for it."""

    @pytest.mark.parametrize("pair", ["x", ":x", "x:", ":", ""])
    def test_not_a_pair(self, pair: str) -> None:
        """SRC:DST are two names."""
        with pytest.raises(UsageError, match="expected SRC:DST"):
            Templates((pair,), Published())

    def test_no_source(self, directory: Path) -> None:
        """A source that is not there is named."""
        with pytest.raises(UsageError, match=r"cannot read template .*missing: No such file"):
            Templates((f"{directory}/missing:{directory}/out",), Published())

    def test_no_directory(self, directory: Path) -> None:
        """A destination in a directory that is not there, or that is one, is named."""
        (directory / "in").write_text("x")
        with pytest.raises(UsageError, match="there is no directory"):
            Templates((f"{directory}/in:{directory}/missing/out",), Published())
        with pytest.raises(UsageError, match="is a directory"):
            Templates((f"{directory}/in:{directory}",), Published())

    def test_syntax(self, directory: Path) -> None:
        """A syntax error is named with file and line."""
        (directory / "in").write_text("fine\n{% if %}")
        with pytest.raises(UsageError, match=re.escape(f"{directory}/in:2: ")):
            Templates((f"{directory}/in:{directory}/out",), Published())

    def test_twice(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two templates of one file are refused, however the file is written."""
        monkeypatch.chdir(directory)
        (directory / "in").write_text("x")
        with pytest.raises(UsageError, match="named twice"):
            Templates((f"in:{directory}/out", "in:out"), Published())


class TestThreads:
    """Many workers ask for a rendering at once."""

    def test_the_last_state_is_rendered(self, directory: Path) -> None:
        """Requests coalesce, and after the last one returned, or soon after, the last state is in the file."""
        secrets = Published("0")
        made = templates(directory, '{{ secrets["default/aws"].credentials }}', secrets)
        lock = threading.Lock()

        def work(number: int) -> None:
            for turn in range(25):
                with lock:
                    secrets.data["default/aws"]["credentials"] = Sensitive(f"{number}-{turn}")
                made.render()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (directory / "out").read_text() == secrets.data["default/aws"]["credentials"].reveal()
        assert secrets.reads <= 8 * 25

    def test_asked_while_rendering(self, directory: Path) -> None:
        """Ten requests while one rendering is under way return at once and are answered by one more rendering."""
        entered, go_on = threading.Event(), threading.Event()

        class Slow(Published):
            def __call__(self) -> Content:
                found = super().__call__()
                if self.reads == 1:
                    entered.set()
                    assert go_on.wait(LIMIT_S)
                return found

        secrets = Slow("old")
        made = templates(directory, '{{ secrets["default/aws"].credentials }}', secrets)
        first = threading.Thread(target=made.render)
        first.start()
        assert entered.wait(LIMIT_S)
        secrets.data["default/aws"]["credentials"] = Sensitive("new")
        for _ in range(10):
            made.render()
        go_on.set()
        first.join()
        assert secrets.reads == 2
        assert (directory / "out").read_text() == "new"

    def test_exclusive(self, directory: Path) -> None:
        """Secrets are read and files written under the lock that other processes respect."""
        events: list[str] = []

        @contextmanager
        def exclusive() -> Iterator[None]:
            events.append("locked")
            yield
            events.append("written" if (directory / "out").exists() else "nothing written")

        def secrets() -> Content:
            events.append("read")
            return Content({})

        (directory / "in").write_text("x")
        Templates((f"{directory}/in:{directory}/out",), secrets, exclusive).render()
        assert events == ["locked", "read", "written"]
