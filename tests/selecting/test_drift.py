import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from selffilter.selecting import drift
from selffilter.selecting.drift import (
    confident_lead,
    jaccard,
    memorisation_cue,
    moved,
    rank_correlation,
    repeat_counts,
)

ROWS = st.sets(st.integers(0, 40))


def test_jaccard_is_common_over_union():
    assert jaccard(np.array([1, 2, 3]), np.array([2, 3, 4, 5])) == 2 / 5
    assert jaccard(np.array([1, 2]), np.array([1, 2])) == 1
    assert jaccard(np.array([1]), np.array([], int)) == 0
    assert math.isnan(jaccard(np.array([], int), np.array([], int)))


def test_the_cue_is_a_difference_of_means_in_units_of_the_probe():
    seen = np.array([0.1, 0.3], np.float32)
    never = np.array([0.0, 0.2, 0.1], np.float32)
    cue = memorisation_cue(seen, never)
    assert (cue.consumed, cue.probe) == (2, 3)
    assert cue.difference == pytest.approx(0.2 - 0.1)
    assert cue.in_sd == pytest.approx((0.2 - 0.1) / 0.1)
    assert cue.standard_error == pytest.approx(math.sqrt(0.02 / 2 + 0.01 / 3) / 0.1)


def test_the_cue_of_rows_that_are_alike_is_zero_within_its_error_and_finds_a_shift():
    rng = np.random.default_rng(0)
    seen, never = rng.normal(size=(2, 4000)).astype(np.float32)
    alike = memorisation_cue(seen, never)
    assert abs(alike.in_sd) < 3 * alike.standard_error
    remembered = memorisation_cue(seen + 0.5, never)
    assert remembered.in_sd == pytest.approx(0.5, abs=3 * remembered.standard_error)


@pytest.mark.parametrize("side", [0, 1])
def test_fewer_than_two_rows_on_a_side_give_no_cue(side):
    scores = [np.array([0.1, 0.2, 0.3], np.float32)] * 2
    scores[side] = np.array([0.1], np.float32)
    cue = memorisation_cue(*scores)
    assert math.isnan(cue.difference)
    assert math.isnan(cue.in_sd)
    assert (cue.consumed, cue.probe)[side] == 1


def test_a_probe_without_spread_gives_a_difference_and_no_sd():
    cue = memorisation_cue(np.array([1, 2], np.float32), np.array([1, 1], np.float32))
    assert cue.difference == 0.5
    assert math.isnan(cue.in_sd)


class TestMoved:
    @given(ROWS, ROWS)
    def test_is_kept_new_and_dropped_however_rows_are_given(self, before, now):
        rows = [np.array(sorted(x), np.int64) for x in (before, now)]
        masks = [np.isin(np.arange(41), x) for x in rows]
        found = moved(*rows)
        assert (found.kept, found.new, found.dropped) == (
            len(before & now),
            len(now - before),
            len(before - now),
        )
        assert moved(*masks) == moved(rows[0], masks[1]) == moved(masks[0], rows[1]) == found
        assert moved(rows[0][::-1], rows[1]) == found

    @given(ROWS, ROWS)
    def test_jaccard_and_retention_are_shares(self, before, now):
        found = moved(*(np.array(sorted(x), np.int64) for x in (before, now)))
        if before and now:
            assert 0 <= found.jaccard <= found.retention <= 1
            assert found.retention == len(before & now) / min(len(before), len(now))
        else:
            assert math.isnan(found.retention)

    def test_a_share_that_is_only_made_larger_retains_all(self):
        small, large = np.arange(10), np.arange(40)
        assert moved(small, large).retention == moved(large, small).retention == 1
        assert moved(small, large).jaccard == 0.25

    def test_masks_of_two_pools_are_refused(self):
        with pytest.raises(ValueError, match="of 3 and of one of 4 rows"):
            moved(np.ones(3, bool), np.ones(4, bool))


