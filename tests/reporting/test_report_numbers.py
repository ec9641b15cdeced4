"""What is found out about a run, held against its own tables."""

from contextlib import nullcontext

import numpy as np
import pytest

from selffilter.pool.contact_sheet import Shown
from selffilter.progress import NoBar
from selffilter.reporting.draw_of_rows import Drawn, draw_rows
from selffilter.reporting.fates import CONFIDENT, DIVERSE, NOT_BASE
from selffilter.reporting.flow import count_flow
from selffilter.reporting.plane import lay_out, principal_plane
from selffilter.reporting.progress_of_run import progress_of, thinned
from selffilter.reporting.sheets import choose_sheets
from selffilter.reporting.thumbnails import as_tile
from selffilter.reporting.words import find_words, read_captions
from selffilter.rundir.on_disk import RunOnDisk
from selffilter.selecting.on_disk import read_scores, read_shares


def no_bar(title, total):
    return nullcontext(NoBar())


@pytest.fixture
def run(finished):
    return RunOnDisk.open(finished)


# --- rows that are followed -------------------------------------------------------------------


def test_followed_rows_have_the_scores_and_fates_of_the_tables(run):
    drawn = draw_rows(run, no_bar)
    assert drawn.rows_S.tolist() == list(range(run.pool.rows)) and not drawn.sampled
    for place, round_ in enumerate(drawn.rounds):
        scores = read_scores(run.store.stage(round_, "score"), run.pool, ["neg_clip_loss"])
        shares = read_shares(run.store.stage(round_, "select"), run.pool)
        np.testing.assert_array_equal(drawn.score_RS[place], scores.columns["neg_clip_loss"])
        fate = drawn.fate_RS[place]
        np.testing.assert_array_equal(fate == CONFIDENT, shares["confident"])
        np.testing.assert_array_equal(fate == DIVERSE, shares["diverse"])
        np.testing.assert_array_equal(fate == NOT_BASE, ~scores.in_base)


def test_a_draw_is_bounded_and_the_same_rows_in_every_round(run):
    every, some = draw_rows(run, no_bar), draw_rows(run, no_bar, most=40)
    assert some.sampled and 15 < len(some.rows_S) < 70
    assert some.fate_RS.shape == (3, len(some.rows_S))
    np.testing.assert_array_equal(some.score_RS, every.score_RS[:, some.rows_S])
    np.testing.assert_array_equal(some.fate_RS, every.fate_RS[:, some.rows_S])


def test_rows_are_ranked_by_their_merit_where_the_run_does_so(by_merit):
    drawn = draw_rows(RunOnDisk.open(by_merit), no_bar)
    assert np.nanmax(drawn.ranked_RS[-1]) <= 1
    assert not np.array_equal(drawn.ranked_RS[-1], drawn.score_RS[-1], equal_nan=True)


def test_rows_that_were_taken_out_are_not_of_the_base(without_duplicates):
    run = RunOnDisk.open(without_duplicates)
    drawn, flow = draw_rows(run, no_bar), count_flow(run, no_bar)
    assert (drawn.fate_RS[:, [20, 60]] == NOT_BASE).sum(axis=1).tolist() == [1, 1]
    for place, round_ in enumerate(drawn.rounds):
        assert (drawn.fate_RS[place] != NOT_BASE).sum() == run.store.summary(round_, "select")[
            "base"
        ]
        assert (drawn.fate_RS[place] == 0).sum() == flow.count_RF[place, 0]


# --- flow -------------------------------------------------------------------------------------


def test_the_flow_is_of_all_rows_of_the_base(run):
    flow, drawn = count_flow(run, no_bar), draw_rows(run, no_bar)
    for place, round_ in enumerate(flow.rounds):
        summary = run.store.summary(round_, "select")
        dropped = summary["base"] - summary["selected"]
        assert flow.count_RF[place].tolist() == [
            dropped,
            summary["confident"],
            summary["diverse"],
        ]
    for place in range(2):
        before, after = drawn.fate_RS[place], drawn.fate_RS[place + 1]
        for f in range(3):
            for g in range(3):
                expected = int(((before == f) & (after == g)).sum())
                assert flow.moved_RFF[place, f, g] == expected
    summary = run.store.summary(1, "select")
    assert flow.moved_RFF[0, 1, 1] == summary["kept"]


# --- sheets -----------------------------------------------------------------------------------


def made(fate_RS, score_RS):
    score_RS = np.array(score_RS, np.float32)
    fate_RS = np.array(fate_RS, np.int8)
    rows = 10 * np.arange(fate_RS.shape[1])
    return Drawn(list(range(len(fate_RS))), rows, score_RS, score_RS, fate_RS, len(rows))


DRAWN = made(
    [[1, 1, 0, 0, 2, 0, -1], [1, 0, 1, 0, 0, 0, -1], [1, 0, 1, 1, 0, 2, -1]],
    [[9, 8, 2, 1, 5, 3, 99], [9, 4, 8, 2, 1, 3, 99], [9, 2, 8, 7, 1, 3, 99]],
)


