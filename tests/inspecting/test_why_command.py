"""`selffilter why`, as its user meets it, on a small real run."""

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selffilter.asking.reading import Asked
from selffilter.planning import round_steps
from selffilter.pool.base import Base
from selffilter.rundir.on_disk import RunOnDisk
from selffilter.store import RunStore
from selffilter.tables import RATES, REMOVED, write_table
from selffilter.training.batch_plan import exposures
from selffilter.training.round_plan import round_plan

ROUNDS = 3
FATES = {"confident", "diverse", "below_threshold", "tied", "probe", "failed"}


def column(folder, name):
    paths = [path for path in sorted(folder.glob("*.parquet")) if path.stem.isdecimal()]
    return pa.concat_tables([pq.read_table(path, columns=[name]) for path in paths])[
        name
    ].to_numpy()


@pytest.fixture(params=["loop", "merit"])
def any_run(request):
    return RunOnDisk.open(request.getfixturevalue(request.param))


def test_every_row_is_told_of_as_tables_and_plan_have_it(any_run):
    run, rows = any_run, np.arange(any_run.pool.rows)
    base = Base.of(run.pool, run.config)
    rounds = list(Asked(run, rows).standings())
    assert len(rounds) == ROUNDS
    for round_, standings in enumerate(rounds):
        folder = run.store.stage(round_, "select")
        summary = run.store.summary(round_, "select")
        fates = Counter(standing.fate for standing in standings)
        assert set(fates) <= FATES
        assert (fates["confident"], fates["diverse"]) == (summary["confident"], summary["diverse"])
        assert fates["failed"] == 3
        assert fates["probe"] == summary["account"]["probe"] - sum(
            standing.probe and standing.failure is not None for standing in standings
        )
        selected = dict(
            zip(column(folder, "row").tolist(), column(folder, "rank").tolist(), strict=True)
        )
        assert {s.rank for s in standings if s.share} == set(selected.values())
        for row, rank in selected.items():
            assert (standings[row].rank, standings[row].weight) == (rank, 1)
        plan = round_plan(run.config, run.store, base, round_)
        times = dict.fromkeys(rows.tolist(), 0)
        times |= dict(
            zip(
                *map(np.ndarray.tolist, exposures(plan, round_steps(run.config)[round_].steps)),
                strict=True,
            )
        )
        assert [standing.times for standing in standings] == list(times.values())


def test_a_dropped_row_is_told_by_how_much_and_its_place(loop, call):
    run = RunOnDisk.open(loop)
    scores = column(run.store.stage(1, "score"), "neg_clip_loss")
    in_base = (column(run.store.stage(1, "score"), "failure") == 0) & ~column(
        run.store.stage(1, "score"), "probe"
    )
    worst = int(np.flatnonzero(in_base)[np.argmin(scores[in_base])])
    threshold = run.store.summary(1, "select")["threshold"]
    code, out, _ = call("why", loop, f"{worst:032x}", "--json")
    (about,) = json.loads(out)
    assert code == 0
    assert (about["row"], about["captions"]) == (worst, [f"caption {worst}"])
    told = about["rounds"][1]
    assert told["rank"] == in_base.sum() - 1
    assert told["score"] == pytest.approx(float(scores[worst]))
    assert told["above_threshold"] == pytest.approx(float(scores[worst]) - threshold)
    if told["share"] is None:
        assert f"{threshold - float(scores[worst]):.2g} below the lowest confident" in told["why"]


def test_one_block_a_sample_one_paragraph_a_round(loop, call):
    code, out, err = call("why", loop, f"{0:032x}", "--row", 8, "--key", "00000/000011")
    assert (code, err) == (0, "")
    blocks = out.strip().split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == [
        f"{0:032x}  row 0", f"{8:032x}  row 8", f"{11:032x}  row 11",
    ]  # fmt: skip
    for block in blocks:
        assert [f"round {r}" in block for r in range(ROUNDS + 1)] == [True] * ROUNDS + [False]
        assert "where     pool/00000.tar" in block
        assert max(map(len, block.splitlines())) <= 100


