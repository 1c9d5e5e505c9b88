"""Events: their shape, that repetitions are counted, and that they never get in the way."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from credrotator.core.model import ObjectKey
from credrotator.kube import events as module
from credrotator.kube.events import EventRecorder, InvolvedObject, cut_bytes

if TYPE_CHECKING:
    from credrotator.kube.client.api import KubeApi
    from tests.support.kube.simulator import ApiServer

POLICY = InvolvedObject(ObjectKey("team", "bedrock"), "uid-1", "aigateway.envoyproxy.io/v1beta1")


class Recorded:
    """A recorder with clocks that a test moves."""

    def __init__(self, api: KubeApi) -> None:
        self.now = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
        self._started = self.now
        self.recorder = EventRecorder(api, "pod-1", clock=lambda: self.now, monotonic=self._seconds)

    def _seconds(self) -> float:
        return (self.now - self._started).total_seconds()

    def later(self, **by: float) -> None:
        self.now += timedelta(**by)


@pytest.fixture
def recorded(api: KubeApi) -> Recorded:
    """Return a recorder."""
    return Recorded(api)


def test_an_event_says_what_kubectl_describe_looks_for(server: ApiServer, recorded: Recorded) -> None:
    """It stands in the policy's namespace and names the policy by uid."""
    recorded.recorder.emit(POLICY, "Rotated", "expires in 1 h")
    (event,) = server.items("events", "team")
    assert event["involvedObject"] == {
        "apiVersion": "aigateway.envoyproxy.io/v1beta1",
        "kind": "BackendSecurityPolicy",
        "namespace": "team",
        "name": "bedrock",
        "uid": "uid-1",
    }
    assert (event["type"], event["reason"], event["message"]) == ("Normal", "Rotated", "expires in 1 h")
    assert (event["count"], event["firstTimestamp"], event["lastTimestamp"]) == (1, *["2026-11-24T12:00:00Z"] * 2)
    assert event["source"] == {"component": "credrotator", "host": "pod-1"}
    assert event["metadata"]["name"].startswith("bedrock.")


def test_the_same_again_is_counted(server: ApiServer, recorded: Recorded) -> None:
    """Within ten minutes of the last time, it is one object with a count; the first time stays."""
    for _ in range(3):
        recorded.recorder.emit(POLICY, "RotationFailed", "issuer away", kind="Warning")
        recorded.later(minutes=9)
    (event,) = server.items("events")
    assert (event["count"], event["firstTimestamp"], event["lastTimestamp"]) == (
        3,
        "2026-11-24T12:00:00Z",
        "2026-11-24T12:18:00Z",
    )
    assert len(server.seen("create", "events")) == 1


def test_anything_else_is_an_event_of_its_own(server: ApiServer, recorded: Recorded) -> None:
    """Another reason, message, type, policy, or ten minutes of quiet."""
    recorded.recorder.emit(POLICY, "Rotated", "a")
    recorded.recorder.emit(POLICY, "Adopted", "a")
    recorded.recorder.emit(POLICY, "Rotated", "b")
    recorded.recorder.emit(POLICY, "Rotated", "a", kind="Warning")
    recorded.recorder.emit(InvolvedObject(POLICY.key, "uid-2", POLICY.api_version), "Rotated", "a")
    recorded.later(minutes=10)
    recorded.recorder.emit(POLICY, "Rotated", "a")
    assert [event["count"] for event in server.items("events")] == [1] * 6


def test_one_that_expired_meanwhile_is_made_again(server: ApiServer, recorded: Recorded) -> None:
    """The API server deletes Events by itself; the count goes on."""
    recorded.recorder.emit(POLICY, "Rotated", "a")
    (event,) = server.items("events")
    server.delete("events", event["metadata"]["name"], "team")
    recorded.recorder.emit(POLICY, "Rotated", "a")
    assert [event["count"] for event in server.items("events")] == [2]


def test_messages_and_names_keep_to_the_limits(server: ApiServer, recorded: Recorded) -> None:
    """1024 bytes, cut between characters; control characters escaped; names within 253."""
    long_name = InvolvedObject(ObjectKey("team", "x" * 253), "uid", POLICY.api_version)
    recorded.recorder.emit(long_name, "RotationFailed", "ä\n" * 5000)
    (event,) = server.items("events")
    assert 1000 < len(event["message"].encode()) <= 1024
    assert "\n" not in event["message"]
    assert len(event["metadata"]["name"]) <= 253
    assert cut_bytes("ä" * 10, 10) == "äää…"


@pytest.mark.parametrize("status", [403, 404, 409, 429, 500])
def test_a_refused_event_is_a_debug_line(
    server: ApiServer, recorded: Recorded, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    """No error, no warning, no second try; the next one is new."""
    caplog.set_level(logging.DEBUG, "credrotator")
    server.fail(status, "Refused", times=1)
    recorded.recorder.emit(POLICY, "Rotated", "a")
    assert [record.levelname for record in caplog.records] == ["DEBUG"]
    assert len(server.requests) == 1
    recorded.recorder.emit(POLICY, "Rotated", "a")
    assert [event["count"] for event in server.items("events")] == [1]


def test_a_server_that_does_not_answer_costs_a_few_seconds_at_most(
    server: ApiServer, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker waits for an Event no longer than its own timeout."""
    monkeypatch.setattr(module, "TIMEOUT_S", 0.1)
    server.delay(float("inf"))
    recorded.recorder.emit(POLICY, "Rotated", "a")
    assert len(server.requests) == 1


def test_a_policy_with_an_odd_namespace_is_no_problem_of_the_caller(recorded: Recorded) -> None:
    """What cannot be a path is not sent, and not raised either."""
    recorded.recorder.emit(InvolvedObject(ObjectKey("..", "x"), "uid", "v1"), "Rotated", "a")


def test_memory_is_bounded(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages may differ for ever; what is remembered of them does not grow for ever."""
    monkeypatch.setattr(module, "REMEMBERED", 3)
    for number in range(10):
        recorded.recorder.emit(POLICY, "Rotated", f"message {number}")
    assert len(recorded.recorder._emitted) == 3


def test_what_nothing_is_recognised_of_any_more_is_forgotten(recorded: Recorded) -> None:
    """After ten minutes the same would be made anew, so that what is known of it has no use."""
    for number in range(20):
        recorded.recorder.emit(POLICY, "Rotated", f"{number}")
        recorded.later(minutes=1)
    assert len(recorded.recorder._emitted) == 10
