"""Events and conditions are written in order, after the credentials, and cost nobody anything."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from credrotator.kube.deferred import MOST, DeferredWrites
from tests.support.waiting import eventually

if TYPE_CHECKING:
    import pytest


class Credentials:
    """Credentials that come first, as a test says."""

    def __init__(self) -> None:
        self.waiting = 0
        self.namespaces: set[str] = set()

    def backlog(self) -> int:
        """Count those that wait for a worker."""
        return self.waiting

    def moving(self) -> set[str]:
        """Return where one follows the other."""
        return self.namespaces


def deferred_writes(most: int = MOST) -> DeferredWrites:
    """Of a leader, with no credentials that come first."""
    return DeferredWrites(lambda: True, Credentials(), most=most)


def test_in_order_and_to_the_end() -> None:
    """First come, first written; what waits at the end is still written."""
    done: list[int] = []
    paperwork = deferred_writes()
    for number in range(100):
        paperwork.defer("a", lambda number=number: done.append(number))  # type: ignore[misc]
    assert done == []
    paperwork.start()
    paperwork.stop(5)
    assert done == list(range(100))


def test_the_end_does_not_wait_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    """A server that does not answer holds the end up for no longer than is granted; how much was lost is said."""
    caplog.set_level(logging.INFO)
    answered = threading.Event()
    paperwork = deferred_writes()
    paperwork.start()
    for _ in range(3):
        paperwork.defer("a", answered.wait)  # type: ignore[arg-type]
    paperwork.stop(0.2)
    assert paperwork._thread.is_alive(), "it waited for the answer"
    assert "2 Events and conditions were not written any more" in caplog.text
    answered.set()


def test_after_the_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """While credentials wait for a worker, words wait, but not for ever."""
    done: list[int] = []
    credentials = Credentials()
    credentials.waiting = 1
    paperwork = DeferredWrites(lambda: True, credentials)
    paperwork.start()
    paperwork.defer("a", lambda: done.append(1))
    time.sleep(0.2)
    assert done == []
    credentials.waiting = 0
    eventually(lambda: done == [1])
    credentials.waiting = 1
    monkeypatch.setattr("credrotator.kube.deferred.LONGEST_DEFERRAL_S", 0.1)
    paperwork.defer("a", lambda: done.append(2))
    eventually(lambda: done == [1, 2])
    monkeypatch.setattr("credrotator.kube.deferred.LONGEST_DEFERRAL_S", 60.0)
    paperwork.defer("a", lambda: done.append(3))
    paperwork.stop(5)
    assert done == [1, 2, 3]


def test_invariant_05_a_namespace_waits_for_its_own_credentials() -> None:
    """One that rotates without end keeps nobody else's words, nor what is nobody's, and its own in their order."""
    done: list[str] = []
    credentials = Credentials()
    credentials.namespaces = {"noisy"}
    paperwork = DeferredWrites(lambda: True, credentials)
    for word in ("noisy 1", "noisy 2", "quiet 1", "quiet 2"):
        paperwork.defer(word.partition(" ")[0], lambda word=word: done.append(word))  # type: ignore[misc]
    paperwork.defer("", lambda: done.append("all"))
    paperwork.start()
    eventually(lambda: done == ["quiet 1", "all", "quiet 2"])
    credentials.namespaces = set()
    eventually(lambda: done[3:] == ["noisy 1", "noisy 2"])
    paperwork.stop(5)


def test_invariant_13_namespaces_take_turns() -> None:
    """A thousand words of one do not stand before one of another."""
    done: list[str] = []
    paperwork = deferred_writes()
    for number in range(1000):
        paperwork.defer("noisy", lambda number=number: done.append(f"noisy {number}"))  # type: ignore[misc]
    paperwork.defer("quiet", lambda: done.append("quiet"))
    paperwork.start()
    paperwork.stop(5)
    assert done.index("quiet") == 1
    assert len(done) == 1001


def test_a_former_leader_is_silent() -> None:
    """Who does not lead writes nothing, though it was to be written when he did."""
    done: list[str] = []
    leads = True
    paperwork = DeferredWrites(lambda: leads, Credentials())
    paperwork.defer("a", lambda: done.append("word"))
    leads = False
    paperwork.start()
    paperwork.stop(5)
    assert done == []


def test_too_much_is_done_by_who_asks() -> None:
    """Memory stays bounded, and nothing is lost."""
    done: list[int] = []
    paperwork = deferred_writes(most=2)
    for number in range(4):
        paperwork.defer("a", lambda number=number: done.append(number))  # type: ignore[misc]
    assert done == [2, 3]
    paperwork.start()
    paperwork.stop(5)
    assert sorted(done) == [0, 1, 2, 3]
    paperwork.defer("a", lambda: done.append(4))
    assert done[-1] == 4


def test_a_defect_costs_one_word(caplog: pytest.LogCaptureFixture) -> None:
    """The next one is written all the same."""
    done: list[str] = []
    paperwork = deferred_writes()
    paperwork.start()
    paperwork.defer("a", lambda: 1 // 0)  # type: ignore[arg-type]
    paperwork.defer("a", lambda: done.append("word"))
    paperwork.stop(5)
    assert done == ["word"]
    assert "ZeroDivisionError" in caplog.text
