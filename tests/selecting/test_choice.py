import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selffilter.config import SelectConfig
from selffilter.errors import UserError
from selffilter.randomness import draw
from selffilter.selecting.choice import Candidates, choose
from selffilter.selecting.clean_share import CleanShare
from selffilter.selecting.groups import Groups
from selffilter.selecting.scratch import Scratch

N = 200
SCORES = np.random.default_rng(0).normal(size=N).astype(np.float32)
EVERY = np.ones(N, bool)


def uids_of(rows):
    """Give row r a uid such that the order of uids is not the order of rows."""
    return np.stack([np.full(len(rows), 9), 10_000 - rows], axis=1).astype(np.uint64)


def choice_of(
    scores=SCORES, keep=0.4, diverse=0.2, seed=0, round_=1, *, base=None, uids=uids_of,
    samples=None, merit=None, columns=None, balance=None, strata=None, scratch=None,
    clean=None, **fields,
):  # fmt: skip
    base = np.ones(len(scores), bool) if base is None else base
    config = SelectConfig(keep_fraction=[keep], diverse_fraction=[diverse], **fields)
    candidates = Candidates(scores, base, uids, merit, columns or {}, balance, strata, clean)
    return choose(candidates, config, seed=seed, round_=round_, samples=samples, scratch=scratch)


# --- the mix, as the paper has it ----------------------------------------------------------------


def test_confident_are_exactly_the_best_of_the_scored_base():
    choice = choice_of()
    best = sorted(zip(-SCORES, range(N), strict=True))[:80]
    assert choice.confident.tolist() == sorted(row for _, row in best)
    assert choice.threshold == pytest.approx(-best[-1][0])


@given(st.integers(1, 120), st.floats(0, 1), st.floats(0, 1), st.integers(0, 5))
def test_sizes_are_exact_to_a_row_and_nobody_is_lost_or_invented(count, keep, diverse, round_):
    choice = choice_of(SCORES[:count], keep, diverse, round_=round_)
    purpose = (0, "diverse", round_)
    drawn = set(draw(np.arange(count), round(diverse * count), *purpose).tolist())
    confident = set(choice.confident.tolist())
    assert len(confident) == round(keep * count)
    assert choice.drawn == len(drawn) == round(diverse * count)
    assert set(choice.diverse.tolist()) == drawn - confident
    assert choice.rows.tolist() == sorted(drawn | confident)
    counts = choice.counts()
    assert counts["diverse_already_confident"] == len(drawn & confident)
    assert counts["confident"] + counts["diverse"] == counts["selected"] == len(choice.rows)
    assert counts["base"] == counts["scored_base"] == count


def test_ranks_count_the_better_rows():
    choice = choice_of(diverse=1.0)
    places = np.argsort(np.argsort(-SCORES))
    assert choice.ranking.ranks(SCORES).tolist() == places.tolist()


def test_ties_go_by_uid():
    choice = choice_of(np.zeros(N, np.float32), diverse=0)
    assert choice.confident.tolist() == list(range(120, 200))  # the uids descend with the row
    assert set(choice.ranking.ranks(np.zeros(3, np.float32))) == {0}


def test_ties_of_score_and_uid_go_by_row():
    alike = lambda rows: np.ones((len(rows), 2), np.uint64)  # noqa: E731
    choice = choice_of(np.zeros(N, np.float32), diverse=0, uids=alike)
    assert choice.confident.tolist() == list(range(80))


def test_keeping_more_keeps_all_that_was_kept():
    kept = [set(choice_of(keep=keep).confident) for keep in np.linspace(0, 1, 21)]
    assert all(less <= more for less, more in itertools.pairwise(kept))


def test_rows_without_a_score_are_never_confident_and_are_no_part_of_the_scored_base():
    scores = SCORES.copy()
    scores[::4], scores[1] = np.nan, np.inf
    choice = choice_of(scores, keep=1.0, diverse=0.5)
    assert choice.confident.tolist() == np.flatnonzero(np.isfinite(scores)).tolist()
    assert len(choice.ranking) == 149
    assert set(choice.ranking.ranks(scores[::4])) == {-1}
    assert len(choice_of(scores, keep=0.4).confident) == 60


