"""How the daemon begins, leads, stops leading, and ends."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from credrotator.rotation.daemon import STOP_S
from tests.support.fakes import IDP, UNREACHABLE, Backend, policy
from tests.support.twins import HOUR
from tests.support.waiting import LIMIT_S, eventually


class TestLeadership:
    """Only the leader writes (I8)."""

    def test_a_standby_does_nothing(self, world: Backend) -> None:
        """No exchange, no write, nothing to see in its metrics."""
        world.leading = False
        world.add("bedrock")
        world.settled()
        assert not world.exchange.calls
        assert not world.outcomes
        assert b'name="bedrock"' not in world.metrics.exposition()

    def test_a_new_leader_looks_at_everything(self, world: Backend) -> None:
        """What changed while another one led is found."""
        world.leading = False
        keys = world.add("a", "b")
        world.settled()
        world.leading = True
        world.daemon.enqueue_all()
        eventually(lambda: {outcome.policy for outcome in world.outcomes} == set(keys))

    def test_it_leads_before_it_is_told_so(self, world: Backend) -> None:
        """I7: what it has looked at by then, or is looking at, is not looked at again, least of all what fails."""
        world.exchange.failing[IDP] = UNREACHABLE
        world.exchange.meanwhile = world.daemon.enqueue_all
        world.add("bedrock")
        world.settled()
        world.daemon.enqueue_all()
        world.settled()
        assert len(world.exchange.calls) == 1

    def test_told_between_taking_a_policy_and_reading_it(self, world: Backend) -> None:
        """I7: a worker that has a policy in hand when it begins to lead makes the one attempt that is asked for."""
        world.leading = False
        world.daemon.enqueue_all()
        world.exchange.failing[IDP] = UNREACHABLE
        asked = threading.Event()

        def lead() -> bool:
            # Once, in the moment in which the worker asks: everything is enqueued then, this policy too.
            if not asked.is_set():
                asked.set()
                world.leading = True
                world.daemon.enqueue_all()
            return world.leading

        world.daemon._leads = lead
        world.add("bedrock")
        world.settled()
        assert asked.is_set()
        assert len(world.exchange.calls) == 1

    def test_fault_33_lost_between_exchange_and_write(self, world: Backend) -> None:
        """Leadership is asked for right before the write; nothing is published, and nobody told."""

        def lose() -> None:
            world.leading = False
            world.daemon.stand_down()

        world.exchange.meanwhile = lose
        world.add("bedrock")
        eventually(lambda: len(world.exchange.calls) == 1)
        world.settled()
        assert not world.store.writes
        assert not world.outcomes

    def test_a_failure_after_it_was_lost(self, world: Backend) -> None:
        """Whoever does not lead parks nothing and says nothing."""
        world.exchange.failing[IDP] = UNREACHABLE
        world.exchange.meanwhile = lambda: setattr(world, "leading", False)
        world.add("bedrock")
        eventually(lambda: len(world.exchange.calls) == 1)
        world.settled()
        assert not world.outcomes
        assert not world.daemon._failures

    def test_standing_down(self, world: Backend) -> None:
        """What an old leader showed grows stale, so it shows it no more; and it looks at nothing."""
        world.add("a", "b")
        world.settled()
        assert b'name="a"' in world.metrics.exposition()
        world.leading = False
        world.daemon.stand_down()
        assert b'name="a"' not in world.metrics.exposition()
        world.later(2 * HOUR)
        world.settled()
        assert len(world.exchange.calls) == 2
        assert not world.daemon._timetable._times

    def test_invariant_16_a_pause(self, world: Backend) -> None:
        """Where the Lease lapses in an outage, expiries stay known and shown; then all is looked at, soonest first."""
        keys = world.add("a", "b", "c")
        world.settled()
        world.leading = False
        world.daemon.pause()
        world.later(2 * HOUR)
        world.settled()
        shown = world.metrics.exposition()
        assert all(f'name="{key.name}"'.encode() in shown for key in keys)
        assert len(world.exchange.calls) == 3
        assert not world.daemon._timetable._times
        world.leading = True
        world.daemon.enqueue_all()
        eventually(lambda: len(world.exchange.calls) == 6)

    def test_invariant_16_a_pause_within_an_attempt(self, world: Backend) -> None:
        """What an attempt left behind is planned no further, and its expiry stays known."""
        (key,) = world.add("bedrock")
        world.settled()
        world.daemon.enqueue_all()

        def lapse() -> None:
            world.leading = False
            world.daemon.pause()

        world.exchange.meanwhile = lapse
        world.later(HOUR)
        eventually(lambda: len(world.exchange.calls) == 2)
        world.settled()
        assert b'name="bedrock"' in world.metrics.exposition()
        assert not world.daemon._timetable._times
        world.daemon.stand_down()
        assert b'name="bedrock"' not in world.metrics.exposition()
        assert key not in world.daemon._expiries

    def test_coming_back(self, world: Backend) -> None:
        """Leading again, it does what is due by the store, with what it still holds."""
        (key,) = world.add("bedrock")
        world.settled()
        world.leading = False
        world.daemon.stand_down()
        world.leading = True
        world.daemon.enqueue_all()
        eventually(lambda: [outcome.action for outcome in world.of(key)] == ["rotated", "kept"])
        assert b'name="bedrock"' in world.metrics.exposition()


class TestStartAndEnd:
    """Restart and stop."""

    def test_i4_a_restart_with_everything_fresh(self) -> None:
        """No exchange, no write, one read for each policy."""
        world = Backend()
        world.add(*(f"policy-{number}" for number in range(50)))
        world.daemon.start()
        world.settled()
        assert len(world.exchange.calls) == len(world.store.writes) == 50
        world.restart()
        eventually(lambda: len(world.outcomes) == 50)
        world.settled()
        assert {outcome.action for outcome in world.outcomes} == {"kept"}
        assert len(world.exchange.calls) == len(world.store.writes) == 50
        world.daemon.stop()

    def test_i11_a_restart_keeps_the_schedule(self) -> None:
        """Renewals come when they would have come."""
        world = Backend()
        world.add(*(f"policy-{number}" for number in range(10)))
        world.daemon.start()
        world.settled()
        before = dict(world.daemon._timetable._times)
        world.restart()
        eventually(lambda: len(world.outcomes) == 10)
        world.settled()
        assert world.daemon._timetable._times == before
        world.daemon.stop()

    def test_fault_50_stop_with_a_hanging_exchange(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The end does not wait for an exchange; what comes of it later is looked at by nobody."""
        assert STOP_S < 9
        monkeypatch.setattr("credrotator.rotation.daemon.STOP_S", 0.2)
        world = Backend()
        world.exchange.hanging.add(IDP)
        world.daemon.start()
        world.add("bedrock")
        eventually(lambda: world.exchange.waiting == 1)
        world.daemon.stop()
        assert world.exchange.waiting == 1
        world.leading = False
        world.exchange.let_go()

    def test_stop_lets_a_write_finish(self) -> None:
        """What is being written is written before stop returns."""
        world = Backend()
        writing, written = threading.Event(), threading.Event()

        def slowly() -> None:
            writing.set()
            written.wait(LIMIT_S)

        world.store.before_publish.append(slowly)
        world.daemon.start()
        world.add("bedrock")
        assert writing.wait(LIMIT_S)
        threading.Timer(0.2, written.set).start()
        world.daemon.stop()
        assert len(world.store.writes) == 1

    def test_stop_ends_all_threads(self) -> None:
        """Nothing of it is left behind."""
        before = set(threading.enumerate())
        world = Backend(workers=8)
        world.daemon.start()
        world.add("a", "b", "c")
        world.settled()
        world.daemon.stop()
        eventually(lambda: set(threading.enumerate()) <= before)

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_a_dead_sweep_is_trouble(self, world: Backend) -> None:
        """Without it what timers miss is missed for good."""
        timetable = world.daemon._timetable
        assert timetable.dead() == []
        timetable._sweeper = threading.Thread(target=lambda: None, name="sweep")
        timetable._sweeper.start()
        timetable._sweeper.join()
        assert world.daemon.trouble() == "dead threads: sweep"

    def test_a_lapse_is_made_up_for_soon(self, world: Backend) -> None:
        """What was given up because another one led at that moment is looked at again within seconds."""
        (key,) = world.add("one")
        world.settled()
        lapsed = replace(world.outcomes[-1], action="skipped", reason="NotLeader", renew_at=None, abandoned=True)
        world.daemon.plan(lapsed)
        due = world.daemon._timetable.take(key)
        assert due is not None
        assert due - world.clock() <= timedelta(seconds=15)

    def test_retries_differ_between_clusters(self, world: Backend) -> None:
        """Policies of one name in two clusters have different UIDs, and must not ask in step."""
        world.exchange.failing["https://idp.example"] = UNREACHABLE
        (key,) = world.add("one")
        world.settled()
        failed = world.outcomes[-1]
        waits = set()
        for uid in ("a", "b"):
            world.source.present[key] = replace(policy(key), uid=uid)
            world.daemon._failures.clear()
            for _ in range(6):
                world.daemon.plan(failed)
            due = world.daemon._timetable.take(key)
            assert due is not None
            waits.add(due - world.clock())
        assert len(waits) == 2

    def test_dead_workers_are_trouble(self, world: Backend) -> None:
        """Liveness tells of a worker that ended though it should not have."""
        assert world.daemon.trouble() is None
        world.daemon._queue.close()
        eventually(lambda: "worker-0" in (world.daemon.trouble() or ""))
