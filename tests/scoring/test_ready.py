from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selffilter.errors import UserError
from selffilter.scoring.embeddings.clip_retrieval import open_clip_retrieval
from selffilter.scoring.moments import SecondMoments
from selffilter.scoring.ready import (
    draw_bank,
    identities,
    load_target,
    pool_moments,
    score_embeddings,
)
from selffilter.scoring.signals.facts import Facts, Pairs
from selffilter.scoring.signals.find import OURS, find_signal
from tests.scoring.embeddings.written import clip_retrieval

ROWS, WIDTH, TAU = 45, 16, 0.01


@pytest.fixture
def pool(store, make_features):
    image, text = make_features(ROWS, WIDTH, 0), make_features(ROWS, WIDTH, 1)
    image[7] = torch.nan
    usable = np.arange(ROWS) != 7
    return store(image, text, [10, 0, 35]), usable, image, text


@pytest.fixture
def facts(pool, store, make_features):
    embeddings, usable, *_ = pool
    bank = draw_bank(embeddings, identities(embeddings), usable, 20, seed=0)
    target = store(make_features(9, WIDTH, 2), make_features(9, WIDTH, 3), name="target")
    return Facts(
        TAU,
        bank,
        moments=pool_moments(embeddings, usable),
        target=load_target(target, np.ones(9, bool)),
        reference=Facts(0.07, bank),
    )


@pytest.mark.parametrize("rows_at_once", [1, 7, 64])
@pytest.mark.parametrize("name", [name for name in OURS if name != "flipped_cosine"])
def test_scores_are_those_of_the_signal_in_memory(name, rows_at_once, pool, facts):
    embeddings, usable, image, text = pool
    signal, places = find_signal(name), torch.arange(ROWS)
    pairs = Pairs(image, text, places, None, Pairs(text, image.nan_to_num(1), places))
    reference = embeddings if "reference" in signal.needs else None
    if reference:
        pairs = replace(pairs, reference=Pairs(image, text, places))
    found = score_embeddings(
        embeddings, {"s": signal}, facts, usable, reference=reference, rows_at_once=rows_at_once
    )["s"]
    assert found.dtype == np.float32
    assert np.isnan(found).tolist() == (~usable).tolist()
    expected = signal(pairs, facts).numpy()
    np.testing.assert_allclose(found[usable], expected[usable], rtol=0, atol=1e-4)


def test_a_span_of_rows_scores_as_it_does_within_the_whole(pool, facts):
    embeddings, usable, *_ = pool
    signals = {name: find_signal(name) for name in ("cosine", "neg_clip_loss")}
    whole = score_embeddings(embeddings, signals, facts, usable)
    for span in ((0, 3), (5, 30), (40, ROWS), (7, 7)):
        mine = usable[slice(*span)]
        part = score_embeddings(embeddings, signals, facts, mine, span=span, rows_at_once=4)
        for name in signals:
            np.testing.assert_allclose(part[name], whole[name][slice(*span)], rtol=0, atol=1e-6)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(30)))
def test_the_bank_does_not_depend_on_the_order_of_the_files(order, store, make_features):
    image, text = make_features(30, WIDTH, 0), make_features(30, WIDTH, 1)
    uids = np.random.default_rng(0).integers(0, 2**63, (30, 2), dtype=np.uint64)
    usable = np.arange(30) != 4
    banks = []
    for at, name in ((list(range(30)), "whole"), (order, f"{hash(tuple(order))}")):
        embeddings = store(image[at], text[at], [11, 19], uids[at], name)
        bank = draw_bank(embeddings, identities(embeddings), usable[at], 12, seed=5)
        assert [at[row] for row in bank.row_M] == [at[row] for row in bank.row_M.tolist()]
        banks.append((bank, [at[row] for row in bank.row_M]))
    assert banks[0][1] == banks[1][1]
    assert 4 not in banks[0][1]
    assert torch.equal(banks[0][0].image_features_MD, banks[1][0].image_features_MD)


def test_a_bank_is_drawn_anew_with_another_seed_and_has_no_more_rows_than_there_are(pool):
    embeddings, usable, *_ = pool
    drawn = [
        draw_bank(embeddings, identities(embeddings), usable, size, seed).row_M.tolist()
        for size, seed in ((20, 0), (20, 1), (1000, 0))
    ]
    assert set(drawn[0]) != set(drawn[1])
    assert set(drawn[2]) == set(np.flatnonzero(usable))
    assert all(len(set(rows)) == len(rows) for rows in drawn)


def test_moments_are_of_all_usable_rows_exactly(pool):
    embeddings, usable, image, text = pool
    found = pool_moments(embeddings, usable, rows_at_once=8)
    expected = SecondMoments.of(image[usable], text[usable])
    assert found.count == ROWS - 1
    for kind in ("image", "text", "cross"):
        torch.testing.assert_close(found.sigma(kind), expected.sigma(kind), rtol=0, atol=1e-9)
    with pytest.raises(UserError, match="no usable row"):
        pool_moments(embeddings, np.zeros(ROWS, bool))


def test_a_target_set_may_be_large_and_keep_its_moments_alone(pool):
    embeddings, usable, image, _ = pool
    target = load_target(embeddings, usable, keep_features=False)
    assert target.image_features_MD is None
    whole = load_target(embeddings, usable)
    torch.testing.assert_close(whole.image_features_MD, image[usable], rtol=0, atol=1e-6)


def test_what_ready_embeddings_do_not_have_is_refused(pool, facts, store, make_features):
    embeddings, usable, *_ = pool
    with pytest.raises(UserError, match="mirrored images"):
        score_embeddings(embeddings, {"f": find_signal("flipped_cosine")}, facts, usable)
    learnability = {"learnability": find_signal("learnability")}
    with pytest.raises(UserError, match="reference model"):
        score_embeddings(embeddings, learnability, facts, usable)
    other = store(make_features(3, 8, 0), make_features(3, 8, 1), name="other")
    with pytest.raises(UserError, match=r"not the same rows .* 3 and 45"):
        score_embeddings(embeddings, learnability, facts, usable, reference=other)


def test_images_alone_can_be_scored_by_what_does_not_look_at_captions(tmp_path, make_features):
    images = make_features(6, WIDTH, 0).numpy()
    embeddings = open_clip_retrieval(clip_retrieval(tmp_path, [(images, None, {})]))
    usable = np.ones(6, bool)
    facts = Facts(TAU, moments=pool_moments(embeddings, usable))
    image_alone = {"vas": find_signal("variance_alignment_image_traindata")}
    assert np.isfinite(score_embeddings(embeddings, image_alone, facts, usable)["vas"]).all()
    with pytest.raises(UserError, match=r"cosine looks at captions: .* no text embeddings"):
        score_embeddings(embeddings, {"cosine": find_signal("cosine")}, facts, usable)
