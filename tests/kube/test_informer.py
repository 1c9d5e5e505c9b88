"""The live copy: what it knows, what it reports, and that nothing makes it give up or run wild."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from credrotator.core.model import ObjectKey
from credrotator.kube import paths
from credrotator.kube.client import api as api_module
from credrotator.kube.client import informer as module
from credrotator.kube.client import listing
from credrotator.kube.client.informer import Informer, Selection, WatchTiming
from credrotator.kube.client.reconnect import RetryWait
from tests.support.waiting import LIMIT_S, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from credrotator.kube.client.api import KubeApi
    from tests.support.kube.simulator import ApiServer

POLICIES = "backendsecuritypolicies"
PATH = paths.policies("v1beta1")
FAST = RetryWait(first_s=0.02, longest_s=0.1)


def policy(name: str, size: int = 1) -> dict[str, Any]:
    """Return an object with something in it."""
    return {"metadata": {"name": name, "labels": {"team": name}}, "spec": {"size": size}}


def size_of(item: dict[str, Any]) -> int:
    """Parse it, with the errors that parsing has."""
    size = item["spec"]["size"]
    if not isinstance(size, int):
        raise TypeError("not a number")
    return size


@dataclass(frozen=True)
class Noted(RetryWait):
    """A pace that notes which failure in a row each wait was for."""

    attempts: list[int] = field(default_factory=list)

    def wait_s(self, attempt: int, seed: str) -> float:
        self.attempts.append(attempt)
        return super().wait_s(attempt, seed)


class Seconds:
    """Seconds that pass only when a test lets them."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def standing(monkeypatch: pytest.MonkeyPatch) -> Seconds:
    """Let informers measure how long a watch lasted by seconds that stand still."""
    seconds = Seconds()
    monkeypatch.setattr(module, "time", seconds)
    return seconds


class Started:
    """Informers that are stopped with the test, and what they reported."""

    def __init__(self, api: KubeApi) -> None:
        self.api = api
        self.running: list[Informer[int]] = []
        self.reported: list[tuple[str, int | None]] = []

    def __call__(
        self, *, changed: Callable[[ObjectKey, int | None], None] | None = None, synced: bool = True, **settings: Any
    ) -> Informer[int]:
        informer = Informer(
            self.api,
            Selection(
                settings.pop("path", PATH), *(settings.pop(f"{kind}_selector", "") for kind in ("label", "field"))
            ),
            changed=changed or (lambda key, size: self.reported.append((key.name, size))),
            **{"parse": size_of, "pace": FAST, **settings},
        )
        self.running.append(informer)
        informer.start()
        if synced:
            assert informer.synced.wait(LIMIT_S)
        return informer


@pytest.fixture
def start(api: KubeApi) -> Iterator[Started]:
    """Return a function that starts an informer."""
    started = Started(api)
    yield started
    for informer in started.running:
        informer.stop()


def test_it_knows_what_is_there_and_what_comes(server: ApiServer, start: Started) -> None:
    """The list, then each change once; values are what ``parse`` makes of the objects."""
    server.create(POLICIES, policy("a"))
    informer = start()
    assert informer.items() == {ObjectKey("default", "a"): 1}
    server.create(POLICIES, policy("b", 2))
    server.patch(POLICIES, "b", {"spec": {"size": 3}})
    server.delete(POLICIES, "a")
    eventually(lambda: len(start.reported) == 4)
    assert start.reported == [("a", 1), ("b", 2), ("b", 3), ("a", None)]
    assert (informer.get(ObjectKey("default", "a")), informer.get(ObjectKey("default", "b"))) == (None, 3)
    assert not informer.restarts


def test_a_change_that_leaves_the_value_alone_is_not_reported(server: ApiServer, start: Started) -> None:
    """The gateway moves a time in the status at each of its reconciles: that is no change of a policy."""
    server.create(POLICIES, policy("a"))
    start()
    for second in range(3):
        server.patch(POLICIES, "a", {"status": {"at": second}}, subresource="status")
    server.create(POLICIES, policy("b"))
    eventually(lambda: ("b", 1) in start.reported)
    assert start.reported == [("a", 1), ("b", 1)]


