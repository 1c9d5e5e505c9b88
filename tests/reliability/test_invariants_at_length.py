"""Invariants of ``test_invariants.py`` whose worlds are many, with as many examples as find what is rare.

What they found is an example there, and so is run each time. No real time passes in them.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from tests.reliability.scenarios import Scenario, crowds, day, scenarios

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
many = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
FAULTS = ("endpoint", "api", "garble", "rival", "kill", "stop", "suspend", "partition", "edit", "lose", "step")


def play(scenario: Scenario) -> None:
    """Fail with what happened, if anything happened that must not."""
    world = scenario.play()
    assert not world.oracle.violations, world.oracle.report()


@many
@given(scenarios(*FAULTS))
def test_invariants_01_to_08_whatever_fails(scenario: Scenario) -> None:
    """What is published, who writes and how often is asked: the oracle judges all of it in each world."""
    play(scenario)


@many
@given(scenarios())
def test_invariant_12_progress_at_length(scenario: Scenario) -> None:
    """Whatever befalls a small world: where two retry slots are left, nothing expires; in the end all are served."""
    play(scenario)


@many
@given(scenarios("retime", "disown", "anew", "usurp", "api", "kill", "partition", "edit"))
def test_invariant_12_edits_outages_and_leaders_at_length(scenario: Scenario) -> None:
    """Times, labels, owners and UIDs edited, outages, leaders that come and go and write: all is right in the end."""
    play(scenario)


@settings(many, max_examples=40)
@given(crowds())
def test_invariant_12_many_policies_of_few_endpoints_at_length(scenario: Scenario) -> None:
    """Crowded endpoints recover for all: 30 policies, two issuers, one region."""
    play(scenario)


def test_the_world_is_reproducible_for_hours() -> None:
    """The same seed gives the same history, line by line, through renewals and changes of leaders too."""
    one, other = (day(3, policies=12, hours=4.0) for _ in range(2))
    assert one.oracle.log == other.oracle.log