class TestRankCorrelation:
    @given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=40))
    def test_is_spearmans_with_mid_ranks(self, pairs):
        before, now = np.array(pairs, np.float32).T
        found = rank_correlation(before, now, seed=0)
        if len(set(before)) == 1 or len(set(now)) == 1:
            assert math.isnan(found.value)
        else:
            assert found.value == pytest.approx(stats.spearmanr(before, now).statistic, abs=1e-9)
        assert (found.rows, found.of, found.sampled) == (len(pairs), len(pairs), False)

    def test_is_over_rows_that_are_scored_in_both(self):
        before = np.array([1, 2, 3, np.nan, -100, 5], np.float32)
        now = np.array([1, 2, 3, -100, np.inf, 4], np.float32)
        assert rank_correlation(before, now, 0).value == pytest.approx(1)
        assert rank_correlation(before, now, 0).of == 4
        assert math.isnan(rank_correlation(before[3:5], now[3:5], 0).value)
        assert math.isnan(rank_correlation(before[:0], now[:0], 0).value)

    def test_of_a_large_pool_is_of_a_sample_that_the_seed_draws(self, monkeypatch):
        chunks = drift.chunks
        monkeypatch.setattr(drift, "chunks", lambda rows: chunks(rows, 7000))
        rng = np.random.default_rng(0)
        before = rng.normal(size=50_000)
        now = before + rng.normal(size=50_000)
        whole = rank_correlation(before, now, 0)
        found = rank_correlation(before, now, 0, exact_rows=40_000, sampled_rows=10_000)
        assert found.sampled and not whole.sampled
        assert found.of == whole.rows == 50_000
        assert found.rows == pytest.approx(10_000, abs=400)
        assert found.value == pytest.approx(whole.value, abs=4 / math.sqrt(found.rows))
        again = rank_correlation(before, now, 0, exact_rows=40_000, sampled_rows=10_000)
        other = rank_correlation(before, now, 1, exact_rows=40_000, sampled_rows=10_000)
        assert again == found != other

    def test_of_pools_of_two_sizes_is_refused(self):
        with pytest.raises(ValueError, match="of 3 and of 4 rows"):
            rank_correlation(np.zeros(3), np.zeros(4), 0)


class TestRepeats:
    def test_are_counted_by_weight(self):
        found = repeat_counts(np.array([0, 1, 1, 2, 3, 4, 9, 0], np.uint16))
        assert (found.rows, found.samples, found.most) == (6, 20, 9)
        assert found.rows_of_weight == {"1": 2, "2": 1, "3-4": 2, "9-16": 1}
        assert found.effective_rows == pytest.approx(400 / (1 + 1 + 4 + 9 + 16 + 81))

    def test_of_nothing_are_none(self):
        assert repeat_counts(np.zeros(3, np.uint16)).rows_of_weight == {}
        assert repeat_counts(np.zeros(0, np.uint16)).effective_rows == 0

    @given(st.lists(st.integers(0, 300), max_size=40), st.integers(1, 9))
    def test_add_up_and_make_a_selection_no_more_varied(self, weights, size):
        chunks = drift.chunks
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(drift, "chunks", lambda rows: chunks(rows, size))
            found = repeat_counts(np.array(weights, np.uint16))
        assert sum(found.rows_of_weight.values()) == found.rows == sum(w > 0 for w in weights)
        assert found.samples == sum(weights)
        assert found.effective_rows <= found.rows + 1e-9


class TestTheLeadOfTheConfident:
    SCORES = np.array([5, 7, 6, np.nan, 1, 2, 3, np.inf], np.float32)

    def test_is_in_sd_of_the_diverse(self):
        found = confident_lead(self.SCORES, np.array([0, 1, 2, 3]), np.array([4, 5, 6, 7]))
        assert (found.first, found.second) == (3, 3)
        assert found.difference == pytest.approx(4)
        assert found.in_sd == pytest.approx(4)
        assert found.standard_error == pytest.approx(math.sqrt(2 / 3))

    def test_is_the_same_from_masks_and_in_chunks(self, monkeypatch):
        rng = np.random.default_rng(0)
        scores = rng.normal(1000, 1, 5000).astype(np.float32)
        confident = scores > 1000.5
        whole = confident_lead(scores, confident, ~confident)
        assert whole.in_sd == pytest.approx(
            (scores[confident].mean(dtype=float) - scores[~confident].mean(dtype=float))
            / scores[~confident].std(dtype=float, ddof=1)
        )
        finite = drift.finite_scores

        def in_pieces(scores_N, which):
            for part in finite(scores_N, which):
                yield from np.array_split(part, 13)

        monkeypatch.setattr(drift, "finite_scores", in_pieces)
        cut = confident_lead(scores, np.flatnonzero(confident), ~confident)
        assert cut.in_sd == pytest.approx(whole.in_sd, rel=1e-9)
        assert cut.standard_error == pytest.approx(whole.standard_error, rel=1e-9)

    def test_of_a_share_without_rows_is_none(self):
        found = confident_lead(self.SCORES, np.array([], int), np.array([4, 5]))
        assert math.isnan(found.in_sd)
        assert found.second == 2
