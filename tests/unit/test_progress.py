"""The progress bar is for a person at a terminal who waits, and for nobody else."""

from __future__ import annotations

import contextlib
import io

import pytest

from credrotator.cli.progress import progress


class Terminal(io.StringIO):
    """A standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def run(stderr: io.StringIO, *steps: tuple[int, int]) -> str:
    """Report these steps, and return what stderr then holds."""
    with contextlib.redirect_stderr(stderr), progress() as shown:
        for done, total in steps:
            shown(done, total)
    return stderr.getvalue()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a second have passed."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("credrotator.cli.progress.SHOW_AFTER_S", -1)


def test_patience() -> None:
    """A pass that is over soon shows nothing."""
    assert run(Terminal(), (0, 10), (5, 10), (10, 10)) == ""


@pytest.mark.usefixtures("impatient")
def test_shown() -> None:
    """A longer one shows how many are done, and takes the bar away at the end."""
    text = run(Terminal(), (3, 10), (10, 10))
    assert "rotating" in text
    assert "10/10" in text
    assert text.endswith("\x1b[2K")


@pytest.mark.usefixtures("impatient")
def test_already_done() -> None:
    """No bar appears when all is done already."""
    assert run(Terminal(), (10, 10)) == ""


@pytest.mark.usefixtures("impatient")
def test_no_terminal() -> None:
    """Into a file or a pipe nothing is written, however long it takes."""
    assert run(io.StringIO(), (1, 10)) == ""
