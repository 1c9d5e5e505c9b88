"""Watches that break, fall silent or are too old, and tokens that are replaced: what happened meanwhile is found."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from tests.e2e import faulty_site
from tests.e2e.faulty_site import FaultySite
from tests.e2e.gateway_site import Destination
from tests.support.cluster_policies import secret_of
from tests.support.parts.front import Front
from tests.support.waiting import eventually

_RESTARTS = "credrotator_watch_restarts_total"
# A watch is dead when it was silent for 70 s.
_SILENT = timedelta(seconds=70)
_LISTED_AGAIN = timedelta(seconds=100)
_REACTS = timedelta(seconds=20)
_QUIET_S = 3.0


@pytest.fixture
def faulty(prepared: Destination, request: pytest.FixtureRequest) -> Iterator[FaultySite]:
    """The cluster behind a door of this test's own."""
    name = "".join(char if char.isalnum() else "-" for char in request.node.name)
    with faulty_site.behind(prepared, prepared.cluster.directory / name) as found:
        yield found


def _dropped(front: Front) -> None:
    front.cut_watches()


def _event(front: Front) -> None:
    front.expire_watches()


def _status(front: Front) -> None:
    front.fail(410, "Expired", times=3, verb="watch")
    front.cut_watches()


def _list(front: Front) -> None:
    front.fail(410, "Expired", times=3, verb="list")
    front.expire_watches()


def _refused(front: Front) -> None:
    front.fail(429, "TooManyRequests", times=2, retry_after_s=1, verb="watch")
    front.fail(500, "InternalError", times=2, verb="list")
    front.cut_watches()


@pytest.mark.parametrize("jam", [_dropped, _event, _status, _list, _refused])
def test_fault_30_nothing_is_missed_and_nothing_done_twice(faulty: FaultySite, jam: Callable[[Front], None]) -> None:
    """However a watch ends: one that comes and one that is edited are rotated, and one that stayed is left alone."""
    kind = jam.__name__.strip("_")
    stays, edited, comes = (f"{what}-{kind}" for what in ("stays", "edited", "comes"))
    with faulty.daemon() as running:
        for name in (stays, edited):
            faulty.add(name)
            faulty.wait(name, 0)
        asked = faulty.site.exchanges
        jam(faulty.front)
        faulty.add(comes)
        faulty.edit(edited)
        faulty.wait(comes, 0)
        faulty.wait(edited, 1)
        time.sleep(_QUIET_S)
        assert [faulty.count(name) for name in (stays, edited, comes)] == [1, 2, 1]
        assert faulty.site.exchanges == asked + 2
        assert running.metric(_RESTARTS) > 0
        assert running.answers("/readyz", within=_REACTS)


def test_fault_29_watches_that_fall_silent(faulty: FaultySite) -> None:
    """A connection that is open and dead is given up after 70 s; what was missed is done then, and once."""
    with faulty.daemon() as running:
        faulty.add("silent")
        faulty.wait("silent", 0)
        asked = faulty.site.exchanges
        faulty.front.silence_watches()
        began_s = time.monotonic()
        faulty.edit("silent")
        faulty.wait("silent", 1, within=_LISTED_AGAIN)
        # The silence began with the watch's last word, which may have been some time before.
        assert time.monotonic() - began_s <= _LISTED_AGAIN.total_seconds()
        assert running.metric(_RESTARTS, reason="Silent") > 0
        faulty.edit("silent")
        faulty.wait("silent", 2, within=_REACTS)
        assert faulty.site.exchanges == asked + 2


def test_fault_31_a_token_file_that_is_replaced(faulty: FaultySite) -> None:
    """The one from the file is read again when the server refuses the old one, and nobody notices."""
    old, new = faulty.token.read_text(), faulty_site.new_token(faulty.site)
    with faulty.daemon() as running:
        faulty.add("replaced")
        faulty.wait("replaced", 0)
        asked = faulty.site.exchanges
        faulty.token.write_text(new)
        faulty.front.fail(401, "Unauthorized", user=old)
        faulty.front.cut_watches()
        faulty.edit("replaced")
        faulty.wait("replaced", 1)
        assert faulty.front.seen("update", "secrets", name=secret_of("replaced"))[-1].user == new
        assert running.answers("/readyz", within=_REACTS)
        assert faulty.site.exchanges == asked + 1


def test_fault_31_a_token_that_is_refused_for_long(faulty: FaultySite) -> None:
    """Not ready after two minutes of refusals, and alive; a new token in the file, and it goes on where it was."""
    with faulty.daemon() as running:
        faulty.add("waiting")
        faulty.wait("waiting", 0)
        asked = faulty.site.exchanges
        good = faulty.token.read_text()
        faulty.token.write_text("expired")
        refusing = faulty.front.fail(401, "Unauthorized", user=good)
        faulty.front.cut_watches()
        faulty.edit("waiting")
        eventually(lambda: not running.answers("/readyz", within=timedelta(0)), 180)
        assert running.answers("/healthz", within=_REACTS)
        # The real server's own word on a token that it does not know.
        assert {request.status for request in faulty.front.seen("watch", user="expired")} <= {0, 401}
        assert faulty.front.seen(user="expired")[-1].status == 401
        assert faulty.count("waiting") == 1
        faulty.front.heal(refusing)
        faulty.token.write_text(good)
        faulty.wait("waiting", 1, within=timedelta(minutes=2))
        assert running.answers("/readyz", within=_REACTS)
        assert faulty.site.exchanges == asked + 1