def test_sheets_hold_what_they_say():
    pairs = choose_sheets(DRAWN, 9, seed=0, clean_S=np.array([1, 0, 1, 0, -1, -1, 1], np.int8))
    sheets = {sheet.title: sheet for pair in pairs for sheet in pair}
    chosen = {title: sheet.chosen.tolist() for title, sheet in sheets.items()}
    assert chosen["Kept"] == [0, 2, 3] and chosen["Dropped"] == [1, 4]
    assert chosen["Trusted most"] == [0, 2, 3, 5, 1, 4]
    assert chosen["Trusted least"] == [4, 1, 5, 3, 2, 0]
    assert chosen["Only just kept"] == [3, 2, 0] and chosen["Only just dropped"] == [1, 4]
    assert chosen["Taken in"] == [2, 3] and chosen["Given up"] == [1]
    assert chosen["By lot"] == [5]
    assert sheets["Kept"].right_share == pytest.approx(2 / 3)
    assert sheets["By lot"].right_share is None  # nobody knows


def test_rows_that_go_to_and_fro_are_those_with_most_turns():
    drawn = made(
        [[1, 0, 1], [0, 1, 1], [1, 0, 0], [0, 1, 0]], [[1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2, 3]]
    )
    pairs = choose_sheets(drawn, 9, seed=0)
    (turned,) = [sheet for pair in pairs for sheet in pair if sheet.title == "To and fro"]
    assert sorted(turned.chosen.tolist()) == [0, 1]


def test_a_sheet_has_no_more_samples_than_asked():
    assert all(len(s.chosen) <= 2 for pair in choose_sheets(DRAWN, 2, seed=0) for s in pair)


# --- pictures ---------------------------------------------------------------------------------


def test_a_thumbnail_keeps_to_its_bytes():
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (300, 500, 3), dtype=np.uint8)
    tile = as_tile(Shown(Image.fromarray(noise), "a"), most_bytes=2500)
    assert tile.picture is not None and len(tile.picture) < 2500 * 4 / 3 + 40
    assert as_tile(Shown(Image.fromarray(noise), "a"), most_bytes=10).picture is None
    small = as_tile(Shown(Image.fromarray(noise[:5, :8]), "a"), most_bytes=9000)
    assert (small.width, small.height) == (8, 5)


def test_captions_are_cut_and_harmless():
    tile = as_tile(Shown(None, "a\x00\u202e" + "b" * 1000), 10)
    assert len(tile.caption) == 200 and tile.caption.startswith("a b")


# --- words ------------------------------------------------------------------------------------


def test_words_are_named_if_their_captions_are_kept_more_often_or_less():
    captions = ["a good cat"] * 40 + ["a bad dog"] * 40 + ["a plain thing"] * 40
    first = np.zeros(120, bool)
    last = np.array([True] * 40 + [False] * 40 + [True, False] * 20)
    words = find_words(captions, first, last)
    assert [w.word for w in words.gained] == ["cat", "good"]
    assert [w.word for w in words.lost] == ["bad", "dog"]
    assert words.gained[0].last == 1 and words.gained[0].first == 0
    assert words.gained[0].captions == 40 and words.captions == 120
    # 40 of 120 with rate 1/2: √(¼ / 40 · 80 / 119)
    assert words.gained[0].z == pytest.approx(0.5 / np.sqrt(0.25 / 40 * 80 / 119))


def test_seldom_words_are_passed_over():
    captions = ["rare"] * 5 + ["common"] * 50
    kept = np.array([True] * 5 + [False] * 50)
    assert find_words(captions, kept, kept).gained == []


def test_captions_are_read_and_the_unreadable_left_blank(run):
    captions, why_not = read_captions(run.pool, np.array([4, 0, 6]))
    assert captions == ["caption 4 of a cat", "caption 0 of a dog", "caption 6 of a dog"]
    assert why_not == ""


# --- map --------------------------------------------------------------------------------------


def test_principal_axes_are_those_of_largest_variance():
    rng = np.random.default_rng(0)
    plane = rng.exponential(size=(500, 2)) * [5.0, 2.0]
    turned = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    features = (np.hstack([plane, 0.01 * rng.normal(size=(500, 6))]) @ turned).astype(np.float32)
    xy, explained = principal_plane(features)
    assert explained > 0.999
    for k in range(2):
        assert abs(np.corrcoef(xy[:, k], plane[:, k])[0, 1]) > 0.99
    np.testing.assert_allclose(principal_plane(-features)[0] ** 2, xy**2, atol=1e-3)
    assert (xy**3).sum(axis=0).min() > 0


def test_the_map_has_rows_of_the_base_within_the_unit_square(run):
    drawn = draw_rows(run, no_bar)
    plane = lay_out(run, drawn, most=50)
    assert plane.of_embeddings and len(plane.chosen_P) == 50
    assert drawn.base_S[plane.chosen_P].all()
    assert plane.xy_P2.min() >= 0 and plane.xy_P2.max() <= 1


# --- curves -----------------------------------------------------------------------------------


def test_curves_end_where_the_run_does_and_break_at_fresh_weights(run):
    progress = progress_of(run)
    assert progress.samples == 288 and progress.boundaries == [(0, 144), (1, 208), (2, 288)]
    loss = next(panel for panel in progress.panels if panel.title.startswith("training loss"))
    assert [line.points[0][0] > 144 for line in loss.lines] == [False, True]
    truth = next(panel for panel in progress.panels if "truth" in panel.title)
    auc = next(line for line in truth.lines if line.name.startswith("AUC"))
    assert [value for _, value in auc.points] == [
        run.store.summary(round_, "select")["auc"] for round_ in range(3)
    ]


def test_many_points_become_few_means_between_the_same_ends():
    points = [(float(x), float(x % 2)) for x in range(10_000)]
    few = thinned(points, 100)
    assert len(few) == 100 and few[0] == points[0] and few[-1] == points[-1]
    assert all(0.4 < y < 0.6 for _, y in few[1:-1])
    assert thinned(points[:50], 100) == points[:50]