def test_rows_outside_the_base_are_neither_kept_nor_drawn():
    base = EVERY.copy()
    base[:100] = False
    choice = choice_of(base=base, keep=0.5, diverse=1)
    assert choice.rows.tolist() == list(range(100, 200))
    assert len(choice.confident) == 50


def test_nothing_kept_is_a_uniform_draw_that_does_not_look_at_scores():
    choice = choice_of(keep=0, diverse=0.3)
    blind = choice_of(np.full(N, np.nan, np.float32), keep=0, diverse=0.3)
    assert choice.rows.tolist() == blind.rows.tolist()
    assert len(choice.rows) == 60
    assert not choice.confident_N.any()
    assert np.isnan(choice.threshold)
    assert choice_of(keep=0, diverse=1).rows.tolist() == list(range(N))


def test_the_diverse_draw_is_uniform_over_the_whole_base_whatever_the_scores():
    rounds = 1000
    drawn = np.zeros(N)
    for round_ in range(rounds):
        drawn[choice_of(keep=0, diverse=0.2, round_=round_).rows] += 1
    assert abs(drawn - 0.2 * rounds).max() < 5 * np.sqrt(rounds * 0.2 * 0.8)
    # Those that would be confident are drawn as often as the others, and stay confident.
    confident = choice_of().confident
    sd = np.sqrt(rounds * 0.2 * 0.8 / len(confident))
    assert abs(drawn[confident].mean() - 0.2 * rounds) < 5 * sd


def test_the_draw_is_anew_each_round_and_each_seed_and_the_same_again():
    shares = {
        (seed, round_): tuple(choice_of(seed=seed, round_=round_, keep=0).rows)
        for seed in (0, 1)
        for round_ in (0, 1, 2)
    }
    assert len(set(shares.values())) == 6
    assert tuple(choice_of(seed=1, round_=2, keep=0).rows) == shares[1, 2]


def test_arrays_on_disk_give_the_same_choice(tmp_path):
    tied = np.round(SCORES, 1)
    memory, disk = choice_of(tied), choice_of(tied, scratch=Scratch(0, tmp_path))
    for name in ("weight_N", "confident_N"):
        np.testing.assert_array_equal(getattr(memory, name), getattr(disk, name), name)
    assert isinstance(disk.ranking.keys_M, np.memmap)
    assert memory.counts() == disk.counts()
    assert list(tmp_path.iterdir()) == []


# --- other rules for the confident share ---------------------------------------------------------


def test_a_threshold_keeps_what_reaches_it_but_no_more_than_the_fraction():
    at = float(np.sort(SCORES)[-30])
    choice = choice_of(confident="threshold", threshold=[at])
    assert choice.confident.tolist() == np.flatnonzero(np.float32(at) <= SCORES).tolist()
    assert len(choice.confident) == 30
    capped = choice_of(confident="threshold", threshold=[-100.0])
    assert len(capped.confident) == 80
    assert capped.counts()["confident_found"] == 200
    assert len(choice_of(confident="threshold", threshold=[100.0]).confident) == 0


def two_hills(rows=4000, clean=0.3):
    rng = np.random.default_rng(1)
    good = rng.random(rows) < clean
    return np.where(good, rng.normal(3, 0.7, rows), rng.normal(0, 0.7, rows)).astype(np.float32)


def test_a_mixture_keeps_the_better_hill():
    scores = two_hills()
    choice = choice_of(scores, keep=0.9, diverse=0, confident="mixture")
    assert 1.2 < choice.threshold < 1.8
    assert choice.counts()["mixture_share"] == pytest.approx(0.3, abs=0.02)
    surer = choice_of(scores, keep=0.9, diverse=0, confident="mixture", clean_probability=0.99)
    assert surer.threshold > choice.threshold