def test_nothing_of_a_caption_steers_the_terminal(loop, call):
    for words in ((), ("--json",)):
        _, out, _ = call("why", loop, "--row", 7, *words)
        assert all(c == "\n" or c.isprintable() for c in out)
    _, out, _ = call("why", loop, "--row", 7)
    assert "red fox with" in " ".join(out.split())
    assert out.count("and a tail") < 30  # it is clipped


def test_samples_that_cannot_be_used_have_their_reason(loop, call):
    _, out, _ = call("why", loop, "--row", 3, "--row", 5, "--row", 50)
    broken, silent, again = out.split("\n\n")
    assert broken.count("Cannot be used: image_unreadable.") == ROUNDS
    assert silent.count("Cannot be used: missing_caption.") == ROUNDS
    assert "(none: missing_caption)" in silent
    assert again.count("Cannot be used: duplicate_uid.") == ROUNDS
    assert "same uid  row 40" in again
    # By its uid a sample is the one that can be used.
    _, out, _ = call("why", loop, f"{40:032X}")
    assert out.startswith(f"{40:032x}  row 40\n")
    assert "same uid  row 50" in out


def test_a_sample_that_is_not_there_is_said_to_be_unknown_after_the_others(loop, call):
    code, out, err = call("why", loop, f"{999:032x}", f"{1:032x}", "--row", 120, "--key", "nobody")
    assert code == 2
    assert out.startswith(f"{1:032x}  row 1\n")
    assert f"no sample of this run's pool has the uid {999:032x}" in err
    assert "there is no row 120" in err
    assert "no sample of this run's pool has the key nobody" in err


def test_what_is_no_uid_is_refused(loop, call):
    for word in ("000011", "g" * 32):
        code, out, err = call("why", loop, word)
        assert (code, out) == (2, "")
        assert "is no uid, which has 32 hex digits" in err
    assert call("why", loop)[0] == 2


def test_merit_and_score_are_both_told_where_rows_are_ranked_by_merit(merit, call):
    code, out, _ = call("why", merit, "--row", 8, "--json")
    told = json.loads(out)[0]["rounds"][1]
    merits = np.load(RunStore(merit).stage(1, "select") / "merit.npy")
    assert code == 0
    assert told["merit"] == pytest.approx(float(merits[8]))
    assert f"neg_clip_loss {told['score']:.4g}, merit {told['merit']:.4g}: " in told["why"]


def test_what_removals_and_cuts_of_a_run_leave_out_is_told_so(strict, call):
    words = [word for row in range(120) for word in ("--row", row)]
    told = {about["row"]: about for about in json.loads(call("why", strict, *words, "--json")[1])}
    for round_ in (0, 1):
        fates = {row: about["rounds"][round_]["fate"] for row, about in told.items()}
        (gone,) = [row for row, fate in fates.items() if fate == "removed"]
        stays = {20: 60, 60: 20}[gone]
        assert told[gone]["rounds"][round_]["removed"]["of_row"] == stays
        assert f"of row {stays} ({stays:032x})" in told[gone]["rounds"][round_]["why"]
        cut = [about["rounds"][round_] for row, about in told.items() if fates[row] == "cut"]
        # Of 116 rows half pass the cut; the diverse draw takes some of the others.
        assert len(cut) > 30
        for about in cut:
            (line,) = about["cuts"]
            assert line["score"] < line["lowest_kept"]
            assert "cut 1 of 1, by cosine" in about["why"]


