import pytest
from hypothesis import given
from hypothesis import strategies as st

from selffilter.config import load_config
from selffilter.errors import UserError
from selffilter.planning import (
    check_ranks,
    compute_spent,
    outlook,
    ranks_allowed,
    round_steps,
    scores_from,
    stages_of,
    weights_since,
)


def config(*words):
    return load_config(None, ["pool.shards=[/p]", *words])


def schedule(total, count, bootstrap, batch=10):
    return round_steps(
        config(
            f"rounds.samples_seen={total * batch}",
            f"rounds.count={count}",
            f"rounds.bootstrap_fraction={bootstrap}",
            f"train.global_batch_size={batch}",
        )
    )


@given(st.integers(1, 500), st.integers(1, 12), st.floats(0.01, 0.99))
def test_rounds_follow_each_other_and_sum_to_the_samples_seen(total, count, bootstrap):
    if total < count:
        with pytest.raises(UserError, match=f"makes {total} batches of 10; {count} rounds"):
            schedule(total, count, bootstrap)
        return
    rounds = schedule(total, count, bootstrap)
    assert [r.round for r in rounds] == list(range(count))
    assert [r.begin for r in rounds] == [0, *(r.end for r in rounds[:-1])]
    assert rounds[-1].end == total
    assert min(r.steps for r in rounds) >= 1
    if count > 1:
        later = [r.steps for r in rounds[1:]]
        assert max(later) - min(later) <= 1
        asked = bootstrap * total
        assert abs(rounds[0].steps - asked) <= 1 or total - rounds[0].steps == count - 1


def test_samples_that_fill_no_batch_are_not_trained_on():
    rounds = round_steps(config("rounds.samples_seen=1099", "train.global_batch_size=100",
                                "rounds.count=2", "rounds.bootstrap_fraction=0.5"))  # fmt: skip
    assert [(r.begin, r.end) for r in rounds] == [(0, 5), (5, 10)]


def test_scores_come_from_the_model_unless_the_config_says_otherwise():
    def kinds(*words):
        return [scores_from(config(*words), round_) for round_ in range(3)]

    assert kinds() == ["model"] * 3
    assert kinds("score.rescore=once") == ["model", "carried", "carried"]
    assert kinds("score.signal=given", "score.given_scores=x") == ["given"] * 3
    assert kinds("select.keep_fraction=0") == ["none"] * 3


def test_the_last_round_scores_and_selects_only_if_asked_to():
    whole = ("train", "score", "select")
    assert [stages_of(config("rounds.count=2"), r) for r in range(2)] == [whole, whole]
    without = config("rounds.count=2", "rounds.final_selection=false")
    assert [stages_of(without, r) for r in range(2)] == [whole, ("train",)]


def test_ranks_that_do_not_divide_the_batch_are_refused_with_those_that_do():
    assert ranks_allowed(12) == [1, 2, 3, 4, 6, 12]
    assert ranks_allowed(4096, 8) == [1, 2, 4, 8]
    check_ranks(config("train.global_batch_size=12"), 6)
    with pytest.raises(UserError, match=r"5 processes do not divide .*=12; 1, 2, 3, 4, 6, 12"):
        check_ranks(config("train.global_batch_size=12"), 5)


PLANNED = (
    "rounds.samples_seen=10000", "rounds.count=3", "rounds.bootstrap_fraction=0.4",
    "train.global_batch_size=100", "select.keep_fraction=0.4", "select.diverse_fraction=0.2",
    "score.bank_size=50",
)  # fmt: skip


def test_the_outlook_is_the_arithmetic_of_the_config():
    plan = outlook(config(*PLANNED), base_rows=1000, pool_rows=1100, flops=2.0, parameters=10)
    # .4 + .2 of the base, .08 of it in both shares.
    assert [row["rows"] for row in plan.rounds] == [1000, 520, 520]
    assert [row["samples"] for row in plan.rounds] == [4000, 3000, 3000]
    assert [row["steps"] for row in plan.rounds] == [40, 30, 30]
    assert plan.rounds[1]["consumed_per_row"] == pytest.approx(3000 / 520)
    assert plan.training_flops == 3 * 2.0 * 10_000
    assert plan.scoring_passes == 3
    assert plan.scoring_flops == 2.0 * 3 * 1150
    assert plan.warnings == []


def test_the_outlook_follows_fractions_that_change_from_round_to_round():
    paced = config(*PLANNED, "select.keep_fraction=[0.2,0.5]", "select.diverse_fraction=[0,0.1]")
    plan = outlook(paced, base_rows=1000, pool_rows=1100, flops=2.0, parameters=10)
    assert [row["rows"] for row in plan.rounds] == [1000, 200, 550]


def test_weights_live_from_one_fresh_start_to_the_next():
    fresh = config("rounds.count=6", "rounds.fresh_weights_at=[2,5]")
    assert [weights_since(fresh, r) for r in range(6)] == [0, 0, 2, 2, 2, 5]
    on = config("rounds.count=3", "rounds.fresh_weights_at=[]")
    assert [weights_since(on, r) for r in range(3)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("words", "passes"),
    [
        ([], 3),
        (["rounds.final_selection=false"], 2),
        (["score.rescore=once"], 1),
        (["select.keep_fraction=0"], 0),
        (["score.signal=given", "score.given_scores=x"], 0),
    ],
)
def test_only_passes_of_the_model_are_counted_as_compute(words, passes):
    plan = outlook(config(*PLANNED, *words), 1000, 1100, 2.0, 10)
    assert plan.scoring_passes == passes
    assert plan.scoring_flops == passes * 2.0 * 1150


def test_a_plan_that_wastes_is_warned_about():
    plan = outlook(config(*PLANNED), 10_000, 10_000, 2.0, 10)
    wasted = next(w for w in plan.warnings if "never trained on" in w)
    assert wasted.startswith("round 1 consumes 0.58 of")
    assert any("scoring costs 1.0" in w and "3 passes over 10,000" in w for w in plan.warnings)


def test_a_selection_that_fills_no_batch_is_refused():
    with pytest.raises(UserError, match="round 0 would train on 99 rows"):
        outlook(config(*PLANNED), 99, 99, 2.0, 10)
    with pytest.raises(UserError, match="round 1 would train on 78 rows"):
        outlook(config(*PLANNED), 150, 150, 2.0, 10)


def test_scoring_is_counted_by_what_it_encodes():
    def spent(*words):
        found = compute_spent(config("rounds.count=3", *words), 1000, 1000, flops=1.0)
        return found["scoring_flops"]

    bank = ("score.bank_size=100",)
    assert spent(*bank) == 2 * 1100
    assert spent(*bank, "score.fraction=0.25") == 2 * (100 + 250)
    # A model before it there is in the second round alone; a checkpoint in both.
    also = "score.also=[learnability]"
    assert spent(*bank, also) == 1100 + 2 * 1100
    assert spent(*bank, also, "score.reference=x") == 2 * 2 * 1100
    assert spent(*bank, "score.also=[flipped_cosine]") == 2 * 2100
    consumed = "train.global_batch_size=10", "rounds.samples_seen=600"
    less = spent(*bank, *consumed, "score.rescore=unconsumed", "select.diverse_fraction=0")
    assert less == 2 * 1100 - min(200, 220)
