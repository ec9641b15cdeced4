"""Controls: what each changes, told as data."""

from __future__ import annotations

from pathlib import Path

import pytest

from selffilter.config import load_config
from selffilter.errors import UserError
from selffilter.experiments.controls import LOOP, read_controls, read_method, words
from selffilter.experiments.facts import NEEDS, PLACEHOLDERS

CONTROLS = read_controls()


def test_there_is_every_control_that_a_claim_needs() -> None:
    assert set(CONTROLS) >= {
        "loop", "uniform", "oracle", "oracle_after_bootstrap", "one_shot", "frozen", "top_only",
        "random_subset", "uniform_equal_compute", "loop_equal_compute", "fixed_set", "mix",
        "cross_fit",
    }  # fmt: skip


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_is_described_and_all_it_needs_is_there(name: str) -> None:
    method = CONTROLS[name]
    assert len(method.about.split()) > 3
    assert set(method.placeholders) <= set(PLACEHOLDERS)
    assert set(method.uses) <= set(CONTROLS)
    assert set(NEEDS) <= set(PLACEHOLDERS)


def test_the_loop_changes_nothing() -> None:
    assert CONTROLS[LOOP].changes == {}


def test_placeholders_keep_the_type_of_what_they_stand_for() -> None:
    facts = {"clean_share": 0.25, "truth_scores": Path("/a b/scores.parquet")}
    config = load_config(
        None,
        [
            "pool.shards=[x]",
            *words(
                {
                    "select.keep_fraction": "{clean_share}",
                    "score.given_scores": "{truth_scores}",
                    "name": "kept-{clean_share}",
                    "rounds.final_selection": False,
                    "select.diverse_fraction": ["{clean_share}", 0.5],
                    "evaluate.zero_shot": ["a, b", "c: d"],
                    "train.clip_grad_norm": None,
                    "train.learning_rate": 1e-05,
                },
                facts,
            ),
        ],
    )
    assert config.select.keep_fraction == [0.25]
    assert config.select.diverse_fraction == [0.25, 0.5]
    assert config.score.given_scores == "/a b/scores.parquet"
    assert config.name == "kept-0.25"
    assert config.rounds.final_selection is False
    assert config.evaluate.zero_shot == ["a, b", "c: d"]
    assert config.train.clip_grad_norm is None
    assert config.train.learning_rate == 1e-5


@pytest.mark.parametrize(
    ("given", "start"),
    [
        (["score.signal=cosine"], "bootstrap"),
        (["select.keep_fraction=0.3", "select.diverse_fraction=0.1"], "bootstrap"),
        (["train.learning_rate=1e-3"], "scratch"),
        (["score.signal=cosine", "score.weights=raw"], "scratch"),  # round 0 leaves other weights
    ],
)
def test_a_variant_shares_the_bootstrap_only_where_that_changes_nothing(
    given: list[str], start: str
) -> None:
    assert read_method("v", given).start == start


def test_a_variant_may_say_where_it_starts() -> None:
    given = {"start": "scratch", "changes": {"score": {"signal": "cosine"}}}
    method = read_method("v", given)
    assert (method.start, method.changes) == ("scratch", {"score.signal": "cosine"})


def test_a_word_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match=r"'score\.signal' is not key=value"):
        read_method("v", ["score.signal"])
