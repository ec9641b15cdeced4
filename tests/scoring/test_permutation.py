import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selffilter.errors import UserError
from selffilter.randomness import hash_rows
from selffilter.scoring.permutation import permuted_neg_clip_loss
from selffilter.scoring.ready import draw_bank, identities, score_embeddings
from selffilter.scoring.signals.facts import Facts
from selffilter.scoring.signals.neg_clip_loss import NegClipLoss

TAU, WIDTH = 0.01, 16


def scored(embeddings, usable=None, **settings):
    given_ = {"temperature": TAU, "seed": 3, "batch_size": 16, "draws": 4} | settings
    usable = np.ones(embeddings.rows, bool) if usable is None else usable
    return permuted_neg_clip_loss(embeddings, identities(embeddings), usable, **given_)


def dense(image, text, batches):
    """The formula in float64, row by row; batches: lists of rows and who of them counts."""
    image, text = image.double().numpy(), text.double().numpy()
    others, times = np.zeros(len(image)), np.zeros(len(image))
    for batch, counted in batches:
        s = image[batch] @ text[batch].T / TAU
        to_text = np.log(np.exp(s - s.max()).mean(axis=1)) + s.max()
        to_image = np.log(np.exp(s - s.max()).mean(axis=0)) + s.max()
        r = TAU / 2 * (to_text + to_image)
        others[batch[:counted]] += r[:counted]
        times[batch[:counted]] += 1
    return (image * text).sum(1) - others / times, times


@pytest.mark.parametrize("count", [48, 53, 16, 9])
def test_it_is_the_formula_in_float64_over_seeded_batches_of_equal_size(
    count, store, make_features
):
    """Also where float32 exp overflows; 53 rows leave a batch that is filled up, 9 none that is."""
    image, text = make_features(count, WIDTH, 0), make_features(count, WIDTH, 1)
    embeddings = store(image, text, [5, count - 5])
    assert torch.tensor(0.95 / TAU).exp().isinf()
    size = min(16, count)
    batches = []
    for draw in range(4):
        order = np.argsort(hash_rows(identities(embeddings), 3, "permutation", draw))
        for first in range(0, count, size):
            batch = order[first : first + size]
            batches.append((np.append(batch, order[: size - len(batch)]), len(batch)))
    assert {len(batch) for batch, _ in batches} == {size}
    assert all(len(set(batch)) == size for batch, _ in batches)
    expected, times = dense(image, text, batches)
    assert (times == 4).all()
    found = scored(embeddings)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert expected.std() > 1e-3


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(37)), cut=st.integers(1, 36))
def test_the_order_of_the_files_and_rows_changes_nothing(order, cut, store, make_features):
    image, text = make_features(37, WIDTH, 0), make_features(37, WIDTH, 1)
    uids = np.random.default_rng(0).integers(0, 2**63, (37, 2), dtype=np.uint64)
    whole = scored(store(image, text, uids=uids, name="whole"))
    name = f"{cut}-{hash(tuple(order))}"
    moved = store(image[order], text[order], [cut, 37 - cut], uids[order], name)
    np.testing.assert_array_equal(scored(moved), whole[order])


@pytest.mark.parametrize("rows_at_once", [1, 5, 16])
@pytest.mark.parametrize("memory_bytes", [1, 2 * 16 * 2 * 2 * WIDTH, 10**9])
def test_what_is_in_memory_at_once_changes_nothing(
    rows_at_once, memory_bytes, store, make_features
):
    embeddings = store(make_features(53, WIDTH, 0), make_features(53, WIDTH, 1), [20, 33])
    found = scored(embeddings, rows_at_once=rows_at_once, memory_bytes=memory_bytes)
    np.testing.assert_allclose(found, scored(embeddings), rtol=0, atol=1e-6)


def test_unusable_rows_are_in_no_batch(store, make_features):
    image, text = make_features(40, WIDTH, 0), make_features(40, WIDTH, 1)
    uids = np.stack([np.arange(40), np.arange(40)], 1).astype(np.uint64)
    keep = np.arange(40) % 5 != 0
    clean = scored(store(image[keep], text[keep], uids=uids[keep], name="clean"))
    image[~keep] = torch.nan
    found = scored(store(image, text, uids=uids, name="all"), keep)
    np.testing.assert_array_equal(found[keep], clean)
    assert np.isnan(found[~keep]).all()
    with pytest.raises(UserError, match="no usable row"):
        scored(store(image, text, uids=uids, name="all2"), np.zeros(40, bool))


def test_a_short_last_batch_gives_its_rows_no_advantage(store, make_features):
    """Of the released code's batches the last has fewer others: its rows came out higher."""
    image, text = make_features(16 * 8 + 2, WIDTH, 0), make_features(16 * 8 + 2, WIDTH, 1)
    embeddings = store(image, text)
    one = scored(embeddings, draws=1)
    many = scored(embeddings, draws=60)
    order = np.argsort(hash_rows(identities(embeddings), 3, "permutation", 0))
    difference = one - many
    in_last = difference[order[-2:]].mean()
    assert abs(in_last) < 3 * difference.std()
    # The sum over the 2 rows that are left, as released, would lift them by about τ·log(16/2).
    assert TAU * np.log(8) > 3 * difference.std()


def test_another_seed_draws_other_batches_and_every_draw_counts(store, make_features):
    embeddings = store(make_features(64, WIDTH, 0), make_features(64, WIDTH, 1))
    base = scored(embeddings)
    for other in (scored(embeddings, seed=4), scored(embeddings, draws=5)):
        assert not np.allclose(other, base, rtol=0, atol=1e-7)


def test_progress_adds_up_to_rows_times_draws(store, make_features):
    embeddings = store(make_features(53, WIDTH, 0), make_features(53, WIDTH, 1))
    done = []
    scored(embeddings, progress=done.append)
    assert sum(done) == 4 * 53


def test_with_the_whole_pool_as_batch_and_as_bank_both_forms_are_one(store, make_features):
    embeddings = store(make_features(50, WIDTH, 0), make_features(50, WIDTH, 1))
    usable = np.ones(50, bool)
    bank = draw_bank(embeddings, identities(embeddings), usable, 50, seed=0)
    by_bank = score_embeddings(
        embeddings, {"neg_clip_loss": NegClipLoss()}, Facts(TAU, bank), usable
    )
    found = scored(embeddings, batch_size=50, draws=1)
    np.testing.assert_allclose(found, by_bank["neg_clip_loss"], rtol=0, atol=1e-6)
