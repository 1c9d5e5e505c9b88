"""Whether filters have what is published: the comparison, and what follows in which second."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credrotator.core.model import ObjectKey
from credrotator.kube.filter_config import FilterConfig
from credrotator.kube.in_use import BEHIND_AFTER_S, Deliveries, News, Use, compare
from tests.support.manifests import aws, managed, read

BACKEND = ObjectKey("default", "bedrock")
POLICY = replace(read(aws()), targets=(BACKEND,))
OLD, NEW = "old", "new"


def config(*texts: str, key: ObjectKey = BACKEND) -> FilterConfig:
    """A configuration in which a backend has these credentials, one for each rule."""
    return FilterConfig({key: frozenset(frozenset({text, "region"}) for text in texts)}, frozenset(texts))


class TestCompare:
    """What several configurations say of one policy."""

    @pytest.mark.parametrize(
        ("configs", "before", "expected"),
        [
            ([], (), Use.ABSENT),
            ([config()], (), Use.ABSENT),
            ([config(NEW)], (), Use.CURRENT),
            ([config(NEW)], (OLD,), Use.CURRENT),
            ([config(OLD)], (), Use.OLD),
            ([config(OLD, NEW)], (), Use.OLD),
            ([config(NEW), config(OLD)], (), Use.OLD),
            ([config(NEW), config()], (), Use.CURRENT),
        ],
    )
    def test_by_name(self, configs: list[FilterConfig], before: tuple[str, ...], expected: Use) -> None:
        """Every place that the policy's backend has must have what is published."""
        assert compare(configs, POLICY, NEW, before) is expected

    @pytest.mark.parametrize(
        ("text", "before", "expected"),
        [(OLD, (), Use.ABSENT), (OLD, (OLD,), Use.OLD), (OLD, ("older", OLD), Use.OLD), (NEW, (OLD,), Use.CURRENT)],
    )
    def test_by_what_it_had(self, text: str, before: tuple[str, ...], expected: Use) -> None:
        """A route in another namespace than its backend: names lead nowhere, what was published before does."""
        assert compare([config(text, key=ObjectKey("team-b", "bedrock"))], POLICY, NEW, before) is expected

    def test_a_neighbour_of_the_same_name(self) -> None:
        """A backend of another namespace is another one: its credential says nothing of ours."""
        assert compare([config("theirs", key=ObjectKey("team-b", "bedrock"))], POLICY, NEW) is Use.ABSENT

    def test_a_pool(self) -> None:
        """An InferencePool stands there by its name alone."""
        policy = replace(POLICY, targets=(ObjectKey("default", "InferencePool/bedrock"),))
        assert compare([config(OLD)], policy, NEW) is Use.OLD

    @given(st.lists(st.sampled_from([OLD, NEW, "other"]), max_size=4), st.sets(st.sampled_from([OLD, "older"])))
    def test_never_in_use_beside_an_old_one(self, texts: list[str], before: set[str]) -> None:
        """CURRENT means: it is there, and nothing else is."""
        use = compare([config(text) for text in texts], POLICY, NEW, before)
        assert (use is Use.CURRENT) == (set(texts) == {NEW})


class Following:
    """One policy, second by second."""

    def __init__(self) -> None:
        self.deliveries = Deliveries()

    def publish(self, content: str, at_s: float, *, measured: bool = True) -> None:
        self.deliveries.note(POLICY.key, content, at_s, measured=measured)

    def judge(self, text: str | None, now_s: float) -> News:
        configs = [config(text)] if text else [FilterConfig()]
        return self.deliveries.judge(POLICY, configs, now_s)


def test_delivered() -> None:
    """It is counted once, with the time that it took; then nothing more is to be done."""
    following = Following()
    following.publish(NEW, 10.0)
    assert following.deliveries.is_waiting(10.5)
    assert following.judge(OLD, 10.5) == News(age_s=0.5)
    assert following.judge(NEW, 11.0) == News(took_s=1.0, age_s=1.0)
    assert following.judge(NEW, 11.5) == News(age_s=1.5)
    known = following.deliveries.get(POLICY.key)
    assert known
    assert known.in_use_s == 11.0
    assert not following.deliveries.is_waiting(12.0)


