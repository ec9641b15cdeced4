"""The pass over a small pool with signals that need more than pairs, and with embeddings kept."""

import io
import json
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from selffilter.clip.model import encode, find_recipe, load_weights
from selffilter.pool.base import Base
from selffilter.pool.index import Pool, build_index
from selffilter.pool.reading import PoolDataset
from selffilter.scoring.embeddings.folder import EmbeddingWriter, open_folder
from selffilter.scoring.embeddings.usable import unusable_rows
from selffilter.scoring.moments import SecondMoments
from selffilter.scoring.pool_pass import PoolPass, logit_bias
from selffilter.scoring.ready import score_embeddings
from selffilter.scoring.signals.facts import Bank, Facts, Pairs, Target
from selffilter.scoring.signals.find import OURS, find_signal
from selffilter.tables import read_table, shard_file

CAPTIONS = ["a red box", "a blue ball", "", "a green line", "something yellow", "the last"]
USABLE = [0, 1, 3, 4, 5]
CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 12, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def recipes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    for name, config in (("plain", CONFIG), ("sigmoid", CONFIG | {"init_logit_bias": -3})):
        (folder / f"test-needs-{name}.json").write_text(json.dumps(config))
    paths = {name: folder / f"test-needs-{name}.json" for name in ("plain", "sigmoid")}
    return {name: find_recipe(str(path)) for name, path in paths.items()}


@pytest.fixture
def world(recipes, make_tar, picture, tmp_path):
    """A pool of two shards, a model, another one of the same kind, and all pairs by both."""
    samples = [
        (f"{row:03d}", {"png": picture(row, (20, 20)), "txt": text.encode()})
        for row, text in enumerate(CAPTIONS)
    ]
    make_tar(tmp_path / "pool" / "0.tar", samples[:4])
    make_tar(tmp_path / "pool" / "1.tar", samples[4:])
    pool = Pool(tmp_path / "index", build_index([str(tmp_path / "pool")], tmp_path / "index"))
    recipe = recipes["plain"]
    torch.manual_seed(0)
    model, other = recipe.build().eval(), recipe.build().eval()
    with torch.no_grad():
        other.logit_scale.fill_(1.0)
    dataset = PoolDataset(
        pool, recipe.transform(), recipe.tokenize, max_pixels=10**6, every_caption=True
    )
    image = torch.stack([recipe.transform()(image) for image in pictures(tmp_path / "pool")])[
        USABLE
    ]
    text = recipe.tokenize(CAPTIONS)[USABLE]
    flipped, _ = encode(model, image.flip(-1), text)
    row = torch.tensor(USABLE)
    pairs = Pairs(
        *encode(model, image, text), row, flipped, Pairs(*encode(other, image, text), row)
    )
    return SimpleNamespace(pool=pool, dataset=dataset, model=model, other=other, pairs=pairs)


def pictures(folder):
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar.getmembers():
                if member.name.endswith("png"):
                    yield Image.open(io.BytesIO(tar.extractfile(member).read())).convert("RGB")


def make_pass(world, signals, **more):
    return PoolPass(
        world.model,
        world.dataset,
        Base(world.pool, 0),
        signals,
        batch_size=3,
        workers=0,
        **more,
    )


def scored(pool_pass, folder, **more):
    bank = None
    if pool_pass.needs_bank:
        pool_pass.write_bank(folder / "bank.safetensors", 100)
        bank = pool_pass.read_bank(folder / "bank.safetensors")
    pool_pass.score_shards([0, 1], folder, 0, bank, **more)
    return [read_table(shard_file(folder, shard)) for shard in (0, 1)]


