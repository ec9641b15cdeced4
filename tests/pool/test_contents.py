import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from selffilter.pool.contents import PERCENTILES, Contents, Sizes, contents_of
from selffilter.pool.index import Pool, build_index


@given(st.lists(st.integers(0, 1 << 40), min_size=1, max_size=50), st.integers(1, 5))
def test_sizes_are_right_to_a_percent_however_they_come(sizes, parts):
    whole = Sizes()
    for part in np.array_split(np.array(sizes, np.int64), parts):
        one = Sizes()
        one.add(part)
        whole.merge(one)
    found = whole.record()
    assert (found["count"], found["total"]) == (len(sizes), sum(sizes))
    assert (found["mean"], found["largest"]) == (sum(sizes) / len(sizes), max(sizes))
    for p in PERCENTILES:
        exact = np.percentile(sizes, p, method="inverted_cdf")
        assert abs(found[f"p{p}"] - exact) <= 0.01 * exact + 1


def test_no_sizes_have_no_percentiles():
    assert Sizes().record() | {"count": 0, "p50": None, "mean": None} == Sizes().record()


def test_a_pool_is_counted_by_source(make_tar, tmp_path):
    uid = json.dumps({"uid": "a" * 32}).encode()
    make_tar(
        tmp_path / "a" / "0.tar",
        [("1", {"jpg": b"12", "txt": b"t", "json": uid}), ("2", {"png": b"1234", "txt": b"tt"}),
         ("3", {"txt": b"t"})],
    )  # fmt: skip
    make_tar(tmp_path / "b" / "0.tar", [("1", {"jpg": b"1", "txt": b"t", "json": uid})])
    whole = (tmp_path / "b" / "0.tar").read_bytes()
    (tmp_path / "b" / "1.tar").write_bytes(whole[: 512 * 6])
    specs = [str(tmp_path / name) for name in "ab"]
    a, b = contents_of(Pool(tmp_path / "i", build_index(specs, tmp_path / "i")))
    assert (a.shards, a.samples, a.kinds) == (1, 3, {"jpg": 1, "png": 1})
    assert (a.images.count, a.images.total, a.captions.total) == (2, 6, 4)
    assert a.unusable == {"missing_image": 1}
    assert (b.shards, b.samples, b.unusable) == (2, 2, {"duplicate_uid": 2})
    assert b.bytes == len(whole) + 512 * 6
    assert [sentence.split(":")[0] for sentence in b.broken] == ["b/1.tar"]
    total = Contents()
    for part in (a, b):
        total.merge(part)
    record = total.record()
    assert (record["shards"], record["samples"]) == (3, 5)
    assert record["image_kinds"] == {"jpg": 3, "png": 1}
    assert record["extensions"] == {"txt": 5, "jpg": 3, "json": 3, "png": 1}
    assert record["unusable"] == {"missing_image": 1, "duplicate_uid": 2}
    json.dumps(record)
