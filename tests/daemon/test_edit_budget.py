"""How often edits may cost an exchange: the rule of row 57 by itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from credrotator.core.model import ObjectKey
from credrotator.rotation.edit_budget import BURST, EditBudget

POLICY = ObjectKey("default", "policy")


def exchanges(gaps_s: list[float]) -> list[float]:
    """Edit a policy after each gap, and make its attempt as soon as it may be made; return when it exchanged."""
    now_s, due_s, made = 0.0, None, list[float]()
    budget = EditBudget(lambda: now_s)

    def attempt() -> None:
        with budget.attempt(POLICY):
            budget.spend(POLICY)
        made.append(now_s)

    for gap_s in gaps_s:
        end_s = now_s + gap_s
        if due_s is not None and due_s <= end_s:
            now_s, due_s = due_s, None
            attempt()
        now_s = end_s
        wait_s = budget.edited(POLICY)
        if wait_s > 0:
            due_s = now_s + wait_s
        else:
            due_s = None
            attempt()
    return made


@given(st.lists(st.floats(0, 20, allow_nan=False), max_size=200))
def test_fault_57_at_most_twelve_in_any_minute(gaps_s: list[float]) -> None:
    """Whenever the edits come, no minute has more than twelve exchanges, nor any moment more than three."""
    made = exchanges(gaps_s)
    for began_s in made:
        assert sum(began_s <= each < began_s + 59.999 for each in made) <= 12
        assert sum(began_s <= each < began_s + 5.0 for each in made) <= BURST


def test_fault_57_a_person_s_edits_wait_for_nothing() -> None:
    """Three in a row, and one now and then."""
    assert exchanges([0.0, 1.0, 1.0, 60.0, 60.0]) == [0.0, 1.0, 2.0, 62.0, 122.0]


def test_invariant_14_what_was_spent_is_forgotten() -> None:
    """A minute after the last edit nothing is kept of a policy."""
    now_s = 0.0
    budget = EditBudget(lambda: now_s)
    for number in range(1000):
        key = ObjectKey("default", str(number))
        budget.edited(key)
        with budget.attempt(key):
            budget.spend(key)
    assert len(budget) == 1000
    now_s = 60.0
    with budget.attempt(POLICY):
        pass
    assert len(budget) == 0
