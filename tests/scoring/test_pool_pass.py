"""The pass over a small pool whose rows have one caption, several, or none that can be used."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from selffilter.clip.model import find_recipe, load_weights
from selffilter.pool.base import Base
from selffilter.pool.failures import Failure
from selffilter.pool.index import Pool, build_index
from selffilter.pool.reading import PoolDataset
from selffilter.pool.row_facts import image_hash
from selffilter.scoring.afresh import Afresh
from selffilter.scoring.pool_pass import PoolPass
from selffilter.scoring.signals.find import find_signal
from selffilter.tables import FACTS, read_table, scores_schema, shard_file

SIGNALS = ("cosine", "neg_clip_loss")
CAPTIONS = [
    ["a red box"],
    ["a blue ball", "something blue", "a ball on a table"],
    [],
    ["one of two", "two of two"],
    ["the last"],
]
SEVERAL = [row for row, captions in enumerate(CAPTIONS) if captions]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "test-pass.json"
    vision = {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8}
    text = {"context_length": 12, "width": 16, "heads": 2, "layers": 1}
    path.write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}))
    return find_recipe(str(path))


@pytest.fixture
def open_pool(make_tar, picture, tmp_path):
    """Return a pool with these captions a row, in the json; row i has the picture of seed i."""

    def opened(name: str, captions: list[list[str]]) -> Pool:
        samples = [
            (
                f"{row:03d}",
                {
                    "png": picture(row),
                    "json": json.dumps({"c": texts, "uid": f"{row:032x}"}).encode(),
                },
            )
            for row, texts in enumerate(captions)
        ]
        make_tar(tmp_path / name / "0.tar", samples)
        index = tmp_path / f"index-{name}"
        return Pool(index, build_index([str(tmp_path / name)], index, caption_key="json:c"))

    return opened


def scores_of(
    pool: Pool,
    recipe,
    folder: Path,
    batch_size: int = 3,
    bank: Path | None = None,
    hash_images: bool = False,
    round_: int = 0,
    afresh: Afresh | None = None,
):
    """Score all rows; the bank is of this pool unless one is given."""
    torch.manual_seed(0)
    dataset = PoolDataset(
        pool,
        recipe.transform(),
        recipe.tokenize,
        max_pixels=10**6,
        every_caption=True,
        hash_images=hash_images,
    )
    signals = {name: find_signal(name) for name in SIGNALS}
    pool_pass = PoolPass(
        recipe.build().eval(), dataset, Base(pool, 0), signals, batch_size=batch_size, workers=0
    )
    if bank is None:
        bank = folder / "bank.safetensors"
        pool_pass.write_bank(bank, 100)
    pool_pass.score_shards([0], folder, round_, pool_pass.read_bank(bank), afresh=afresh)
    table = read_table(shard_file(folder, 0))
    return {name: table[name].to_numpy() for name in SIGNALS}, table["failure"].to_pylist()


def test_a_row_scores_the_mean_of_what_each_of_its_captions_would(open_pool, recipe, tmp_path):
    several, failures = scores_of(open_pool("several", CAPTIONS), recipe, tmp_path / "several")
    assert failures == [0, 0, Failure.caption_empty, 0, 0]
    bank = tmp_path / "several" / "bank.safetensors"
    for name in SIGNALS:
        assert np.isnan(several[name][2])
    for row in SEVERAL:
        alone = []
        for number, caption in enumerate(CAPTIONS[row]):
            others = [texts[:1] for texts in CAPTIONS]
            others[row] = [caption]
            where = f"{row}-{number}"
            found, _ = scores_of(
                open_pool(where, others), recipe, tmp_path / f"s{where}", bank=bank
            )
            alone.append([found[name][row] for name in SIGNALS])
        expected = np.mean(alone, axis=0)
        found_here = [several[name][row] for name in SIGNALS]
        np.testing.assert_allclose(found_here, expected, rtol=0, atol=2e-6)
        if len(alone) > 1:
            assert np.std(alone, axis=0).min() > 1e-5


def test_the_bank_holds_the_first_caption_of_each_readable_row(open_pool, recipe, tmp_path):
    firsts = [captions[:1] for captions in CAPTIONS]
    for name, captions in (("several", CAPTIONS), ("firsts", firsts)):
        scores_of(open_pool(name, captions), recipe, tmp_path / f"s-{name}")
    several, first = (
        load_weights(tmp_path / f"s-{name}" / "bank.safetensors") for name in ("several", "firsts")
    )
    assert several["row_M"].tolist() == SEVERAL
    for name, value in first.items():
        torch.testing.assert_close(several[name], value, rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 16])
def test_the_batch_size_changes_no_score(batch_size, open_pool, recipe, tmp_path):
    pool = open_pool("several", CAPTIONS)
    expected, _ = scores_of(pool, recipe, tmp_path / "a", batch_size=3)
    found, _ = scores_of(pool, recipe, tmp_path / "b", batch_size=batch_size)
    for name in SIGNALS:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=2e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_the_tables_tell_what_the_first_caption_and_the_image_are(
    batch_size, open_pool, recipe, tmp_path, picture
):
    pool = open_pool("several", CAPTIONS)
    scores_of(pool, recipe, tmp_path / "s", batch_size, hash_images=True)
    table = read_table(shard_file(tmp_path / "s", 0))
    assert table.schema == scores_schema(list(SIGNALS))
    assert table["caption_chars"].to_pylist() == [9, 11, 0, 10, 8]
    assert table["script"].to_pylist() == [1, 1, 0, 1, 1]
    expected = [image_hash(picture(row)) % 2**64 if CAPTIONS[row] else 0 for row in range(5)]
    assert table["image_hash"].to_pylist() == expected
    scores_of(pool, recipe, tmp_path / "plain", batch_size)
    plain = read_table(shard_file(tmp_path / "plain", 0))
    assert plain.column_names == table.column_names[:-1]
    for name in plain.column_names:
        np.testing.assert_array_equal(plain[name].to_numpy(), table[name].to_numpy())


def test_rows_that_keep_their_score_keep_what_is_known_of_them(open_pool, recipe, tmp_path):
    pool = open_pool("several", CAPTIONS)
    first, second = tmp_path / "first", tmp_path / "second"
    scores_of(pool, recipe, first, hash_images=True)
    afresh = Afresh(Base(pool, 0), round=1, consumed=np.array([0, 1, 4]), before=first)
    scores_of(pool, recipe, second, hash_images=True, round_=1, afresh=afresh)
    before, after = (read_table(shard_file(folder, 0)) for folder in (first, second))
    assert after["scored_round"].to_pylist() == [0, 0, 1, 1, 0]
    for name in FACTS.names:
        assert after[name].to_pylist() == before[name].to_pylist()