def test_as_many_rows_are_kept_as_are_clean_at_least():
    known = CleanShare(share=0.31, standard_error=0.02, quantile=0.4, rows=900)
    choice = choice_of(keep=0.9, diverse=0, confident="clean_share", clean=known)
    assert len(choice.confident) == 62
    assert len(choice_of(keep=0.2, diverse=0, confident="clean_share", clean=known).confident) == 40
    assert len(choice_of(keep=0.9, diverse=0, confident="clean_share").confident) == 180


def test_without_two_hills_the_fraction_is_kept():
    choice = choice_of(np.zeros(N, np.float32), confident="mixture")
    assert len(choice.confident) == 80
    assert "mixture_share" not in choice.counts()


def test_samples_are_drawn_by_score_with_repeats():
    choice = choice_of(keep=0.8, diverse=0, confident="sample", temperature=0.3)
    assert choice.weight_N.sum() == 160
    times = choice.weight_N[np.argsort(-SCORES)]
    assert times[:20].mean() > 3 * max(1, times[100:].mean())
    assert set(np.flatnonzero(choice.weight_N)) == set(choice.confident)
    capped = choice_of(keep=0.8, diverse=0, confident="sample", temperature=0.3,
                       repeat_penalty=0.0, most_repeats=2)  # fmt: skip
    assert capped.weight_N.max() == 2 and capped.weight_N.sum() == 160


def test_rows_are_ranked_by_merit_where_there_is_one():
    merit = -SCORES
    choice = choice_of(merit=merit, diverse=0)
    assert choice.confident.tolist() == choice_of(-SCORES, diverse=0).confident.tolist()


# --- staged cuts ---------------------------------------------------------------------------------


def test_cuts_come_first_and_are_of_the_original_pool():
    other = np.random.default_rng(5).normal(size=N).astype(np.float32)
    base = EVERY.copy()
    base[:40] = False
    choice = choice_of(base=base, keep=1, diverse=0.5, columns={"a": other},
                       cuts=["keep a:0.3"])  # fmt: skip
    best = [row for row in np.argsort(-other) if base[row]][:60]
    assert choice.confident.tolist() == sorted(best)
    assert choice.counts()["cuts"][0]["kept"] == 60
    assert len(choice.diverse) > 0  # the draw is from all of the base
    with pytest.raises(UserError, match=r"select\.cuts names b, and the scores have a"):
        choice_of(columns={"a": other}, cuts=["keep b:0.3"])


# --- groups --------------------------------------------------------------------------------------

CODES = np.repeat([0, 1, 2, -1], [100, 60, 30, 10]).astype(np.int32)
GROUPS = Groups("language", CODES, ["en", "de", "fr"])
SKEWED = np.where(CODES == 0, SCORES + 3, SCORES).astype(np.float32)


def by_group(choice):
    return np.bincount(CODES[choice.confident] + 1, minlength=4).tolist()


def test_a_floor_is_met_to_a_row_and_the_rest_is_the_best():
    free = choice_of(SKEWED, diverse=0)
    assert by_group(free)[1] > 75
    choice = choice_of(SKEWED, diverse=0, balance=GROUPS, group_floor=0.5)
    # Half of 40 % of 60 and of 30 rows; rows of no known group are bound by nothing.
    assert by_group(choice)[2:] == [12, 6]
    assert len(choice.confident) == 80
    for code, count in ((1, 12), (2, 6)):
        rows = np.flatnonzero(code == CODES)
        best = rows[np.argsort(-SKEWED[rows])][:count]
        assert set(best) <= set(choice.confident)


def test_a_floor_of_one_keeps_the_same_share_of_every_group():
    known = dataclasses.replace(GROUPS, codes_N=np.where(CODES < 0, 2, CODES).astype(np.int32))
    choice = choice_of(SKEWED, diverse=0, balance=known, group_floor=1.0)
    assert known.counts(choice.confident_N).tolist() == [40, 24, 16, 0]


