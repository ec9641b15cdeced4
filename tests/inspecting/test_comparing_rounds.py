"""Two real runs in one of their rounds: row by row, and by uid."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selffilter.comparing.gather import config_differences, gather
from selffilter.comparing.rounds import common_rounds, compare_round
from selffilter.comparing.sides import open_sides
from selffilter.rundir.on_disk import RunOnDisk
from selffilter.store import RunStore


def table(folder):
    paths = [path for path in sorted(folder.glob("*.parquet")) if path.stem.isdecimal()]
    return pa.concat_tables([pq.read_table(path) for path in paths])


@pytest.fixture
def pair(loop, merit):
    return RunOnDisk.open(loop), RunOnDisk.open(merit)


def elsewhere(run):
    """The same run over another version of its pool, as far as anybody can tell."""
    return dataclasses.replace(run, pinned=run.pinned | {"version": "another"})


def confident(run, round_):
    selection = table(run.store.stage(round_, "select"))
    share = np.array(selection["share"].to_pylist())
    return set(selection["row"].to_numpy()[share == "confident"].tolist())


def test_what_both_and_only_one_keep_is_counted_as_sets_have_it(pair):
    a, b = pair
    assert common_rounds(a, b) == [0, 1, 2]
    for round_ in range(3):
        mine, its = confident(a, round_), confident(b, round_)
        for found in (compare_round(a, b, round_), compare_round(a, elsewhere(b), round_)):
            moved = found.confident
            assert (moved.kept, moved.dropped, moved.new) == (
                len(mine & its), len(mine - its), len(its - mine),
            )  # fmt: skip
            every = [set(table(r.store.stage(round_, "select"))["row"].to_pylist()) for r in pair]
            assert found.selected.kept == len(every[0] & every[1])
            assert found.record()["confident"]["jaccard"] == pytest.approx(
                len(mine & its) / len(mine | its)
            )


def test_rows_and_uids_lead_to_the_same_scores_side_by_side(pair):
    a, b = pair
    by_row, by_uid = compare_round(a, b, 1), compare_round(a, elsewhere(b), 1)
    for found in (by_row, by_uid):
        assert found.ranked_by == ("score", "merit")
        assert found.of == len(found.scores_a) == 117
        assert found.largest_difference is None  # a merit is no score
    pairs = [
        set(zip(x.scores_a.tolist(), x.scores_b.tolist(), strict=True)) for x in (by_row, by_uid)
    ]
    assert pairs[0] == pairs[1]
    assert by_row.spearman == pytest.approx(by_uid.spearman)
    assert -1 <= by_row.spearman <= 1


def test_a_run_is_in_all_respects_like_itself(pair):
    a, _ = pair
    found = compare_round(a, a, 2)
    assert (found.confident.new, found.confident.dropped, found.confident.jaccard) == (0, 0, 1)
    assert (found.spearman, found.largest_difference) == (1.0, 0.0)
    assert found.thresholds == (found.thresholds[1], found.thresholds[1])


def test_scores_that_differ_are_told_by_how_much(loop, loop_copy):
    path = RunStore(loop_copy).stage(1, "score") / "00001.parquet"
    scores = pq.read_table(path)
    column = scores["neg_clip_loss"].to_numpy().copy()
    column[4] += 3
    place = scores.schema.get_field_index("neg_clip_loss")
    pq.write_table(scores.set_column(place, scores.schema.field(place), pa.array(column)), path)
    a, b = RunOnDisk.open(loop), RunOnDisk.open(loop_copy)
    assert compare_round(a, b, 1).largest_difference == pytest.approx(3, abs=1e-5)
    assert compare_round(a, b, 0).largest_difference == 0


@pytest.mark.parametrize("other", [lambda run: run, elsewhere], ids=["by row", "by uid"])
def test_of_very_many_rows_a_draw_is_held_the_same_rows_of_both(loop, other):
    run = RunOnDisk.open(loop)
    found = compare_round(run, other(run), 1, sampled_rows=40)
    assert 15 < len(found.scores_a) < 70
    assert (found.scores_a == found.scores_b).all()
    assert found.confident.kept == len(confident(run, 1))  # sets are counted in full


def test_configs_differ_where_they_do_and_names_do_not_count(loop, merit):
    sides = open_sides([loop, merit, loop])
    assert config_differences(sides) == {
        "seed": [0, 1, 0],
        "select.memory_half_life": [0.0, 1.0, 0.0],
    }


def test_what_is_gathered_can_be_written_as_json_without_nan(loop, merit):
    import json

    found = gather(open_sides([loop, merit]))
    text = json.dumps(found.record(), allow_nan=False)
    assert set(json.loads(text)["compute"]) == {"A", "B"}
