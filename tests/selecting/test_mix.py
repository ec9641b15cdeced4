import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selffilter.randomness import draw
from selffilter.selecting.mix import by_score, select_mix

ROWS = np.arange(0, 600, 3)
SCORES = np.random.default_rng(0).normal(size=len(ROWS)).astype(np.float32)


def uids_of(rows):
    """Give row r a uid such that the order of uids is not the order of rows."""
    return np.stack([np.full(len(rows), 9), 10_000 - rows], axis=1).astype(np.uint64)


def mix_of(rows=ROWS, scores=SCORES, keep=0.4, diverse=0.2, seed=0, round_=1, uids=uids_of):
    return select_mix(
        rows,
        scores,
        uids,
        keep_fraction=keep,
        diverse_fraction=diverse,
        seed=seed,
        round_=round_,
    )


def test_confident_are_exactly_the_best_of_the_scored_base():
    mix = mix_of()
    best = sorted(zip(-SCORES, ROWS, strict=True))[:80]
    assert mix.confident.tolist() == sorted(int(row) for _, row in best)
    assert mix.threshold == pytest.approx(-best[-1][0])


@given(st.integers(1, 120), st.floats(0, 1), st.floats(0, 1), st.integers(0, 5))
def test_sizes_are_exact(count, keep, diverse, round_):
    mix = mix_of(ROWS[:count], SCORES[:count], keep, diverse, round_=round_)
    drawn = set(draw(ROWS[:count], round(diverse * count), 0, "diverse", round_).tolist())
    confident = set(mix.confident.tolist())
    assert len(confident) == round(keep * count)
    assert mix.drawn == len(drawn) == round(diverse * count)
    assert set(mix.diverse.tolist()) == drawn - confident
    assert mix.rows_K.tolist() == sorted(drawn | confident)
    counts = mix.counts()
    assert counts["diverse_already_confident"] == len(drawn & confident)
    assert counts["confident"] + counts["diverse"] == counts["selected"] == len(mix.rows_K)
    assert counts["base"] == counts["scored_base"] == count


def test_each_row_carries_its_score_and_its_place_in_the_scored_base():
    mix = mix_of(diverse=1.0)
    np.testing.assert_array_equal(mix.rows_K, ROWS)
    np.testing.assert_array_equal(mix.scores_K, SCORES)
    places = {row: place for place, row in enumerate(ROWS[np.argsort(-SCORES)].tolist())}
    assert mix.rank_K.tolist() == [places[row] for row in ROWS.tolist()]


def test_ties_go_by_uid():
    mix = mix_of(scores=np.zeros(len(ROWS), np.float32), diverse=0)
    # The uids descend with the row.
    assert mix.confident.tolist() == ROWS[-80:].tolist()


def test_ties_of_score_and_uid_go_by_row():
    alike = lambda rows: np.ones((len(rows), 2), np.uint64)  # noqa: E731
    mix = mix_of(scores=np.zeros(len(ROWS), np.float32), diverse=0, uids=alike)
    assert mix.confident.tolist() == ROWS[:80].tolist()


def test_uids_above_two_to_the_63_are_ordered_as_unsigned():
    high = {1: (2**63 + 5, 0), 2: (3, 2**64 - 1), 3: (3, 1), 4: (2**64 - 1, 0)}
    order = by_score(
        np.array([1, 2, 3, 4]),
        np.full(4, 0.5, np.float32),
        lambda rows: np.array([high[row] for row in rows.tolist()], dtype=np.uint64),
    )
    assert order.tolist() == [2, 1, 0, 3]


def test_only_tied_rows_are_asked_for_their_uid():
    asked = []

    def uids(rows):
        asked.extend(rows.tolist())
        return uids_of(rows)

    by_score(np.arange(6), np.array([3, 1, 2, 1, 0, 3], np.float32), uids)
    assert sorted(asked) == [0, 1, 3, 5]
    by_score(np.arange(3), np.array([3, 1, 2], np.float32), lambda _: pytest.fail("asked"))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_the_order_in_which_rows_come_does_not_matter(seed):
    tied = np.round(SCORES, 1)
    order = np.random.default_rng(seed).permutation(len(ROWS))
    one, other = mix_of(scores=tied), mix_of(ROWS[order], tied[order])
    for name in ("rows_K", "confident_K", "scores_K", "rank_K"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)
    assert one.counts() == other.counts()


def test_rows_without_a_score_are_never_confident_and_are_no_part_of_the_scored_base():
    scores = SCORES.copy()
    scores[::4] = np.nan
    mix = mix_of(scores=scores, keep=1.0, diverse=0.5)
    assert mix.confident.tolist() == ROWS[np.isfinite(scores)].tolist()
    assert mix.scored == 150
    unscored = np.isnan(mix.scores_K)
    assert unscored.any()
    assert not mix.confident_K[unscored].any()
    assert (mix.rank_K[unscored] == -1).all()
    assert len(mix_of(scores=scores, keep=0.4).confident) == 60


def test_nothing_kept_is_a_uniform_draw_that_does_not_look_at_scores():
    mix = mix_of(keep=0, diverse=0.3)
    blind = mix_of(scores=np.full(len(ROWS), np.nan, np.float32), keep=0, diverse=0.3)
    assert mix.rows_K.tolist() == blind.rows_K.tolist()
    assert len(mix.rows_K) == 60
    assert not mix.confident_K.any()
    assert np.isnan(mix.threshold)
    assert mix_of(keep=0, diverse=1).rows_K.tolist() == ROWS.tolist()


def test_the_diverse_draw_is_uniform_over_the_whole_base_whatever_the_scores():
    rounds = 2000
    drawn = np.zeros(len(ROWS))
    for round_ in range(rounds):
        drawn[mix_of(keep=0, diverse=0.2, round_=round_).rows_K // 3] += 1
    assert abs(drawn - 0.2 * rounds).max() < 5 * np.sqrt(rounds * 0.2 * 0.8)
    # Those that would be confident are drawn as often as the others, and stay confident.
    confident = mix_of().confident // 3
    sd = np.sqrt(rounds * 0.2 * 0.8 / len(confident))
    assert abs(drawn[confident].mean() - 0.2 * rounds) < 5 * sd


def test_the_draw_is_anew_each_round_and_each_seed_and_the_same_again():
    shares = {
        (seed, round_): tuple(mix_of(seed=seed, round_=round_, keep=0).rows_K)
        for seed in (0, 1)
        for round_ in (0, 1, 2)
    }
    assert len(set(shares.values())) == 6
    assert tuple(mix_of(seed=1, round_=2, keep=0).rows_K) == shares[1, 2]
