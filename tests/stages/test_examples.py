"""Which samples a round's tables show."""

import numpy as np
import pytest

from selffilter.selecting import scratch
from selffilter.stages import examples as module
from selffilter.stages.examples import Ranks, Selected, drawn_base, find_examples, least

N = 400


def marks(rows):
    found = np.zeros(N, bool)
    found[list(rows)] = True
    return found


@pytest.fixture
def rounds():
    """Scores that rise with the row, then turned round for rows 100 to 109 alone."""
    before = np.arange(N, dtype=np.float32)
    now = before.copy()
    now[100:110] = 1000 + np.arange(10)
    now[7] = np.nan
    return (
        Selected(now, marks([*range(350, 400), *range(100, 110)]), marks(range(0, 40, 2))),
        Selected(before, marks(range(340, 400)), marks(range(1, 40, 2))),
    )


def found(rounds, base_N=None, count=5, **changed):
    now, before = rounds
    base_N = np.ones(N, bool) if base_N is None else base_N
    drawn = drawn_base(base_N, seed=0)
    ranks_before = None if before is None else Ranks(before.scores_N, drawn)
    asked = {"count": count, "seed": 0, "round_": 1} | changed
    ranks = Ranks(now.scores_N, drawn)
    return find_examples(now, before, base_N, ranks, ranks_before, drawn, **asked)


def test_the_extremes_are_of_the_base_and_the_extreme_comes_first(rounds):
    base_N = np.ones(N, bool)
    base_N[[0, 109]] = False
    tables = found(rounds, base_N)
    assert tables["highest"].tolist() == [108, 107, 106, 105, 104]
    assert tables["lowest"].tolist() == [1, 2, 3, 4, 5]
    assert found(rounds, count=9)["lowest"].tolist() == [0, 1, 2, 3, 4, 5, 6, 8, 9]  # 7 has none


def test_newly_kept_and_dropped_are_confident_in_one_round_alone(rounds):
    tables = found(rounds, count=100)
    assert sorted(tables["newly_kept"].tolist()) == list(range(100, 110))
    assert sorted(tables["newly_dropped"].tolist()) == list(range(340, 350))
    few = [found(rounds, count=3, round_=r)["newly_kept"].tolist() for r in (1, 1, 2)]
    assert few[0] == few[1] != few[2]  # by lot, each round anew
    assert set(few[0]) <= set(range(100, 110))


def test_the_most_disputed_have_changed_their_places_most(rounds):
    # Row 100 went from place 100 to 390 of 400, row 109 from 109 to 399; the others moved by 10.
    assert set(found(rounds, count=10)["most_disputed"].tolist()) == set(range(100, 110))


def test_the_diverse_are_drawn_from_the_diverse_share(rounds):
    diverse = found(rounds)["diverse"]
    assert len(diverse) == 5 and set(diverse.tolist()) <= set(range(0, 40, 2))


def test_the_first_round_has_nothing_to_compare_with(rounds):
    assert set(found((rounds[0], None))) == {"highest", "lowest", "diverse"}


def test_what_nothing_is_scored_in_shows_its_draw_alone(rounds):
    nothing = Selected(np.full(N, np.nan, np.float32), marks([]), marks(range(9)))
    assert set(found((nothing, nothing))) == {"diverse"}


def test_chunks_change_nothing(rounds, monkeypatch):
    whole = {name: rows.tolist() for name, rows in found(rounds).items()}
    monkeypatch.setattr(module, "chunks", lambda count: scratch.chunks(count, 37))
    assert {name: rows.tolist() for name, rows in found(rounds).items()} == whole


def test_a_place_is_the_share_that_is_worse_and_ties_share_the_middle():
    scores = np.array([5, 1, 3, 3, np.nan], np.float32)
    ranks = Ranks(scores, np.arange(5))
    assert ranks.places(np.arange(4)).tolist() == [0.875, 0.125, 0.5, 0.5]
    assert np.isnan(ranks.places(np.array([4]))).all()


def test_of_a_large_base_a_draw_is_compared_the_same_in_every_round():
    base_N = np.ones(100_000, bool)
    base_N[::2] = False
    drawn = drawn_base(base_N, seed=3, most=1000)
    assert 800 < len(drawn) < 1200 and (drawn % 2 == 1).all() and (np.diff(drawn) > 0).all()
    assert np.array_equal(drawn, drawn_base(base_N, seed=3, most=1000))


def test_ties_go_by_row():
    keys = np.zeros(50)
    assert least(50, 3, lambda part: (np.arange(50)[part], keys[part])).tolist() == [0, 1, 2]
