import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from selffilter.scoring import elimination
from selffilter.scoring.elimination import elimination_steps
from selffilter.scoring.moments import SecondMoments


def clustered(rows, width, seed=0, copies=0):
    """Features with a common direction and a spectrum that falls off, as of images by a CLIP."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.arange(1, width + 1) ** -0.5
    features = torch.randn(rows, width, generator=generator) * scale
    features[:, width // 2] += 1.5
    if copies:
        features[-copies:] = features[:copies]
    return F.normalize(features, dim=-1)


def uids_of(rows):
    return np.stack([np.zeros(rows), np.arange(rows)], 1).astype(np.uint64)


def direct(features, uids, keep, rounds, first=None):
    """Σ and all scores anew in each round, in float64, as the papers have it."""
    features = features.double().numpy()
    alive, step = np.arange(len(features)), np.full(len(features), rounds + 1)
    drop = -(-(len(features) - keep) // rounds)
    sigma = features.T @ features / len(features) if first is None else first
    for t in range(1, rounds + 1):
        count = min(drop, len(alive) - keep)
        scores = np.einsum("nd,de,ne->n", features[alive], sigma, features[alive]).astype("f4")
        order = np.lexsort((alive, uids[alive, 1], uids[alive, 0]))[::-1]
        order = order[np.argsort(scores[order], kind="stable")][:count]
        step[alive[order]] = t
        alive = np.delete(alive, order)
        sigma = features[alive].T @ features[alive] / len(alive)
    return step


def steps(features, keep, rounds, uids=None, first=None, asked=None):
    def features_of(rows):
        if asked is not None:
            asked.append(len(rows))
        assert (np.diff(rows) > 0).all()
        return features[torch.from_numpy(rows)]

    uids = uids_of(len(features)) if uids is None else uids
    rows = np.arange(len(features))
    return elimination_steps(features_of, rows, uids, keep=keep, rounds=rounds, first=first)


@given(
    rows=st.integers(1, 60),
    keep=st.floats(0, 1),
    rounds=st.integers(1, 20),
    seed=st.integers(0, 5),
)
def test_it_drops_what_the_direct_way_drops(rows, keep, rounds, seed):
    keep = max(1, round(keep * rows))
    features = clustered(rows, 6, seed)
    found = steps(features, keep, rounds)
    np.testing.assert_array_equal(found, direct(features, uids_of(rows), keep, rounds))
    assert (found == rounds + 1).sum() == keep
    assert found.dtype == np.int32


@pytest.mark.parametrize("at_once", [64, 8192])
def test_at_a_larger_size_it_does_so_while_it_looks_at_few_rows_a_round(at_once, monkeypatch):
    monkeypatch.setattr(elimination, "_ROWS_AT_ONCE", at_once)
    features, asked = clustered(4000, 32), []
    found = steps(features, 1000, 100, asked=asked)
    np.testing.assert_array_equal(found, direct(features, uids_of(4000), 1000, 100))
    looked_at_directly = 2 * sum(range(4000, 1000, -30))
    assert sum(asked) < looked_at_directly / 10


def test_the_first_round_goes_by_the_whole_pool(make_features):
    """VAS-D: Σ_0 is taken before the cut, over rows that do not take part."""
    pool, features = clustered(900, 16, seed=1), clustered(300, 16, seed=2)
    first = SecondMoments.of(torch.cat([features, pool.roll(3, -1)]))
    found = steps(features, 100, 20, first=first)
    expected = direct(features, uids_of(300), 100, 20, first.sigma("image").numpy())
    np.testing.assert_array_equal(found, expected)
    assert (found != steps(features, 100, 20)).any()


def test_ties_go_by_uid_and_row_and_the_smaller_stays():
    """Here pairs of equal images, of which one of two goes in the last round."""
    features = clustered(40, 8, copies=20)
    uids = np.random.default_rng(0).permutation(uids_of(40))
    for keep in (39, 21, 7):
        found = steps(features, keep, 5, uids)
        np.testing.assert_array_equal(found, direct(features, uids, keep, 5))
    same = torch.ones(10, 4) / 2
    found = steps(same, 4, 2, uids[:10])
    assert np.argsort(found, kind="stable").tolist() != list(range(10))
    worst_first = np.argsort(uids[:10, 1])[::-1]
    assert found[worst_first].tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 3, 3]


def test_the_order_of_the_rows_changes_nothing():
    features, uids = clustered(200, 8, copies=50), uids_of(200)
    order = np.random.default_rng(0).permutation(200)
    found = steps(features[order], 60, 10, uids[order])
    np.testing.assert_array_equal(found, steps(features, 60, 10, uids)[order])


def test_no_more_rounds_than_rows_to_drop():
    assert sorted(steps(clustered(10, 4), 7, 100)) == [1, 2, 3] + [101] * 7
    assert sorted(steps(clustered(10, 4), 4, 4)) == [1, 1, 2, 2, 3, 3] + [5] * 4
    assert steps(clustered(10, 4), 10, 3).tolist() == [4] * 10


@pytest.mark.parametrize(("keep", "rounds"), [(0, 1), (11, 1), (5, 0)])
def test_what_cannot_be_is_refused(keep, rounds):
    with pytest.raises(ValueError, match=f"cannot keep {keep} of 10 rows in {rounds} rounds"):
        steps(clustered(10, 4), keep, rounds)
