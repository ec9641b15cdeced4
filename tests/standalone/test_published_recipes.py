"""The published recipes on metadata alone, against numpy written from the formulas."""

import numpy as np
import pytest

from selffilter.randomness import hash_rows
from selffilter.store import read_json

TAU = 0.01


def best(score, numbers, among, count):
    """The rows of the highest float32 scores; of equal ones those of the smallest uid."""
    rows = np.flatnonzero(among)
    order = np.lexsort((numbers[rows], -score[rows].astype(np.float32)))
    kept = np.zeros(len(score), bool)
    kept[rows[order[:count]]] = True
    return kept


def cosine(case):
    return (case.image * case.text).sum(1)


def alignment(case, target):
    return np.einsum("nd,de,ne->n", case.image, target.T @ target / len(target), case.image)


def released_neg_clip_loss(case, batch, draws, seed):
    """K seeded permutations of the usable rows, in batches; log-sum-exp in float64."""
    rows = np.flatnonzero(case.usable)
    odd = np.uint64(0x9E3779B97F4A7C15)
    identity = (case.numbers.astype(np.uint64) * odd).view(np.int64)
    total = np.zeros(case.rows)
    for draw in range(draws):
        order = rows[np.argsort(hash_rows(identity[rows], seed, "permutation", draw))]
        for begin in range(0, len(order), batch):
            mine = order[begin : begin + batch]
            among = np.concatenate([mine, order[: batch - len(mine)]])
            logits = case.image[among] @ case.text[among].T / TAU
            both = np.logaddexp.reduce(logits, 1) + np.logaddexp.reduce(logits, 0)
            total[mine] += (TAU * (0.5 * both - np.log(batch)))[: len(mine)]
    return np.where(case.usable, cosine(case) - total / draws, np.nan)


def test_clip_score_45_then_variance_alignment_30(call, metadata, tmp_path, numbers_of):
    code, said, _ = call(
        "score", "metadata", "scores", "--signal", "cosine", "--signal",
        "variance_alignment_image", "--target", "target.npy",
    )  # fmt: skip
    assert code == 0
    assert "400 rows in 4 of 4 shards" in said and "cosine: 397 scored" in said
    assert "1 image_not_finite, 1 image_zero, 1 text_not_finite" in said
    code, said, _ = call(
        "select", "scores", "vas.npy", "--keep", "cosine:0.45", "--keep",
        "variance_alignment_image:0.30",
    )  # fmt: skip
    assert code == 0
    first = best(cosine(metadata), metadata.numbers, metadata.usable, 180)
    second = best(alignment(metadata, metadata.target), metadata.numbers, first, 120)
    assert numbers_of(tmp_path / "vas.npy") == set(metadata.numbers[second].tolist())
    first_words = [line.split()[0] for line in said.splitlines() if line.startswith("  ")]
    assert [int(word) for word in first_words] == [400, -1, -1, -1, -217, -60, 120]
    record = read_json(tmp_path / "vas.npy.json")
    assert [rule["kept"] for rule in record["rules"]] == [180, 120]
    assert record["scorers"][0]["scorer"]["target"]["fingerprint"]


def test_neg_clip_loss_30_then_norm_sim_20(call, metadata, tmp_path, numbers_of, column_of):
    code, _, _ = call(
        "score", "metadata", "scores", "--signal", "neg_clip_loss_permutation", "--signal",
        "norm_sim_inf", "--target", "target.npy", "--permutation-batch", 64, "--draws", 3,
        "--seed", 5,
    )  # fmt: skip
    assert code == 0
    expected = released_neg_clip_loss(metadata, 64, 3, 5)
    found = column_of(tmp_path / "scores", "neg_clip_loss_permutation")
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
    assert call(
        "select", "scores", "out.npy", "--keep", "neg_clip_loss_permutation:0.30", "--keep",
        "norm_sim_inf:0.2",
    )[0] == 0  # fmt: skip
    first = best(expected, metadata.numbers, metadata.usable, 120)
    nearest = np.abs(metadata.image @ metadata.target.T).max(axis=1)
    second = best(nearest, metadata.numbers, first, 80)
    assert numbers_of(tmp_path / "out.npy") == set(metadata.numbers[second].tolist())


def eliminated(case, sigma, alive, keep, steps):
    """VAS-D and NormSim-D, directly: Σ and all scores anew in each step."""
    alive = np.flatnonzero(alive)
    a_step = -(-(len(alive) - keep) // steps)
    while len(alive) > keep:
        score = np.einsum("nd,de,ne->n", case.image[alive], sigma, case.image[alive])
        order = np.lexsort((-case.numbers[alive], score.astype(np.float32)))
        alive = np.sort(np.delete(alive, order[: min(a_step, len(alive) - keep)]))
        sigma = case.image[alive].T @ case.image[alive] / len(alive)
    return set(case.numbers[alive].tolist())


@pytest.mark.parametrize("kind", ["variance_alignment", "norm_sim"])
def test_dynamic_elimination_from_45_to_30(kind, call, metadata, tmp_path, numbers_of, column_of):
    assert call("score", "metadata", "scores", "--signal", "cosine")[0] == 0
    words = ("--from", 0.45, "--to", 0.30, "--steps", 7, "--kind", kind)
    code, said, _ = call("eliminate", "metadata", "scores", "steps", *words)
    assert code == 0 and "180 took part, 120 stay" in said
    assert call("select", "steps", "out.npy", "--keep", "elimination_step:0.30")[0] == 0
    first = best(cosine(metadata), metadata.numbers, metadata.usable, 180)
    if kind == "variance_alignment":
        among = metadata.image[metadata.usable]
    else:
        among = metadata.image[first]
    expected = eliminated(metadata, among.T @ among / len(among), first, 120, 7)
    assert numbers_of(tmp_path / "out.npy") == expected
    step = column_of(tmp_path / "steps", "elimination_step")
    assert np.isnan(step[~metadata.usable]).all()
    assert ((step == 0) == (metadata.usable & ~first)).all()
    assert np.bincount(step[first].astype(int)).tolist() == [0, 9, 9, 9, 9, 9, 9, 6, 120]
    # The survivors tie at the top, by whichever rule one asks for them.
    assert call("select", "steps", "a.npy", "--above", "elimination_step:8")[0] == 0
    assert call("select", "steps", "t.npy", "--top", "elimination_step:120")[0] == 0
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "out.npy").read_bytes()
    assert (tmp_path / "t.npy").read_bytes() == (tmp_path / "out.npy").read_bytes()
    assert "done before" in call("eliminate", "metadata", "scores", "steps", *words)[1]


def test_datacomps_own_clip_score_is_taken_over(call, metadata, tmp_path, numbers_of):
    name = "clip_l14_similarity_score"
    code, said, _ = call("score", "metadata", "given", "--column", name)
    assert code == 0 and f"{name}: 398 scored" in said  # its cosine of a zero image is a number
    assert call("select", "given", "out.npy", "--keep", f"{name}:0.30")[0] == 0
    kept = best(cosine(metadata), metadata.numbers, metadata.usable, 120)
    assert numbers_of(tmp_path / "out.npy") == set(metadata.numbers[kept].tolist())