def test_a_cap_hands_on_what_it_takes():
    choice = choice_of(SKEWED, diverse=0, balance=GROUPS, group_cap=0.5)
    assert by_group(choice)[1] == 40
    assert len(choice.confident) == 80
    others = np.flatnonzero(CODES != 0)
    best = others[np.argsort(-SKEWED[others])][:40]
    assert set(best) < set(choice.confident)


def test_caps_that_leave_too_few_keep_what_they_may():
    choice = choice_of(SKEWED, diverse=0, balance=GROUPS, group_cap=0.1)
    assert by_group(choice) == [10, 8, 8, 8]


@given(
    st.lists(st.integers(-1, 3), min_size=1, max_size=80),
    st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 1), st.integers(0, 3),
)  # fmt: skip
@settings(max_examples=150)
def test_quotas_are_the_best_that_bounds_allow(codes, keep, floor, cap, digits):
    """The largest sum of merits with so many rows, by exchanging: no better row could come in."""
    codes = np.array(codes, np.int32)
    scores = np.round(SCORES[: len(codes)], digits)
    groups = Groups("g", codes, ["a", "b", "c", "d"])
    choice = choice_of(scores, keep, 0, balance=groups, group_floor=floor, group_cap=cap)
    count = round(keep * len(codes))
    sizes = groups.counts()
    low = np.minimum(
        np.floor(floor * count / len(codes) * sizes + 1e-9), np.floor(cap * count + 1e-9)
    )
    high = np.full(5, np.floor(cap * count + 1e-9))
    low[-1], high[-1] = 0, count
    kept = groups.counts(choice.confident_N)
    assert (low <= kept).all() and (kept <= high).all()
    assert kept.sum() == min(count, np.minimum(sizes, high).sum())
    inside, places = choice.confident_N, np.where(codes < 0, 4, codes)
    for group in range(5):
        mine = places == group
        ordered = np.lexsort((10_000 - np.flatnonzero(mine), -scores[mine]))
        np.testing.assert_array_equal(inside[mine][ordered], np.arange(mine.sum()) < kept[group])
    for a in range(5):  # one row of a given up for one of b
        for b in range(5):
            if a != b and kept[a] > low[a] and kept[b] < min(high[b], sizes[b]):
                worst = scores[(places == a) & inside].min()
                assert worst >= scores[(places == b) & ~inside].max()


def test_the_diverse_draw_is_shared_out_over_strata():
    choice = choice_of(keep=0, diverse=0.3, strata=GROUPS)
    counts = np.bincount(CODES[choice.rows] + 1, minlength=4)
    assert counts.sum() == 60
    assert counts.tolist() == [10, 17, 17, 16]


# --- weights -------------------------------------------------------------------------------------


def test_weights_fill_the_coming_round_and_the_best_stand_once_more():
    choice = choice_of(keep=0.4, diverse=0.1, weights="samples", samples=300)
    assert choice.weight_N.sum() == 300
    confident = choice.confident[np.argsort(-SCORES[choice.confident])]
    weights = choice.weight_N[confident]
    assert weights.sum() == 300 - 20 + 0 * len(choice.diverse)
    assert (np.diff(weights.astype(int)) <= 0).all()
    assert set(weights) == {3, 4}


def test_the_diverse_can_have_a_share_of_the_samples():
    choice = choice_of(keep=0.4, diverse=0.1, weights="samples", samples=1000, diverse_samples=0.3)
    assert choice.weight_N[choice.confident_N].sum() == 700
    assert choice.weight_N[choice.diverse_N].sum() == 300
    assert np.ptp(choice.weight_N[choice.diverse_N]) <= 1


def test_a_short_round_leaves_every_weight_at_one():
    choice = choice_of(keep=0.4, diverse=0.1, weights="samples", samples=10)
    assert set(choice.weight_N[choice.rows]) == {1}
    plain = choice_of(keep=0.4, diverse=0.1)
    assert choice.rows.tolist() == plain.rows.tolist()
