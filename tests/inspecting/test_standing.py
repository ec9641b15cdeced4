"""From what is known of a row in a round to its fate, and to words."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selffilter.asking.explain import explain
from selffilter.asking.ranking import BetterThan
from selffilter.asking.standing import CutLine, Group, Removed, Standing

DONE = {"trained": True, "scored": True, "selected": True, "may_train_on": True, "times": 2}
SCORED = DONE | {
    "scores_from": "model", "signal": "cosine", "score": 0.25, "scored_round": 1, "rank": 9,
    "scored_base": 100, "threshold": 0.5,
}  # fmt: skip


def standing(**changes):
    return Standing(1, **(SCORED | changes))


@pytest.mark.parametrize(
    ("changes", "fate", "words"),
    [
        ({}, "below_threshold", "NOT SELECTED: 0.25 below the lowest confident score, 0.5."),
        ({"threshold": 0.25}, "tied", "ties went to others"),
        (
            {"share": "confident", "threshold": 0.125, "weight": 1},
            "confident", "SELECTED as confident: 0.12 above",
        ),
        ({"share": "confident", "threshold": 0.2, "weight": 3}, "confident", "weight 3"),
        (
            {"share": "diverse", "weight": 1},
            "diverse", "drawn, whatever its score; its score is 0.25 below",
        ),
        ({"failure": "image_truncated"}, "failed", "Cannot be used: image_truncated."),
        ({"probe": True}, "probe", "Held out as probe"),
        ({"outside": True}, "outside", "Outside pool.subset"),
        ({"score": None, "rank": None}, "no_score", "only the diverse draw"),
        ({"selected": False}, "open", "Selecting is not finished."),
        ({"scored": False, "selected": False}, "open", "Scoring is not finished."),
        (
            {"removed": Removed("near_duplicate", 7, "f" * 32)},
            "removed", "Removed before selecting: near duplicate, of row 7 (ffffffff",
        ),
        (
            {"removed": Removed("in_evaluation_set", of="birds/12")},
            "removed", "Removed before selecting: in evaluation set, birds/12.",
        ),
        (
            {"score": 0.75, "cuts": (CutLine("cosine", 0.1, 0.75), CutLine("clip", 0.3, 0.2))},
            "cut", "cut 2 of 2, by clip: 0.2 is below 0.3.",
        ),
        ({"score": 0.75, "cuts": (CutLine("clip", 0.3, None),)}, "cut", "it has no such score"),
        ({"score": 0.75, "balanced_by": "source"}, "passed_over", "select.balance=source"),
        ({"score": 0.75, "rule": "sample"}, "passed_over", "drawn by score"),
        (
            {"by_merit": True, "merit": 0.9, "score": -3.0},
            "passed_over", "merit 0.9: place 10 of 100",
        ),
    ],
)  # fmt: skip
def test_each_fate_is_told_with_its_reason(changes, fate, words):
    found = standing(**changes)
    assert found.fate == fate
    assert words in explain(found)


def test_what_keeps_a_row_out_of_the_base_comes_before_what_its_score_says():
    assert standing(failure="image_truncated", probe=True, outside=True).fate == "failed"
    assert standing(probe=True, outside=True, removed=Removed("x")).fate == "probe"
    assert standing(outside=True, removed=Removed("x")).fate == "outside"
    assert "that would be place 10" in explain(standing(probe=True))


def test_training_is_told_as_often_as_it_was():
    for times, words in (
        (0, "its turn did not come"), (1, "Trained on once."),
        (2, "Trained on twice."), (3, "Trained on 3 times."),
        (None, "how often is not known"),
    ):  # fmt: skip
        assert words in explain(standing(times=times))
    assert "Not trained on." in explain(standing(may_train_on=False, times=0))
    assert explain(Standing(4)) == "Training is not finished."


def test_a_score_of_an_earlier_model_is_said_to_be_one():
    assert "(by the model of round 0)" in explain(standing(scored_round=0))


def test_the_best_of_many_is_not_at_quantile_one():
    found = standing(rank=0, scored_base=100_000_000)
    assert "quantile 1.0" not in explain(found)
    assert found.quantile == pytest.approx(1 - 0.5e-8)
    # Of rows that are no part of the base one may be worse than all of it.
    assert 0 < standing(rank=100, scored_base=100, probe=True).quantile < 0.01


def test_a_record_is_plain():
    found = standing(removed=Removed("x", 3, "ab"), cuts=(CutLine("a", None, 1.0),))
    assert json.loads(json.dumps(found.record()))["removed"]["of_row"] == 3


@given(
    st.lists(st.integers(-3, 3), min_size=1, max_size=8),
    st.lists(st.lists(st.one_of(st.integers(-4, 4), st.none()), max_size=9), max_size=5),
)
def test_ranks_count_what_is_strictly_better_in_any_chunks(asked, chunks):
    asked_K = np.array([*asked, np.nan], np.float32)
    better = BetterThan(asked_K)
    for chunk in chunks:
        better.count(np.array([np.nan if x is None else x for x in chunk], np.float32))
    every = [x for chunk in chunks for x in chunk if x is not None]
    assert better.ranks_K.tolist() == [sum(x > a for x in every) for a in asked] + [-1]
    assert better.scored == len(every)


LATIN = Group("script", "latin", 900, 0.984, 0.01)
LONG = Group("caption_chars", ">200", 12, 1.5, 0.4)
NOBODY = Group("cluster", "7", 0, None, None)


def test_groups_that_can_be_selected_are_told_with_their_rates():
    said = explain(standing(groups=(LATIN, LONG, NOBODY)))
    told = "Its groups, relative to the average row: script latin 0.98×, caption_chars >200 1.50×."
    assert said.endswith(told)
    for changes in ({"groups": (NOBODY,)}, {"groups": (LATIN,), "probe": True}):
        assert "Its groups" not in explain(standing(**changes))


def test_what_the_guard_said_of_the_round_is_told():
    said = explain(standing(alarms=("Too few stay.", "Too few kinds.")))
    assert said.endswith("The guard: Too few stay. The guard: Too few kinds.")


def test_a_record_has_groups_and_alarms_as_plain_values():
    found = standing(groups=(LATIN, NOBODY), alarms=("Too few stay.",)).record()
    assert json.loads(json.dumps(found)) == found
    assert found["alarms"] == ["Too few stay."]
    assert found["groups"][0] == {
        "grouping": "script", "group": "latin", "base": 900, "relative_rate": 0.984,
        "standard_error": 0.01,
    }  # fmt: skip
