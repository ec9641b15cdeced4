import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selffilter.pool.defects import find_duplicates

# Few different halves, so that whole uids, and halves of them, meet again.
UID = st.tuples(st.integers(0, 3), st.integers(0, 3))
SHARDS = st.lists(st.lists(UID, max_size=12), max_size=6)


def arrays(shards):
    return [np.array(shard, np.uint64).reshape(-1, 2) for shard in shards]


def by_hand(shards):
    seen, again = set(), []
    for row, uid in enumerate(uid for shard in shards for uid in shard):
        if uid in seen:
            again.append(row)
        seen.add(uid)
    return again


@given(SHARDS, st.integers(1, 30))
def test_all_but_the_first_of_equal_uids_are_found_whatever_fits_into_memory(shards, at_once):
    found = find_duplicates(lambda: iter(arrays(shards)), sum(map(len, shards)), at_once)
    assert found.tolist() == by_hand(shards)


def test_few_are_looked_at_a_time():
    rng = np.random.default_rng(0)
    uids = rng.integers(0, 1 << 64, (20_000, 2), dtype=np.uint64)
    uids[15_000:15_100] = uids[:100]
    sorted_at_a_time = []
    several = "selffilter.pool.defects._several"

    def spy(digests):
        sorted_at_a_time.append(len(digests))
        digests.sort()
        return np.unique(digests[1:][digests[1:] == digests[:-1]])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(several, spy)
        found = find_duplicates(lambda: iter(np.split(uids, 20)), len(uids), 2_000)
    assert found.tolist() == list(range(15_000, 15_100))
    assert len(sorted_at_a_time) == 10
    assert max(sorted_at_a_time) < 2_300


def test_uids_that_are_small_numbers_spread_over_the_ranges_too():
    uids = np.stack([np.zeros(10_000, np.uint64), np.arange(10_000, dtype=np.uint64)], axis=1)
    sizes = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "selffilter.pool.defects._several",
            lambda digests: sizes.append(len(digests)) or np.empty(0, np.uint64),
        )
        find_duplicates(lambda: iter([uids]), len(uids), 1_000)
    assert max(sizes) < 1_200