def test_a_removed_row_is_told_with_the_one_in_its_place_and_ranks_leave_it_out(loop_copy, call):
    folder = RunStore(loop_copy).stage(2, "select")

    def ask(*rows):
        words = [word for row in rows for word in ("--row", row)]
        return call("why", loop_copy, *words), call("why", loop_copy, *words, "--json")

    told = json.loads(ask(*range(8, 120))[1][1])
    dropped = [t for t in told if t["rounds"][2]["fate"] == "below_threshold"]
    dropped.sort(key=lambda about: about["rounds"][2]["rank"])
    better, leaked, worse = dropped[0], dropped[1], dropped[-1]
    table = pa.table(
        {
            "row": [better["row"], leaked["row"]],
            "reason": pa.array(["near_duplicate", "in_evaluation_set"]).dictionary_encode(),
            "of_row": [9, -1],
            "of": pa.array([None, "birds/s12\x1b[2J"]).dictionary_encode(),
        }
    )
    write_table(folder / REMOVED, table.sort_by("row"))
    (_, out, _), (_, plain, _) = ask(better["row"], leaked["row"], worse["row"])
    first, second, _ = (" ".join(block.split()) for block in out.split("\n\n"))
    assert f"Removed before selecting: near duplicate, of row 9 ({9:032x})." in first
    assert "Removed before selecting: in evaluation set, birds/s12 [2J." in second
    for round_, removed in ((1, 0), (2, 2)):
        before, after = (about["rounds"][round_] for about in (worse, json.loads(plain)[2]))
        assert before["scored_base"] - after["scored_base"] == removed
    assert before["rank"] - after["rank"] == 2


def test_a_run_that_is_not_finished_says_so(loop_copy, call):
    store = RunStore(loop_copy)
    store.marker(2, "select").unlink()
    _, out, _ = call("why", loop_copy, "--row", 8)
    assert "Selecting is not finished." in " ".join(out.split())
    assert "to come   the run is not finished: select of round 2." in out
    store.marker(2, "score").unlink()
    store.marker(1, "select").unlink()
    _, out, _ = call("why", loop_copy, "--row", 8)
    assert "select of round 1, and 1 more round." in out


def test_where_the_pool_is_gone_or_has_changed_the_rest_is_told(loop, call, home):
    tar, aside = home / "pool" / "00001.tar", home / "00001.tar"
    tar.rename(aside)  # with its time, by which a change is seen: other tests read it
    try:
        tar.write_bytes(aside.read_bytes() + bytes(512))
        assert "has changed since it was indexed" in call("why", loop, "--row", 45)[1]
        tar.unlink()
        code, out, _ = call("why", loop, "--row", 45)
        assert (code, "round 2" in out) == (0, True)
        assert "(not read: its shard is gone)" in out
    finally:
        aside.rename(tar)


def test_a_folder_that_is_no_run_is_refused(tmp_path, call):
    code, _, err = call("why", tmp_path, "--row", 1)
    assert code == 2
    assert "is no run directory: it has no config.yaml" in err


def test_the_groups_of_a_row_and_the_alarms_of_a_round_are_told(loop_copy, call):
    path = RunStore(loop_copy).marker(1, "select")
    summary = json.loads(path.read_text())
    summary["alarms"] = [{"name": "retention", "sentence": "Too few stay \x1b[2J."}]
    path.write_text(json.dumps(summary))
    rates = pq.read_table(loop_copy / "rounds/001/selection" / RATES).to_pylist()
    (of_it,) = [r for r in rates if (r["grouping"], r["group"]) == ("caption_chars", "1-10")]
    code, out, _ = call("why", loop_copy, "--row", 8, "--json")  # caption 8: 9 characters
    before, told, _ = json.loads(out)[0]["rounds"]
    assert code == 0
    group = {"grouping": "caption_chars", "group": "1-10"}
    group |= {name: of_it[name] for name in ("base", "relative_rate", "standard_error")}
    assert group in told["groups"]
    assert f"caption_chars 1-10 {of_it['relative_rate']:.2f}×" in told["why"]
    assert before["alarms"] == [] and told["alarms"] == ["Too few stay \x1b[2J."]
    _, out, _ = call("why", loop_copy, "--row", 8)
    assert "The guard: Too few stay" in " ".join(out.split()) and "\x1b" not in out
