"""Events and conditions are written in order, after the credentials, and cost nobody anything."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from credrotator.kube.deferred import DeferredWrites
from tests.support.waiting import eventually

if TYPE_CHECKING:
    import pytest


def nothing_waits() -> int:
    """Count the credentials that wait for a worker."""
    return 0


def test_in_order_and_to_the_end() -> None:
    """First come, first written; what waits at the end is still written."""
    done: list[int] = []
    paperwork = DeferredWrites(lambda: True, nothing_waits)
    for number in range(100):
        paperwork.defer(lambda number=number: done.append(number))  # type: ignore[misc]
    assert done == []
    paperwork.start()
    paperwork.stop(5)
    assert done == list(range(100))


def test_the_end_does_not_wait_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    """A server that does not answer holds the end up for no longer than is granted; how much was lost is said."""
    caplog.set_level(logging.INFO)
    answered = threading.Event()
    paperwork = DeferredWrites(lambda: True, nothing_waits)
    paperwork.start()
    for _ in range(3):
        paperwork.defer(answered.wait)  # type: ignore[arg-type]
    paperwork.stop(0.2)
    assert paperwork._thread.is_alive(), "it waited for the answer"
    assert "2 Events and conditions were not written any more" in caplog.text
    answered.set()


def test_after_the_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """While credentials wait for a worker, words wait, but not for ever."""
    done: list[int] = []
    busy = True
    paperwork = DeferredWrites(lambda: True, lambda: busy)
    paperwork.start()
    paperwork.defer(lambda: done.append(1))
    time.sleep(0.2)
    assert done == []
    busy = False
    eventually(lambda: done == [1])
    busy = True
    monkeypatch.setattr("credrotator.kube.deferred.LONGEST_DEFERRAL_S", 0.1)
    paperwork.defer(lambda: done.append(2))
    eventually(lambda: done == [1, 2])
    monkeypatch.setattr("credrotator.kube.deferred.LONGEST_DEFERRAL_S", 60.0)
    paperwork.defer(lambda: done.append(3))
    paperwork.stop(5)
    assert done == [1, 2, 3]


def test_a_former_leader_is_silent() -> None:
    """Who does not lead writes nothing, though it was to be written when he did."""
    done: list[str] = []
    leads = True
    paperwork = DeferredWrites(lambda: leads, nothing_waits)
    paperwork.defer(lambda: done.append("word"))
    leads = False
    paperwork.start()
    paperwork.stop(5)
    assert done == []


def test_too_much_is_done_by_who_asks() -> None:
    """Memory stays bounded, and nothing is lost."""
    done: list[int] = []
    paperwork = DeferredWrites(lambda: True, nothing_waits, most=2)
    for number in range(4):
        paperwork.defer(lambda number=number: done.append(number))  # type: ignore[misc]
    assert done == [2, 3]
    paperwork.start()
    paperwork.stop(5)
    assert sorted(done) == [0, 1, 2, 3]
    paperwork.defer(lambda: done.append(4))
    assert done[-1] == 4


def test_a_defect_costs_one_word(caplog: pytest.LogCaptureFixture) -> None:
    """The next one is written all the same."""
    done: list[str] = []
    paperwork = DeferredWrites(lambda: True, nothing_waits)
    paperwork.start()
    paperwork.defer(lambda: 1 // 0)  # type: ignore[arg-type]
    paperwork.defer(lambda: done.append("word"))
    paperwork.stop(5)
    assert done == ["word"]
    assert "ZeroDivisionError" in caplog.text