def test_a_generation_behind() -> None:
    """Counted and rung for as soon as it is late, rung for again ever more rarely, and told once."""
    following = Following()
    following.publish(OLD, 0.0)
    following.judge(OLD, 1.0)
    following.publish(NEW, 100.0)
    assert following.judge(OLD, 100.0 + BEHIND_AFTER_S) == News(age_s=BEHIND_AFTER_S)
    late = following.judge(OLD, 106.0)
    assert late == News(took_s=6.0, fell_behind=True, ring=True, age_s=6.0)
    assert following.deliveries.behind == 1
    rings = [second for second in range(107, 1000) if following.judge(OLD, float(second)).ring]
    gaps = [later - sooner for sooner, later in zip([106, *rings], rings, strict=False)]
    assert gaps[0] >= 4
    assert gaps == sorted(gaps)
    assert len(rings) < 10
    caught = following.judge(NEW, 1000.0)
    assert (caught.caught_up, caught.took_s, caught.ring) == (True, None, False)
    assert following.deliveries.behind == 0


def test_it_falls_back() -> None:
    """A configuration that had it, and is written anew from an old copy, is found as well."""
    following = Following()
    following.publish(OLD, 0.0)
    following.publish(NEW, 10.0)
    following.judge(NEW, 11.0)
    assert following.judge(OLD, 500.0) == News(fell_behind=True, ring=True, age_s=490.0)


def test_the_next_one_ends_it() -> None:
    """Behind with one credential, and the next one arrives: that is the end of the alarm."""
    following = Following()
    following.publish(OLD, 0.0, measured=False)
    assert following.judge("older", 6.0).fell_behind
    following.publish(NEW, 7.0)
    assert following.deliveries.behind == 1
    assert following.judge(NEW, 8.0) == News(took_s=1.0, caught_up=True, age_s=1.0)


def test_what_no_route_leads_to() -> None:
    """It is neither behind nor counted, not when a route leads there an hour later either."""
    following = Following()
    following.publish(NEW, 0.0)
    assert following.judge(None, 60.0) == News(age_s=60.0)
    assert following.judge(NEW, 3600.0) == News(age_s=3600.0)


def test_an_old_one_is_put_back() -> None:
    """What is published is no former credential, whatever it was before."""
    following = Following()
    for number, content in enumerate((OLD, NEW, OLD)):
        following.publish(content, float(number))
    assert following.judge(OLD, 10.0).caught_up is False
    known = following.deliveries.get(POLICY.key)
    assert known
    assert known.before == (NEW,)


def test_gone() -> None:
    """Nothing is kept of policies that are gone."""
    following = Following()
    following.publish(NEW, 0.0)
    following.deliveries.keep([read(managed("other")).key])
    assert following.deliveries.get(POLICY.key) is None


@given(st.lists(st.tuples(st.sampled_from(["publish", "config", "wait"]), st.integers(1, 30)), max_size=60))
def test_found_and_put_right(steps: list[tuple[str, int]]) -> None:
    """Whatever happens in whatever order: behind means so, and what the filter has ends it.

    A configuration that is a generation behind for longer than five seconds is behind at the next look, and one that
    has what is published is not.
    """
    following, now_s, generation, configured = Following(), 0.0, 0, 0
    following.publish("0", now_s)
    published_s = now_s
    for what, number in steps:
        now_s += number
        if what == "publish":
            generation, published_s = generation + 1, now_s
            following.publish(str(generation), now_s)
        elif what == "config":
            configured = generation
        following.judge(str(configured), now_s)
        late = configured != generation and now_s - published_s > BEHIND_AFTER_S
        if late or configured == generation:
            assert following.deliveries.behind == int(late)
