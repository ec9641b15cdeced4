"""What the select stage can be asked for, in whole runs on a small pool."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_end_to_end import BATCH, ROUNDS, config_of, go, home, read_stage, same_run, whole

from selffilter.config import load_config, read_run_config
from selffilter.errors import UserError
from selffilter.opening import check_selection
from selffilter.planning import round_steps
from selffilter.store import RunStore, iterate_jsonl, read_json
from selffilter.tables import read_table

__all__ = ["home", "whole"]


def summaries(store: RunStore) -> list[dict]:
    return [store.summary(round_, "select") for round_ in range(ROUNDS)]


def selected(store: RunStore, round_: int) -> dict[str, np.ndarray]:
    table = read_stage(store.stage(round_, "select"), ["row", "weight", "share", "score"])
    return {name: np.asarray(table[name]) for name in table.column_names}


def scores(store: RunStore, round_: int, *names: str) -> list[np.ndarray]:
    table = read_stage(store.stage(round_, "score"), list(names))
    return [table[name].to_numpy() for name in names]


def test_a_summary_says_how_the_selection_moved_and_whom_it_favours(whole: RunStore) -> None:
    first, *later = summaries(whole)
    assert "retention" not in first
    for round_, summary in enumerate(later, 1):
        before, now = (selected(whole, r) for r in (round_ - 1, round_))
        sets = [set(s["row"][s["share"] == "confident"].tolist()) for s in (before, now)]
        assert summary["kept"] == len(sets[0] & sets[1])
        assert summary["new"] == len(sets[1] - sets[0])
        assert summary["dropped"] == len(sets[0] - sets[1])
        assert summary["overlap"] == pytest.approx(len(sets[0] & sets[1]) / len(sets[0] | sets[1]))
        (x,), (y,) = (scores(whole, r, "neg_clip_loss") for r in (round_ - 1, round_))
        both = np.isfinite(x) & np.isfinite(y)
        ranks = [np.argsort(np.argsort(column[both])) for column in (x, y)]
        assert summary["rank_correlation"] == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-6)
        assert set(summary["coverage"]) == {"source", "script", "caption_chars"}
        assert summary["coverage"]["source"] == summary["entropy"]["source"] == 1.0
    rates = read_table(whole.stage(1, "select") / "about" / "groups.parquet").to_pylist()
    by_length = [r for r in rates if r["grouping"] == "caption_chars"]
    assert sum(r["base"] for r in by_length) == later[0]["base"]
    assert sum(r["selected"] for r in by_length) == later[0]["selected"]
    shapes = read_json(whole.stage(1, "select") / "about" / "histograms.json")["parts"]
    assert sum(shapes["confident"]["counts"]) == later[0]["confident"]
    assert sum(shapes["probe"]["counts"]) > 0


def test_with_truth_a_summary_says_how_much_of_what_is_clean_is_kept(
    home: Path, whole: RunStore
) -> None:
    truth = pq.read_table(home / "truth.parquet")
    is_clean = dict(zip(truth["uid"].to_pylist(), truth["clean"].to_pylist(), strict=True))
    for round_, summary in enumerate(summaries(whole)):
        uids, score, probe = scores(whole, round_, "uid", "neg_clip_loss", "probe")
        clean = np.array([is_clean[uid.hex()] for uid in uids]) & np.isfinite(score) & ~probe
        rows = selected(whole, round_)
        kept = rows["row"][rows["share"] == "confident"]
        assert summary["precision"] == pytest.approx(clean[kept].mean())
        assert summary["recall"] == pytest.approx(clean[kept].sum() / clean.sum())


def test_with_truth_the_fitted_probability_is_held_against_it_whatever_rows_are_kept_by(
    home: Path, tmp_path: Path
) -> None:
    """Given scores in two heaps; the upper has three right pairs of four, the lower one of four."""
    truth = pq.read_table(home / "truth.parquet")
    clean, rng = truth["clean"].to_numpy(zero_copy_only=False), np.random.default_rng(0)
    upper = clean ^ (rng.random(len(clean)) < 0.25)
    score = np.where(upper, 3.0, 0.0) + 0.5 * rng.standard_normal(len(clean))
    given = pa.table({"uid": truth["uid"], "score": score.astype(np.float32)})
    pq.write_table(given, tmp_path / "given.parquet")
    words = ("score.signal=given", f"score.given_scores={tmp_path / 'given.parquet'}",
             "rounds.count=2", "select.keep_fraction=0.9")  # fmt: skip
    mixed = go(config_of(home, tmp_path, "mixed", "select.confident=mixture", *words))
    summary = mixed.summary(0, "select")
    base = summary["scored_base"]
    file = Path("about") / "calibration.parquet"
    table = read_table(mixed.stage(0, "select") / file)
    rows, said, right = (
        table[name].to_numpy() for name in ("rows", "mean_posterior", "clean_share")
    )
    assert rows.sum() == base and rows[[0, -1]].sum() > 0.95 * base
    assert said[-1] > 0.95 and 0.65 < right[-1] < 0.85
    assert said[0] < 0.05 and 0.15 < right[0] < 0.35
    error = np.nansum(rows * abs(said - right)) / base
    assert summary["expected_calibration_error"] == pytest.approx(error)
    assert 0.15 < error < 0.35

    best = go(config_of(home, tmp_path, "best", *words))
    written = [(store.stage(0, "select") / file).read_bytes() for store in (mixed, best)]
    assert written[0] == written[1]
    record = [r for r in iterate_jsonl(best.root / "metrics.jsonl") if r["kind"] == "round_summary"]
    assert record[0]["expected_calibration_error"] == pytest.approx(error)

    lone = given.set_column(1, "score", pa.array(rng.standard_normal(len(clean)), pa.float32()))
    pq.write_table(lone, tmp_path / "given.parquet")
    store = go(config_of(home, tmp_path, "lone", *words))
    assert not (store.stage(0, "select") / file).exists()
    assert "expected_calibration_error" not in store.summary(0, "select")


def test_facts_of_the_captions_stand_beside_the_scores(home: Path, whole: RunStore) -> None:
    chars, script, failure = scores(whole, 0, "caption_chars", "script", "failure")
    captions = {}
    for path in sorted((home / "pool").glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".txt"):
                    data = tar.extractfile(member)
                    assert data is not None
                    captions[len(captions)] = data.read().decode().strip()
    for row, caption in captions.items():
        assert chars[row] == (len(caption) if failure[row] == 0 else 0), caption
    assert (script[failure > 0] == 0).all()


def test_clusters_strata_duplicates_and_evaluation_images(home: Path, tmp_path: Path) -> None:
    pool = home.parent / f"{tmp_path.name}-pool"
    pool.mkdir(exist_ok=True)
    first = (home / "pool" / "00000.tar").read_bytes()
    for path in (home / "pool").glob("*.tar"):
        (pool / path.name).write_bytes(path.read_bytes())
    # The first shard's images once more, with captions and ids of their own; and three images of
    # the evaluation set.
    images = []
    with tarfile.open(fileobj=io.BytesIO(first)) as tar:
        images += [tar.extractfile(m).read() for m in tar if m.name.endswith(".webp")][10:20]
    with tarfile.open(home / "eval" / "test" / "0.tar") as tar:
        images += [tar.extractfile(m).read() for m in tar if m.name.endswith(".webp")][:3]
    with tarfile.open(pool / "00099.tar", "w") as tar:
        for number, data in enumerate(images):
            about = json.dumps({"uid": f"{number:032x}", "kind": f"k{number % 3}"}).encode()
            for extension, member in (("json", about), ("txt", b"copy"), ("webp", data)):
                info = tarfile.TarInfo(f"{number:04d}.{extension}")
                info.size = len(member)
                tar.addfile(info, io.BytesIO(member))
    store = go(
        config_of(
            home, tmp_path, "all", f"pool.shards=[{pool}]", f"pool.index_dir={tmp_path}/index",
            "select.clusters=4", "select.diverse_by=cluster", "select.duplicates=near",
            "select.duplicate_cosine=0.999", f"select.without=[{home / 'eval'}]",
            "select.balance=cluster", "select.group_floor=0.5",
            "select.watch=[source,json:kind]", "evaluate.truth=null", "select.probe_fraction=0",
        )
    )  # fmt: skip
    for round_, summary in enumerate(summaries(store)):
        account = summary["account"]
        assert account["in_evaluation_set"] == 3
        assert account["exact_duplicate"] == 10
        assert account["indexed"] == sum(v for k, v in account.items() if k != "indexed")
        table = read_table(store.stage(round_, "select") / "about" / "removed.parquet").to_pylist()
        leaks = [r for r in table if r["reason"] == "in_evaluation_set"]
        assert {r["of"].rsplit(" ", 1)[1] for r in leaks} == {"0", "1", "2"}
        removed = {r["row"] for r in table}
        exact = [r for r in table if r["reason"] == "exact_duplicate"]
        (merit,) = scores(store, round_, "neg_clip_loss")
        assert all(merit[r["row"]] <= merit[r["of_row"]] for r in exact)
        assert not removed & {r["of_row"] for r in table}
        assert not removed & set(selected(store, round_)["row"].tolist())
        assert summary["base"] == account["base_scored"]
        clusters = np.load(store.stage(round_, "select") / "clusters.npy")
        assert clusters.max() == 3
        rates = read_table(store.stage(round_, "select") / "about" / "groups.parquet").to_pylist()
        assert {r["grouping"] for r in rates} == {"cluster", "source", "json:kind"}


def test_scores_that_stay_take_their_embeddings_along(home: Path, tmp_path: Path) -> None:
    words = ("select.clusters=4", "select.balance=cluster", "select.group_floor=0.5")
    store = go(config_of(home, tmp_path, "frozen", "score.rescore=once", *words))
    clusters = [np.load(store.stage(r, "select") / "clusters.npy") for r in range(ROUNDS)]
    assert clusters[0].max() == 3
    for later in clusters[1:]:
        np.testing.assert_array_equal(later, clusters[0])
    assert not (store.stage(1, "score") / "embeddings").exists()


def test_where_nothing_is_scored_clusters_are_not_watched(home: Path, tmp_path: Path) -> None:
    everything = ("select.keep_fraction=0", "select.diverse_fraction=1")
    words = ("select.clusters=4", "select.balance=cluster", "select.diverse_by=cluster")
    store = go(config_of(home, tmp_path, "uniform", *everything, *words))
    for summary in summaries(store):
        assert summary["selected"] == summary["base"]
        assert set(summary["coverage"]) == {"source", "script", "caption_chars"}


def test_the_guard_widens_the_mix_and_remembers_it(home: Path, tmp_path: Path) -> None:
    wide = go(config_of(home, tmp_path, "wide", "guard.action=widen", "guard.diverse_share=0.45",
                        "select.diverse_fraction=0.1"))  # fmt: skip
    found = summaries(wide)
    assert [s["widened_draw"] for s in found] == [1, 2, 3]
    assert [s["alarms"][0]["name"] for s in found] == ["diverse_share"] * 3
    drawn = [s["diverse_drawn"] / s["base"] for s in found]
    np.testing.assert_allclose(drawn, [0.2, 0.4, 0.5], atol=0.01)


def test_the_guard_stops_the_run_and_lets_it_go_on(home: Path, tmp_path: Path) -> None:
    strict = ("guard.action=stop", "guard.retention=0.999")
    with pytest.raises(UserError, match=r"the guard stops the run in round 1: The share of the"):
        go(config_of(home, tmp_path, "stops", *strict))
    store = go(config_of(home, tmp_path, "stops", "guard.action=warn", "guard.retention=0.999"))
    assert [a["name"] for a in summaries(store)[1]["alarms"]] == ["retention"]


def test_weights_are_fitted_to_what_the_coming_round_consumes(home: Path, tmp_path: Path) -> None:
    store = go(config_of(home, tmp_path, "fitted", "select.weights=samples",
                         "select.keep_fraction=0.1", "select.diverse_fraction=0.05",
                         "select.diverse_samples=0.25"))  # fmt: skip
    steps = round_steps(read_run_config(store.config_path))
    for round_ in range(ROUNDS - 1):
        rows = selected(store, round_)
        coming = steps[round_ + 1].steps * BATCH
        assert rows["weight"].sum() == max(coming, len(rows["row"]))
    assert set(selected(store, ROUNDS - 1)["weight"].tolist()) == {1}


def test_the_confident_are_drawn_with_repeats_and_the_run_is_the_same_again(
    home: Path, tmp_path: Path
) -> None:
    words = ("select.confident=sample", "select.temperature=0.5", "select.repeat_penalty=0.3")
    one, two = (go(config_of(home, tmp_path / n, "drawn", *words)) for n in ("a", "b"))
    same_run(one, two)
    rows = selected(one, 0)
    confident = rows["share"] == "confident"
    assert rows["weight"][confident].sum() == round(0.4 * summaries(one)[0]["scored_base"])
    assert rows["weight"].max() > 1


def test_cuts_by_another_signal_come_before_the_confident_share(home: Path, tmp_path: Path) -> None:
    words = ("score.also=[cosine]", 'select.cuts=["keep cosine:0.3"]', "select.keep_fraction=0.2")
    store = go(config_of(home, tmp_path, "cut", *words))
    rows = selected(store, 0)
    cosine, failure, probe = scores(store, 0, "cosine", "failure", "probe")
    usable = (failure == 0) & ~probe
    best = np.argsort(-np.where(usable, cosine, -9))[: round(0.3 * len(cosine))]
    assert set(rows["row"][rows["share"] == "confident"].tolist()) <= set(best.tolist())


def test_a_schedule_becomes_a_number_a_round() -> None:
    words = ["pool.shards=[x]", "rounds.count=5"]
    config = load_config(None, [*words, "select.keep_fraction=linear(0.2, 0.5)"])
    assert config.select.keep_fraction == [0.2, 0.3, 0.4, 0.5]
    config = load_config(None, [*words, "select.diverse_fraction=cosine(0.1, 0.3)"])
    assert config.select.diverse_fraction == [0.1, 0.15, 0.25, 0.3]
    both = ["select.keep_fraction=linear(0.2, 0.5)", "select.keep_fraction=0.3"]
    assert load_config(None, [*words, *both]).select.keep_fraction == [0.3]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["select.keep_fraction=linear(0.2)"], "select.keep_fraction='linear(0.2)' is no schedule"),
        (["select.keep_fraction=steps(0.2, 0.4)"], "is no schedule, as linear(0.2, 0.4)"),
        (["select.confident=threshold"], "a threshold is for confident=threshold"),
        (["select.threshold=0.3"], "do not fit"),
        (["select.group_floor=0.5"], "need select.balance"),
        (["select.balance=source", "select.confident=sample"], "does not go with"),
        (["select.diverse_samples=0.5"], "needs select.weights=samples"),
        (["select.weights=samples", "pool.source_weights=[2]"], "both say how often"),
        (["select.watch=[cluster]"], "need select.clusters"),
        (["select.duplicates=near"], "need select.clusters"),
        (["select.duplicates=all"], "is not one of keep, exact, near"),
        (["select.cuts=[cosine]"], "'cosine' is none of 'keep SIGNAL:FRACTION'"),
        (['select.cuts=["keep cosine:0.4"]'], "put it into score.also"),
        (["select.watch=[language]"], "'language' is no grouping: they are source, script"),
        (["select.without=[/no/where]"], "/no/where"),
        (
            ["select.keep_fraction=[0.3, 0]", "select.duplicates=near", "select.clusters=9"],
            "select.duplicates=near needs embeddings, and round 1 makes none",
        ),
        (
            ["select.keep_fraction=0", "select.diverse_by=cluster", "select.clusters=9"],
            "select.diverse_by=cluster needs embeddings, and round 0 makes none",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_else(words: list[str], said: str) -> None:
    with pytest.raises(UserError) as refused:
        check_selection(load_config(None, ["pool.shards=[x]", *words]))
    assert said in str(refused.value)
