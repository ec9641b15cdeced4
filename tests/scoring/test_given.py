import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from selffilter.errors import UserError
from selffilter.pool import uids
from selffilter.pool.base import Base
from selffilter.pool.failures import Failure
from selffilter.pool.index import Pool, build_index
from selffilter.pool.reading import PoolDataset
from selffilter.pool.script import Script
from selffilter.scoring.given import (
    GivenScores,
    LookedAt,
    carried_verdicts,
    decode_verdicts,
    write_given_scores,
)
from selffilter.selecting.on_disk import read_scores
from selffilter.tables import read_table, shard_file, write_table

TEXTS = [f"{i:032x}" for i in (5, 2**127, 3, 2**64)]
SCORES = [0.5, -1.0, 2.0, 0.25]


def given(path, uid, score):
    pq.write_table(pa.table({"uid": uid, "score": score}), path)
    return GivenScores(path)


@pytest.mark.parametrize(
    "column",
    [
        pa.array(TEXTS),
        pa.array(TEXTS, pa.large_string()),
        pa.array([t.upper() for t in TEXTS]),
        pa.array([bytes.fromhex(t) for t in TEXTS]),
        pa.array([bytes.fromhex(t) for t in TEXTS], pa.binary(16)),
        pa.chunked_array([TEXTS[:1], TEXTS[1:]]),
    ],
    ids=["text", "large text", "capitals", "bytes", "fixed bytes", "chunks"],
)
def test_scores_are_found_by_uid_in_any_order(tmp_path, column):
    found = given(tmp_path / "s.parquet", column, SCORES).of(uids.from_hex(TEXTS[::-1]))
    assert found.dtype == np.float32
    assert found.tolist() == SCORES[::-1]


def test_a_uid_that_is_not_in_the_table_has_no_score(tmp_path):
    scores = given(tmp_path / "s.parquet", TEXTS, SCORES)
    found = scores.of(uids.from_hex(["f" * 32, TEXTS[2], "e" * 32]))
    np.testing.assert_array_equal(found, np.array([np.nan, 2.0, np.nan], np.float32))
    assert np.isnan(scores.of(uids.from_hex(["f" * 32]))).all()
    assert scores.of(np.empty((0, 2), np.uint64)).shape == (0,)


def test_scores_may_be_whole_numbers_or_missing(tmp_path):
    whole = given(tmp_path / "s.parquet", TEXTS, pa.array([1, 0, None, 3]))
    np.testing.assert_array_equal(whole.of(uids.from_hex(TEXTS)), [1, 0, np.nan, 3])


@pytest.mark.parametrize(
    "columns",
    [
        {"id": TEXTS, "score": SCORES},
        {"uid": TEXTS, "value": SCORES},
        {"uid": [t[:-1] for t in TEXTS], "score": SCORES},
        {"uid": ["0" * 30, "0" * 34, *TEXTS[2:]], "score": SCORES},
        {"uid": [None, *TEXTS[1:]], "score": SCORES},
        {"uid": [1, 2, 3, 4], "score": SCORES},
        {"uid": [b"short"] * 4, "score": SCORES},
        {"uid": TEXTS, "score": list("abcd")},
    ],
)
def test_another_table_is_refused_by_name(tmp_path, columns):
    pq.write_table(pa.table(columns), tmp_path / "s.parquet")
    with pytest.raises(UserError, match=r"score\.given_scores=.*s\.parquet is no Parquet of uid"):
        GivenScores(tmp_path / "s.parquet")


def test_what_is_no_parquet_is_refused_by_name(tmp_path):
    (tmp_path / "s.parquet").write_text("uid,score\n")
    for name in ("s.parquet", "missing.parquet"):
        with pytest.raises(UserError, match=f"score.given_scores=.*{name}"):
            GivenScores(tmp_path / name)


def usable(base):
    """Return the verdicts on three shards whose rows can all be decoded."""
    return [
        LookedAt(shard, np.zeros(len(base.readable(shard)), np.uint8), {}) for shard in range(3)
    ]


def test_uids_that_share_their_first_half_are_told_apart(tmp_path):
    texts = ["0" * 16 + f"{i:016x}" for i in (5, 1, 9)]
    scores = given(tmp_path / "s.parquet", texts, [5, 1, 9])
    asked = uids.from_hex([texts[2], "0" * 32, texts[0], "f" * 32, texts[1]])
    np.testing.assert_array_equal(scores.of(asked), [9, np.nan, 5, np.nan, 1])


def test_score_tables_are_written_from_given_scores(tiny_pool, tmp_path):
    texts = uids.to_hex(tiny_pool.uids_of(np.arange(8)))
    scores = given(tmp_path / "s.parquet", texts[:6], np.arange(6) / 4)
    base = Base(tiny_pool, seed=0)
    write_given_scores(scores, base, usable(base), tmp_path / "scores", "given", 3)
    read = read_scores(tmp_path / "scores", tiny_pool, ["given"])
    np.testing.assert_array_equal(
        read.columns["given"], [0, 0.25, 0.5, 0.75, 1, 1.25, np.nan, np.nan]
    )
    assert read.in_base.all()