def test_selectors_and_namespaces_narrow_it(server: ApiServer, start: Started) -> None:
    """An object that ceases to match is gone, as far as the informer knows."""
    for name in ("a", "b"):
        server.create(POLICIES, policy(name))
    labelled = start(label_selector="team=a")
    named = start(field_selector="metadata.name=b")
    elsewhere = start(path=paths.policies("v1beta1", "elsewhere"))
    assert [len(informer.items()) for informer in (labelled, named, elsewhere)] == [1, 1, 0]
    server.patch(POLICIES, "a", {"metadata": {"labels": {"team": "z"}}})
    eventually(lambda: not labelled.items())


def test_long_lists_come_in_pages(server: ApiServer, start: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer is larger than a page; together they are one state."""
    monkeypatch.setattr(listing, "PAGE", 7)
    for number in range(20):
        server.create(POLICIES, policy(f"p{number:02}"))
    assert len(start().items()) == 20
    assert [request.query["limit"] for request in server.seen("list")] == ["7", "7", "7"]


def test_a_list_that_is_too_long(server: ApiServer, start: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may fill objects: pages are halved until one fits, and the list goes on from where it was."""
    monkeypatch.setattr(listing, "PAGE", 16)
    monkeypatch.setattr(api_module, "BODY_LIMIT", 100_000)
    for number in range(10):
        server.create(POLICIES, policy(f"p{number:02}") | {"padding": "x" * (30_000 if number < 6 else 1)})
    informer = start()
    assert len(informer.items()) == 10
    assert not informer.restarts
    limits = [int(request.query["limit"]) for request in server.seen("list")]
    assert (limits[0], limits[-1]) == (16, 2)
    assert limits == sorted(limits, reverse=True)


def test_an_object_that_is_too_long(server: ApiServer, start: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit alone never will; it is said, and asked for again at a slower pace."""
    monkeypatch.setattr(listing, "PAGE", 4)
    monkeypatch.setattr(api_module, "BODY_LIMIT", 10_000)
    server.create(POLICIES, policy("a") | {"padding": "x" * 30_000})
    informer = start(synced=False)
    eventually(lambda: informer.restarts["InvalidResponse"] > 1)
    assert not informer.synced.is_set()


def test_a_page_token_that_expired_starts_the_list_again(
    server: ApiServer, start: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a list is never taken for the whole: nothing seems deleted."""
    monkeypatch.setattr(listing, "PAGE", 1)
    for name in ("a", "b"):
        server.create(POLICIES, policy(name))

    def parse(item: dict[str, Any]) -> int:
        # Between the first page and the second.
        if len(server.seen("list")) == 1:
            server.compact()
        return size_of(item)

    informer = start(parse=parse)
    assert informer.restarts == {"Gone": 1}
    assert start.reported == [("a", 1), ("b", 1)]
    assert len(server.seen("list")) == 4


def test_an_ordinary_end_is_resumed_from_where_it_was(server: ApiServer, start: Started) -> None:
    """No new list when the server ends a watch in due time; bookmarks move the place on."""
    server.bookmark_every_s = 0.05
    server.create(POLICIES, policy("a"))
    informer = start()
    server.create("configmaps", {"metadata": {"name": "something else"}})
    # One may have been on its way; of two, the second was sent after that.
    for _ in range(2):
        last = informer.last_contact
        eventually(lambda: informer.last_contact > last)  # noqa: B023 - waited for right here
    server.end_watches()
    server.wait_for(2, "watch")
    server.create(POLICIES, policy("b"))
    eventually(lambda: ("b", 1) in start.reported)
    first, second = server.seen("watch")
    assert int(second.query["resourceVersion"]) > int(first.query["resourceVersion"])
    assert first.query["allowWatchBookmarks"] == "true"
    assert len(server.seen("list")) == 1
    assert not informer.restarts


def test_a_watch_is_asked_to_end_before_silence_means_anything() -> None:
    """The server ends each watch before the read timeout, so that only dead connections reach it."""
    timing = WatchTiming()
    assert timing.lasts_s < timing.silent_s == 70


def test_fault_29_a_silent_watch_is_given_up_and_listed_again(server: ApiServer, start: Started) -> None:
    """A half-open connection: what happened meanwhile is found by a new list, deletions too, each once."""
    for name in ("a", "b", "c"):
        server.create(POLICIES, policy(name))
    informer = start(timing=WatchTiming(lasts_s=60, silent_s=1.5))
    server.wait_for(1, "watch")
    server.silent = True
    server.delete(POLICIES, "a")
    server.patch(POLICIES, "b", {"spec": {"size": 2}})
    server.create(POLICIES, policy("d"))
    eventually(lambda: informer.restarts["Silent"])
    server.silent = False
    eventually(lambda: len(start.reported) == 6)
    assert sorted(start.reported[3:], key=str) == [("a", None), ("b", 2), ("d", 1)]
    assert informer.restarts["Silent"] == 1


@pytest.mark.parametrize("as_event", [True, False])
def test_fault_30_gone_means_list_again(server: ApiServer, start: Started, *, as_event: bool) -> None:
    """410, as event or as status: list again, compare, report only what differs."""
    server.gone_as_event = as_event
    server.create(POLICIES, policy("a"))
    server.create(POLICIES, policy("b"))
    informer = start()
    server.wait_for(1, "watch")
    server.end_watches()
    server.wait_for(2, "watch")
    hold = server.delay(float("inf"), verb="watch")
    server.end_watches("dropped")
    server.wait_for(3, "watch")
    server.patch(POLICIES, "b", {"spec": {"size": 2}})
    server.compact()
    server.heal(hold)
    eventually(lambda: ("b", 2) in start.reported)
    assert start.reported == [("a", 1), ("b", 1), ("b", 2)]
    assert informer.restarts["Gone"] == 1


def test_a_broken_connection_is_listed_again(server: ApiServer, start: Started) -> None:
    """Nothing is lost when a load balancer cuts the connection."""
    informer = start()
    server.wait_for(1, "watch")
    server.end_watches("dropped")
    server.create(POLICIES, policy("a"))
    eventually(lambda: start.reported == [("a", 1)])
    assert informer.restarts["Disconnected"] >= 1


@pytest.mark.parametrize("status", [401, 403, 429, 500])
def test_lasting_refusals_are_asked_about_ever_more_slowly(server: ApiServer, start: Started, status: int) -> None:
    """Never a tight loop (the vendor's informer asks 23 times a second), and it recovers by itself."""
    server.fail(status, "Refused")
    started = time.monotonic()
    informer = start(synced=False, pace=RetryWait(first_s=0.05, longest_s=0.2))
    server.wait_for(8)
    assert time.monotonic() - started >= sum((0.05, 0.05, 0.1, 0.1, 0.1, 0.1, 0.1))
    assert informer.restarts["Refused"] >= 7
    server.heal()
    assert informer.synced.wait(LIMIT_S)


def test_a_refused_watch_is_no_tight_loop_either(server: ApiServer, start: Started) -> None:
    """A list that works must not reset the waiting when the watch never does."""
    server.forbid("watch")
    started = time.monotonic()
    start(pace=RetryWait(first_s=0.05, longest_s=0.4))
    server.wait_for(6, "list")
    assert time.monotonic() - started >= sum((0.05, 0.05, 0.1, 0.2, 0.2))


@pytest.mark.usefixtures("standing")
def test_watches_that_end_at_once_are_no_tight_loop(server: ApiServer, start: Started) -> None:
    """An ordinary end is resumed without waiting, unless it comes at once, again and again."""
    server.fail(200, verb="watch")
    started = time.monotonic()
    informer = start(pace=RetryWait(first_s=0.05, longest_s=0.4))
    server.wait_for(6, "watch")
    assert time.monotonic() - started >= sum((0.05, 0.05, 0.1, 0.2, 0.2))
    assert sum(informer.restarts.values()) >= 5


def test_old_failures_are_forgiven_after_a_good_while(server: ApiServer, start: Started, standing: Seconds) -> None:
    """A connection that breaks once an hour is not waited for as one that broke a hundred times in a row."""
    outage = server.fail(500)
    pace = Noted(first_s=0.02, longest_s=0.5)
    informer = start(synced=False, pace=pace)
    eventually(lambda: informer.restarts["Status500"] >= 6)
    server.heal(outage)
    assert informer.synced.wait(LIMIT_S)
    server.wait_for(1, "watch")
    standing.now_s += 0.6
    before = len(pace.attempts)
    server.end_watches("dropped")
    server.wait_for(2, "watch")
    assert pace.attempts[:before] == list(range(1, before + 1))
    assert pace.attempts[before] == 1


def test_retry_after_is_obeyed(server: ApiServer, start: Started) -> None:
    """A server that asks for a second gets it, though the pace would be faster."""
    server.fail(429, "TooManyRequests", retry_after_s=1, times=1)
    started = time.monotonic()
    start()
    assert time.monotonic() - started >= 1


def test_fault_32_a_resource_that_is_not_served_is_waited_for(server: ApiServer, start: Started) -> None:
    """The definition may be installed later; until then it asks slowly."""
    served = server.resources.pop(POLICIES)
    started = time.monotonic()
    informer = start(synced=False, timing=WatchTiming(absent_s=0.3))
    eventually(lambda: informer.restarts["NotFound"] == 3)
    assert time.monotonic() - started >= 2 * 0.3
    server.resources[POLICIES] = served
    assert informer.synced.wait(LIMIT_S)


def test_an_object_that_cannot_be_parsed_is_left_out(server: ApiServer, start: Started) -> None:
    """It costs a log line; the last good value stays, and the others are not concerned."""
    server.create(POLICIES, {"metadata": {"name": "bad"}, "spec": {}})
    server.create(POLICIES, policy("good"))
    informer = start()
    server.patch(POLICIES, "good", {"spec": {"size": "many"}})
    server.create(POLICIES, policy("late"))
    eventually(lambda: ("late", 1) in start.reported)
    server.end_watches("dropped")
    server.wait_for(2, "watch")
    assert {key.name: size for key, size in informer.items().items()} == {"good": 1, "late": 1}
    server.patch(POLICIES, "good", {"spec": {"size": 5}})
    eventually(lambda: ("good", 5) in start.reported)
    assert start.reported == [("good", 1), ("late", 1), ("good", 5)]


def test_a_defect_in_a_callback_does_not_end_the_watching(server: ApiServer, start: Started) -> None:
    """It is logged, and the informer lists again."""
    reported: list[str] = []

    def changed(key: ObjectKey, _: int | None) -> None:
        reported.append(key.name)
        if len(reported) == 1:
            raise ZeroDivisionError

    server.create(POLICIES, policy("a"))
    informer = start(changed=changed)
    server.create(POLICIES, policy("b"))
    eventually(lambda: "b" in reported)
    assert informer.restarts == {"Unexpected": 1}


def test_stopping_takes_no_time_though_the_watch_blocks(server: ApiServer, start: Started) -> None:
    """Shutdown does not wait for the server, and nothing is reported afterwards."""
    informer = start(timing=WatchTiming(lasts_s=600, silent_s=700, stop_s=LIMIT_S))
    server.wait_for(1, "watch")
    time.sleep(0.05)
    informer.stop()
    assert not informer._thread.is_alive(), "the watch was waited for"
    server.create(POLICIES, policy("late"))
    time.sleep(0.05)
    assert start.reported == []


def test_stopping_takes_about_a_second_though_nothing_answers(server: ApiServer, start: Started) -> None:
    """Even before the first answer, ``stop`` comes back; what is answered later is not reported any more."""
    server.create(POLICIES, policy("a"))
    server.delay(float("inf"))
    informer = start(synced=False, timing=WatchTiming(stop_s=0.2))
    server.wait_for(1)
    informer.stop()
    assert informer._thread.is_alive(), "an answer was waited for"
    server.heal()
    assert informer.synced.wait(LIMIT_S)
    assert start.reported == []


def test_the_pace_doubles_to_its_ceiling_and_differs() -> None:
    """1 s..30 s, shortened by up to a half, never under the first wait; replicas differ."""
    waits = [RetryWait().wait_s(attempt, "x") for attempt in range(1, 40)]
    assert all(1 <= wait <= 30 for wait in waits)
    assert all(wait >= 15 for wait in waits[5:])
    assert RetryWait().wait_s(5, "x") != RetryWait().wait_s(5, "y")


def test_one_waits_for_another(server: ApiServer, start: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lists when the other has; without the other, a while later."""
    server.create(POLICIES, policy("a"))
    first = threading.Event()
    second = start(after=first, synced=False)
    assert not second.synced.wait(0.1)
    first.set()
    assert second.synced.wait(LIMIT_S)
    monkeypatch.setattr("credrotator.kube.client.informer.AFTER_S", 0.1)
    assert start(after=threading.Event(), synced=False).synced.wait(LIMIT_S)