@pytest.mark.parametrize("name", OURS)
def test_every_signal_gets_what_it_needs(name, world, make_features, tmp_path):
    pairs, signal = world.pairs, find_signal(name)
    target_MD = make_features(7, 16, 0, 2.0)
    target = Target(SecondMoments.of(target_MD, target_MD.roll(1, 0)), target_MD)
    tables = scored(
        make_pass(world, {name: signal}, target=target, reference=world.other), tmp_path
    )
    found = np.concatenate([table[name].to_numpy() for table in tables])
    assert np.isnan(found).tolist() == [row not in USABLE for row in range(6)]
    reference = pairs.reference
    moments = SecondMoments.of(pairs.image_features_BD, pairs.text_features_BD)
    tau, other_tau = (float(torch.exp(-m.logit_scale)) for m in (world.model, world.other))
    assert tau != other_tau
    facts = Facts(
        tau,
        Bank(pairs.image_features_BD, pairs.text_features_BD, pairs.row_B),
        None,
        moments,
        target,
        Facts(
            other_tau,
            Bank(reference.image_features_BD, reference.text_features_BD, reference.row_B),
        ),
    )
    np.testing.assert_allclose(found[USABLE], signal(pairs, facts).numpy(), rtol=0, atol=2e-5)
    assert found[USABLE].std() > 1e-6
    bank = tmp_path / "bank.safetensors"
    assert bank.exists() == bool(signal.needs & {"bank", "moments"})
    if bank.exists():
        both = any(key.startswith("reference_") for key in load_weights(bank))
        assert both == ("reference" in signal.needs)


@pytest.mark.parametrize(
    ("name", "message"), [("norm_sim_2", "target set"), ("learnability", "reference model")]
)
def test_what_is_not_there_is_missed_before_anything_is_read(name, message, world):
    with pytest.raises(ValueError, match=message):
        make_pass(world, {name: find_signal(name)})


def test_a_sigmoid_models_bias_is_a_fact_and_a_softmax_model_has_none(recipes):
    assert logit_bias(recipes["sigmoid"].build()) == -3
    assert logit_bias(recipes["plain"].build()) is None


def test_embeddings_that_are_kept_score_as_the_pass_did(world, tmp_path):
    signals = {"cosine": find_signal("cosine")}
    writer = EmbeddingWriter(tmp_path / "kept", 16, 2, {"model": "test"})
    tables = scored(make_pass(world, signals), tmp_path / "scores", embeddings=writer)
    kept = open_folder(tmp_path / "kept")
    rows = np.concatenate([table["row"].to_numpy() for table in tables])
    assert kept.pool_rows().tolist() == rows.tolist()
    np.testing.assert_array_equal(kept.uids(), world.pool.uids_of(rows))
    usable = unusable_rows(kept) == 0
    assert np.flatnonzero(usable).tolist() == USABLE
    again = score_embeddings(kept, signals, Facts(0.07), usable)["cosine"]
    found = np.concatenate([table["cosine"].to_numpy() for table in tables])
    np.testing.assert_allclose(again, found, rtol=0, atol=1e-3)


def test_a_shard_that_was_scored_without_its_embeddings_is_done_again(world, tmp_path):
    signals = {"cosine": find_signal("cosine")}
    scored(make_pass(world, signals), tmp_path / "scores")
    writer = EmbeddingWriter(tmp_path / "kept", 16, 2, {"model": "test"})
    done = []
    again = make_pass(world, signals)
    again.score_shards([0], tmp_path / "scores", 0, None, done.append, embeddings=writer)
    assert (sum(done), writer.has(0), writer.has(1)) == (4, True, False)
    again.score_shards([0], tmp_path / "scores", 0, None, done.append, embeddings=writer)
    assert sum(done) == 4


@pytest.mark.parametrize("name", ["cosine", "neg_clip_loss", "flipped_cosine", "learnability"])
def test_wrong_pairs_score_as_if_they_were_pairs(name, world, tmp_path):
    pool_pass = make_pass(world, {name: find_signal(name)}, reference=world.other)
    bank = None
    if pool_pass.needs_bank:
        pool_pass.write_bank(tmp_path / "bank", 5)
        bank = pool_pass.read_bank(tmp_path / "bank")
    order = np.array([4, 0, 2, 5, 3, 1])  # row 2 has no caption
    pool_pass.write_null(tmp_path / "null.parquet", order, bank)
    found = read_table(tmp_path / "null.parquet")[name].to_numpy()
    usable = torch.tensor([USABLE.index(row) for row in order if row in USABLE])
    pairs = world.pairs.crossed(usable, usable)
    expected = []
    facts = pool_pass._facts(bank)
    for shift in range(1, 5):
        wrong = pairs.crossed(torch.arange(5), torch.arange(5).roll(-shift))
        expected.append(find_signal(name)(wrong, facts))
    np.testing.assert_allclose(found, torch.cat(expected).numpy(), atol=2e-5)