def test_scores_for_every_usable_row_need_no_word(tiny_pool, tmp_path):
    texts = uids.to_hex(tiny_pool.uids_of(np.arange(8)))
    assert (
        given(tmp_path / "s.parquet", [*texts, "f" * 32], np.arange(9.0)).account(tiny_pool) == ""
    )


def test_rows_without_a_score_are_counted(tiny_pool, tmp_path):
    texts = uids.to_hex(tiny_pool.uids_of(np.arange(8)))
    said = given(tmp_path / "s.parquet", texts[:5], [0, 1, None, 3, np.inf]).account(tiny_pool)
    assert (
        "s.parquet: 3 of the 8 usable rows of the pool have a score; the other 5 are never" in said
    )


def test_rows_that_the_index_knows_to_be_unusable_need_none(flawed, tmp_path):
    pool = flawed.pool
    texts = uids.to_hex(pool.uids_of(np.array([0, 1, 3, 4])))  # 2 lacks its image
    assert given(tmp_path / "s.parquet", texts, [0, 1, 2, 3]).account(pool) == ""


def test_scores_of_another_pool_are_refused_with_a_uid_of_each(tiny_pool, tmp_path):
    ours = uids.to_hex(tiny_pool.uids_of(np.array([0])))[0]
    scores = given(tmp_path / "s.parquet", TEXTS, SCORES)
    told = (
        f"none of its 4 uids is in the pool, which has 8 .*first uid is {TEXTS[0]}.*pool's {ours}"
    )
    with pytest.raises(UserError, match=told):
        scores.account(tiny_pool)
    nothing = given(tmp_path / "s.parquet", pa.array([], pa.string()), pa.array([], pa.float32()))
    with pytest.raises(UserError, match="none of its 0 uids is in the pool"):
        nothing.account(tiny_pool)


def test_without_scores_every_row_is_written_without_one(tiny_pool, tmp_path):
    base = Base(tiny_pool, 0)
    write_given_scores(None, base, usable(base), tmp_path / "scores", "cosine", 0)
    read = read_scores(tmp_path / "scores", tiny_pool, ["cosine"])
    assert np.isnan(read.columns["cosine"]).all()
    assert read.in_base.all()


# --- what is found out without a model, and carried from round to round ---------------------------


@pytest.fixture
def flawed(make_tar, picture, tmp_path):
    """A base of two shards; rows 1 and 3 cannot be decoded, row 2 lacks its image."""
    good, text = picture(0), "Красный ящик".encode()
    make_tar(
        tmp_path / "p" / "0.tar",
        [
            ("0", {"png": good, "txt": text}),
            ("1", {"png": b"no", "txt": text}),
            ("2", {"txt": text}),
        ],
    )
    make_tar(
        tmp_path / "p" / "1.tar",
        [("3", {"png": good, "txt": b" "}), ("4", {"png": good, "txt": b"a box"})],
    )
    return Base(Pool(tmp_path / "i", build_index([str(tmp_path / "p")], tmp_path / "i")), 0)


def decoded(base, **more):
    data = PoolDataset(
        base.pool,
        lambda image: torch.zeros(3, 1, 1),
        lambda captions: torch.zeros(len(captions), 1, dtype=torch.int64),
        max_pixels=1000,
        every_caption=True,
        **more,
    )
    return decode_verdicts(data, base, [0, 1], batch_size=2, workers=0)


def columns(folder, *names):
    tables = pa.concat_tables([read_table(shard_file(folder, shard)) for shard in (0, 1)])
    return [tables[name].to_pylist() for name in names]


def test_controls_have_the_facts_of_rows_as_well_and_carry_them(flawed, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    write_given_scores(None, flawed, decoded(flawed, hash_images=True), first, "given", 0)
    failure, chars, script, hashes = columns(
        first, "failure", "caption_chars", "script", "image_hash"
    )
    assert failure == [
        0, Failure.image_unreadable, Failure.missing_image, Failure.caption_empty, 0,
    ]  # fmt: skip
    assert chars == [12, 0, 0, 0, 5]
    assert script == [Script.cyrillic, 0, 0, 0, Script.latin]
    assert hashes[0] == hashes[4] != 0 and hashes[1:4] == [0, 0, 0]
    write_given_scores(None, flawed, carried_verdicts(flawed, [0, 1], first), second, "given", 1)
    names = ("failure", "caption_chars", "script", "image_hash")
    assert columns(second, *names) == columns(first, *names)


def test_images_are_not_hashed_unless_asked(flawed, tmp_path):
    write_given_scores(None, flawed, decoded(flawed), tmp_path / "s", "given", 0)
    assert "image_hash" not in read_table(shard_file(tmp_path / "s", 0)).column_names


def test_tables_of_an_older_run_are_carried_without_facts(flawed, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    write_given_scores(None, flawed, decoded(flawed), first, "given", 0)
    for shard in (0, 1):
        table = read_table(shard_file(first, shard))
        write_table(shard_file(first, shard), table.drop_columns(["caption_chars", "script"]))
    write_given_scores(None, flawed, carried_verdicts(flawed, [0, 1], first), second, "given", 1)
    assert columns(second, "failure") == columns(first, "failure")
    assert "script" not in read_table(shard_file(second, 0)).column_names
