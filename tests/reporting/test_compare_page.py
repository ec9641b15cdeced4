"""`compare.html`: runs and subsets beside each other, as their user meets them."""

import json
import re
import shutil
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selffilter.comparing.agreement import by_all_and_by_none
from selffilter.comparing.disputed import disputed_samples, quantiles_of
from selffilter.comparing.gather import gather
from selffilter.comparing.page.curves import on_the_way
from selffilter.comparing.page.final import final
from selffilter.comparing.page.page import compare_page
from selffilter.comparing.page.samples import samples
from selffilter.comparing.seeds import Difference
from selffilter.comparing.sides import open_sides
from selffilter.pool import uids
from selffilter.reporting.shell import MOST_BYTES
from selffilter.store import RunStore

EVERY = ("overview", "results", "curves", "agreement", "samples", "groups", "alarms", "compute",
         "config")  # fmt: skip


@pytest.fixture(scope="session")
def two_arms(home, begin):
    """Two arms of two seeds, one with a hostile name; nobody may change them."""
    truth = f"evaluate.truth={home / 'truth.parquet'}"
    names = [("<i>loop-seed", []), ("once-seed", ["score.rescore=once"])]
    return [
        begin(f"{name}{seed}", truth, f"seed={seed}", *more)
        for name, more in names
        for seed in (3, 4)
    ]  # fmt: skip


@pytest.fixture(scope="session")
def elsewhere(home, begin):
    """A longer run over a part of the pool: another pool."""
    shards = f"pool.shards=['{home}/pool/0000{{0..1}}.tar']"
    return begin("part", shards, "seed=3", f"rounds.samples_seen={24 * 16}")


@pytest.fixture
def compared(call, tmp_path, look):
    """Return a call of the command: the page as seen, the record, and what was said."""

    def compare(*words):
        code, out, err = call("compare", *words, "--out", "beside")
        assert code == 0, err
        text = (tmp_path / "beside" / "compare.html").read_text()
        record = json.loads((tmp_path / "beside" / "compare.json").read_text())
        return look(text), record, " ".join((out + err).split())

    return compare


def made(*paths, samples=20):
    """Return the page, and what it was made of."""
    found = gather(open_sides([*paths]))
    sheets = disputed_samples(found.arms, samples, found.notes)
    return compare_page(found, sheets), found.record()


@pytest.fixture
def shown(look):
    """Return a call that makes the page alone: as seen, and the record."""

    def show(*paths, **more):
        text, record = made(*paths, **more)
        return look(text), record

    return show


@pytest.fixture(scope="module")
def written(two_arms):
    """The page and the record of the two arms, made once."""
    return made(*two_arms)


@pytest.fixture
def page(written, look):
    """The page of the two arms: as text, as seen, and the record."""
    return written[0], look(written[0]), written[1]


@pytest.fixture
def found(two_arms):
    return gather(open_sides(two_arms))


def table(run, round_, stage):
    folder = RunStore(run).stage(round_, stage)
    paths = [path for path in sorted(folder.glob("*.parquet")) if path.stem.isdecimal()]
    return pa.concat_tables([pq.read_table(path) for path in paths])


def confident(run):
    selection = table(run, 2, "select")
    share = np.array(selection["share"].to_pylist())
    return set(selection["row"].to_numpy()[share == "confident"].tolist())


# --- what is in it ----------------------------------------------------------------------------


def test_every_section_is_there_and_linked(page):
    _, seen, _ = page
    ids = [attrs["id"] for attrs in seen.all("section") if "id" in attrs]
    assert ids == list(EVERY)
    assert [a["href"] for a in seen.all("a")] == [f"#{name}" for name in ids]


def test_seeds_are_taken_together_and_what_arms_differ_in_is_said(compared, two_arms):
    seen, record, said = compared(*two_arms)
    assert [arm["sides"] for arm in record["arms"]] == [["A", "B"], ["C", "D"]]
    assert [arm["seeds"] for arm in record["arms"]] == [[3, 4], [3, 4]]
    assert record["arm_config"] == {"score.rescore": ["each_round", "once"]}
    told = seen.by_id["overview"]
    assert "Four runs in two arms are compared. The arms differ in score.rescore." in told
    assert "All are over one pool of 120 pairs." in told
    assert "All have seen 288 samples, but scoring has not cost them the same." in told
    assert "One seed" not in told
    for words in (
        "Arms: runs that differ in their seed alone",
        "Differences, seed by seed",
        "groups where arms differ most",
        "wrote beside/compare.html",
    ):
        assert words in said  # fmt: skip


def test_means_spreads_and_differences_are_of_the_runs_own_numbers(page, two_arms):
    _, seen, record = page
    auc = np.array([RunStore(run).summary(2, "select")["auc"] for run in two_arms])
    loop, once = auc[:2], auc[2:]
    measure = next(m for m in record["measures"] if m["metric"] == "auc")
    assert measure["arms"][0]["mean"] == pytest.approx(loop.mean())
    assert measure["arms"][0]["sd"] == pytest.approx(loop.std(ddof=1))
    assert measure["paired"][0]["mean"] == pytest.approx((once - loop).mean())
    told = seen.by_id["results"]
    assert f"{loop.mean():.3f} ± {loop.std(ddof=1):.3f}" in told
    half = 12.7062 * (once - loop).std(ddof=1) / 2**0.5
    assert measure["paired"][0]["t_interval"] == pytest.approx(
        [(once - loop).mean() - half, (once - loop).mean() + half], rel=1e-4
    )
    assert "95 %, by t" in told


def test_curves_have_bands_where_there_are_seeds_and_none_where_there_is_one(page, shown, two_arms):
    _, seen, _ = page
    assert len(seen.all("path", "around")) > 4
    assert len(seen.all("path", "thin")) == 2 * len(seen.all("path", "around"))
    seen, _ = shown(two_arms[0], two_arms[2])
    assert not seen.all("path", "around") and not seen.all("path", "thin")
    assert "Every arm has one seed, so nothing here has an error bar" in seen.by_id["overview"]
    assert "One seed, and no band" in seen.by_id["curves"]
    assert "±" not in seen.by_id["results"]


def test_the_metric_that_is_asked_for_is_the_one_that_is_shown(two_arms, tmp_path, look):
    runs = [shutil.copytree(run, tmp_path / run.name) for run in two_arms[::2]]
    for place, run in enumerate(runs):
        for round_ in range(3):
            record = {"kind": "zero_shot", "set": "b\u202eirds", "round": round_}
            record |= {"samples_seen": 96, "acc1": 0.5, "acc5": 0.125 * (place + round_)}
            with (run / f"rounds/{round_:03d}/metrics.jsonl").open("a") as file:
                file.write(json.dumps(record) + "\n")
    sides = open_sides(runs)
    first = look(compare_page(gather(sides), [])).by_id
    assert "b irds: acc1, %" in first["results"] and "acc5" not in first["results"]
    asked = look(compare_page(gather(sides, metric="acc5"), [], "acc5")).by_id
    assert "b irds: acc5, %" in asked["results"] and "b irds: acc5, %" in asked["curves"]
    assert "acc1" not in asked["results"] + asked["curves"]
    assert "25.0" in asked["overview"] and "37.5" in asked["overview"]
    assert "+12.5" in asked["results"]


def test_what_is_kept_by_how_many_is_counted_as_sets_have_it(page, two_arms):
    _, seen, record = page
    kept = [confident(run) for run in two_arms]
    every = set.union(*kept)
    by = [sum(row in one for one in kept) for row in every]
    assert record["agreement"]["chosen_by"] == [by.count(k) for k in (1, 2, 3, 4)]
    told = seen.by_id["agreement"]
    assert f"{by.count(4):,} samples are kept by all 4" in told
    assert "The pool has 120 rows, with those that cannot be selected or share a uid." in told


def test_pairs_of_one_seed_are_told_apart_from_pairs_of_others(page, two_arms):
    _, seen, record = page
    kept = [confident(run) for run in two_arms]
    alike = [[len(a & b) / len(a | b) for b in kept] for a in kept]
    between = {(x["a"], x["b"]): x for x in record["agreement"]["between_arms"]}
    assert (between[0, 0]["pairs"], between[0, 0]["same_seed"]["pairs"]) == (1, 0)
    assert between[0, 0]["jaccard"] == pytest.approx(alike[0][1])
    # A and C have seed 3, B and D have seed 4.
    assert (between[0, 1]["pairs"], between[0, 1]["same_seed"]["pairs"]) == (2, 2)
    assert between[0, 1]["jaccard"] == pytest.approx((alike[0][3] + alike[1][2]) / 2)
    same = between[0, 1]["same_seed"]["jaccard"]
    assert same == pytest.approx((alike[0][2] + alike[1][3]) / 2)
    told = seen.by_id["agreement"]
    assert "same seed: Jaccard" in told and f"{same:.3f}" in told


def test_beside_each_index_stands_what_draws_by_lot_would_have(page, shown, two_arms, begin):
    _, seen, record = page
    summary = RunStore(two_arms[0]).summary(2, "select")
    # Each seed holds out another probe.
    k, m = (len(confident(run)) / (summary["base"] + summary["account"]["probe"])
            for run in two_arms[:2])  # fmt: skip
    within = record["agreement"]["between_arms"][0]
    assert within["jaccard_by_lot"] == pytest.approx(k * m / (k + m - k * m))
    assert "by lot" in seen.by_id["agreement"]
    # One that keeps everything agrees with any other as much as chance has it.
    everything = begin(
        "everything", "seed=3", "select.keep_fraction=0", "select.diverse_fraction=1"
    )
    _, record = shown(two_arms[0], everything)
    (between,) = record["agreement"]["between_arms"]
    share = len(confident(two_arms[0])) / summary["base"]
    assert (between["pairs"], between["jaccard"], between["same_seed"]["pairs"]) == (0, None, 1)
    assert between["same_seed"]["jaccard"] == pytest.approx(share)
    assert between["same_seed"]["jaccard_by_lot"] == pytest.approx(share)


def test_sheets_hold_what_all_seeds_of_one_arm_keep_and_none_of_the_other(found, two_arms):
    (pair,) = disputed_samples(found.arms, 100, [])
    (loop, once), arms = pair.sheets, [arm.number for arm in pair.arms]
    assert arms == [0, 1]
    kept = [confident(run) for run in two_arms]
    assert set(loop.rows.tolist()) == (kept[0] & kept[1]) - kept[2] - kept[3]
    assert set(once.rows.tolist()) == (kept[2] & kept[3]) - kept[0] - kept[1]
    assert (loop.among, once.among) == (len(loop.rows), len(once.rows))
    clean = [row % 3 > 0 for row in loop.rows.tolist()]
    assert loop.right_share == pytest.approx(np.mean(clean))
    assert loop.clean.tolist() == [int(one) for one in clean]
    assert len(loop.tiles) == len(loop.rows)


def test_places_among_all_are_those_of_the_score_tables(found, two_arms):
    rows = np.array([0, 3, 17, 40, 119])
    side = found.sides[0]
    scores = table(two_arms[0], 2, "score")
    score_N = scores["neg_clip_loss"].to_numpy()
    probe_N = scores["probe"].to_numpy()
    base = score_N[np.isfinite(score_N) & ~probe_N]
    expected = [1 - ((base > score_N[row]).sum() + 0.5) / len(base) for row in rows]
    expected = np.where(np.isfinite(score_N[rows]), expected, np.nan)
    assert np.allclose(quantiles_of(side, rows), np.clip(expected, 0, 1), equal_nan=True)
    assert np.isnan(expected[1])  # the row without a picture


def test_rows_that_were_removed_as_duplicates_are_nobodys_betters(without_duplicates, uniform):
    side = open_sides([without_duplicates, uniform])[0]
    scores = table(without_duplicates, 1, "score")
    score_N = scores["neg_clip_loss"].to_numpy()
    in_base = np.isfinite(score_N) & ~scores["probe"].to_numpy()
    folder = RunStore(without_duplicates).stage(1, "select")
    removed = pq.read_table(folder / "about/removed.parquet")["row"].to_numpy()
    assert len(removed)
    in_base[removed] = False
    rows = np.flatnonzero(np.isfinite(score_N))
    base = score_N[in_base]
    expected = [1 - ((base > score_N[row]).sum() + 0.5) / len(base) for row in rows]
    assert np.allclose(quantiles_of(side, rows), np.clip(expected, 0, 1))


def test_each_sheet_shows_the_scores_of_the_arms_that_it_is_about(two_arms, begin, look):
    third = begin("third", "seed=3", "select.keep_fraction=0.2")
    found = gather(open_sides([two_arms[0], two_arms[2], third]))
    disputed = disputed_samples(found.arms, 100, [])
    assert [[arm.number for arm in pair.arms] for pair in disputed] == [[0, 1], [0, 2]]
    for pair in disputed:
        seen = look(str(samples([pair], found.arms)))
        assert seen.all("figure", "tile")
        told = "".join(seen.texts)
        sheet = next(sheet for sheet in pair.sheets if len(sheet.rows))
        scores = [f"{sheet.quantiles[arm.sides[0].letter][0]:.0%}" for arm in pair.arms]
        assert " ".join(scores) in " ".join(told.split())
        lines = [text for text in seen.texts if "better than" in text and text[0] in "ABC"]
        assert lines[0].startswith("A") and f"; {pair.arms[1].letters}: " in lines[0][:28]


def test_of_one_arm_the_sheets_show_what_seeds_agree_and_disagree_on(two_arms):
    found = gather(open_sides(two_arms[:2]))
    ((every, some),) = (pair.sheets for pair in disputed_samples(found.arms, 100, []))
    a, b = (confident(run) for run in two_arms[:2])
    assert (set(every.rows.tolist()), set(some.rows.tolist())) == (a & b, a ^ b)


def test_group_rates_are_means_over_seeds(found, two_arms):
    favours = next(f for f in found.favours if f.grouping == "caption_chars")
    group = favours.shown[0]
    rates = []
    for run in two_arms[:2]:
        rows = pq.read_table(RunStore(run).stage(2, "select") / "about/groups.parquet").to_pylist()
        rates += [row["relative_rate"] for row in rows if row["group"] == group.name
                  and row["grouping"] == "caption_chars"]  # fmt: skip
    assert group.rates[0].mean == pytest.approx(np.mean(rates))
    assert group.rates[0].sd == pytest.approx(np.std(rates, ddof=1))
    assert [g.apart for g in favours.shown] == sorted(
        (g.apart for g in favours.shown), reverse=True
    )


def test_alarms_of_each_run_are_told(compared, two_arms, tmp_path):
    copy = shutil.copytree(two_arms[0], tmp_path / "alarmed")
    marker = copy / "rounds/001/selection/summary.json"
    summary = json.loads(marker.read_text())
    alarm = {"name": "retention", "value": 0, "bound": 1, "sentence": "<b>Too few</b> stay.",
             "grouping": None}  # fmt: skip
    marker.write_text(json.dumps(summary | {"alarms": [alarm]}))
    seen, record, said = compared(copy, two_arms[2])
    assert [a["round"] for a in record["alarms"]["A"] if a["name"] == "retention"][:1] == [1]
    assert "<b>Too few</b> stay." in seen.by_id["alarms"]
    assert "The guard's alarms" in said


# --- a stranger's texts, and bounds -----------------------------------------------------------


def test_captions_and_names_are_text_and_never_markup(page):
    text, seen, _ = page
    assert not seen.all("script") and "<i>loop" not in text
    assert any("<i>loop" in one for one in seen.texts)
    assert any("<script>alert(1)</script>" in one for one in seen.texts)
    assert "\u202e" not in text
    assert not [tag for tag, attrs in seen.elements if any(name.startswith("on") for name in attrs)]


def test_nothing_of_it_is_fetched_and_only_its_style_counts(page):
    text, seen, _ = page
    for tag, attrs in seen.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form", "use")
        for name in ("src", "href", "srcset", "data", "action", "style"):
            value = attrs.get(name)
            assert value is None or value.startswith(("data:image/webp;base64,", "#"))
    (policy,) = re.findall(r'content="(default-src [^"]*)"', text)
    assert policy.startswith("default-src &#x27;none&#x27;; img-src data:; style-src &#x27;sha256-")
    assert "unsafe" not in policy and "url(" not in text


def test_the_same_runs_give_the_same_bytes(written, two_arms):
    assert made(*two_arms)[0] == written[0]


def test_however_many_samples_are_asked_for_the_page_shows_few(two_arms, look, monkeypatch):
    monkeypatch.setattr("selffilter.comparing.disputed.MOST_TILES", 12)
    text, _ = made(*two_arms, samples=1000)
    assert 0 < len(look(text).all("figure", "tile")) <= 12
    assert len(text.encode()) < MOST_BYTES
    seen = look(made(*two_arms, samples=0)[0])
    assert "samples" not in seen.by_id and not seen.all("img")


def test_where_all_would_be_too_much_sheets_show_fewer_and_the_page_says_so(
    two_arms, written, look, monkeypatch
):
    bound = len(written[0].encode()) - 20_000
    monkeypatch.setattr("selffilter.comparing.page.page.MOST_BYTES", bound)
    text, _ = made(*two_arms)
    fewer, all_of_them = (len(look(one).all("figure", "tile")) for one in (text, written[0]))
    assert len(text.encode()) <= bound
    assert 0 < fewer < all_of_them
    assert "samples at most, for the page to stay below its bound." in look(text).by_id["overview"]


def test_sections_are_made_once_and_a_bound_that_is_missed_is_said(found, look, monkeypatch):
    page, made = "selffilter.comparing.page.page", []
    whole = on_the_way
    monkeypatch.setattr(f"{page}.on_the_way", lambda *x: made.append(1) or whole(*x))
    monkeypatch.setattr(f"{page}.MOST_BYTES", 20_000)
    text = compare_page(found, disputed_samples(found.arms, 20, []))
    assert made == [1]
    (note,) = found.notes
    assert note == "The page is above its bound of 20,000 bytes even without samples."
    assert note in look(text).by_id["overview"] and "samples" not in look(text).by_id


# --- what is not as one would wish ------------------------------------------------------------


def test_subset_files_are_compared_with_runs_and_alone(shown, compared, two_arms):
    subset = two_arms[0] / "final" / "subset.npy"
    seen, record = shown(subset, two_arms[2])
    assert [arm["sides"] for arm in record["arms"]] == [["A"], ["B"]]
    assert "One run in one arm and one subset without a run are compared." in seen.by_id["overview"]
    assert len(seen.all("img")) > 0
    other = two_arms[2] / "final" / "subset.npy"
    seen, _, _ = compared(subset, other)
    assert set(seen.by_id) == {"overview", "agreement"}
    assert "Two subsets without a run are compared." in seen.by_id["overview"]


def test_runs_of_different_pools_are_joined_by_uid_and_the_page_says_so(shown, two_arms, elsewhere):
    seen, record = shown(two_arms[0], elsewhere)
    told = seen.by_id["overview"]
    assert "They are over 2 pools, or versions of one: rows are joined by uid." in told
    assert "The pool has" not in seen.by_id["agreement"]
    assert record["agreement"]["between_arms"][0]["jaccard_by_lot"] is None
    assert record["agreement"]["rows_of_pool"] is None
    assert seen.all("figure", "tile")


def test_different_compute_is_not_passed_over(shown, two_arms, elsewhere):
    seen, record = shown(two_arms[0], elsewhere)
    assert "Not all have seen as many samples" in seen.by_id["overview"]
    assert record["arm_config"]["rounds.samples_seen"] == [288, 384]


def test_where_the_pool_is_gone_the_numbers_stay(shown, two_arms, home):
    aside = home / "aside"
    (home / "pool").rename(aside)
    try:
        seen, _ = shown(*two_arms)
    finally:
        aside.rename(home / "pool")
    assert not seen.all("img")
    assert "Samples are not all shown: shard" in seen.by_id["overview"]
    assert {"results", "curves", "agreement"} <= set(seen.by_id)


def test_an_unfinished_run_is_said_to_be_one(shown, two_arms, tmp_path):
    copy = shutil.copytree(two_arms[1], tmp_path / "copy")
    shutil.rmtree(copy / "final")
    (copy / "rounds/002/selection/summary.json").unlink()
    seen, record = shown(two_arms[0], copy)
    assert [arm["sides"] for arm in record["arms"]] == [["A", "B"]]
    assert "not finished" in seen.by_id["overview"]
    # Its last round is trained, but not selected: that is said of the arm, and no mean is taken.
    assert "All have seen 288 samples." in seen.by_id["overview"]
    assert "B round 2, selected in 1 at 288 samples" in seen.by_id["overview"]
    assert "±" not in seen.by_id["results"].replace("Mean ± standard", "")
    assert record["measures"][-1]["arms"][0]["mean"] is None
    (copy / "rounds/002/train/summary.json").unlink()
    seen, record = shown(two_arms[0], copy)
    assert "Not all have seen as many samples" in seen.by_id["overview"]
    assert [side["samples_seen"] for side in record["sides"]] == [288, 208]
    assert "--round 1 compares them where all have been." in seen.by_id["overview"]
    assert record["groups"] == []


def test_a_last_round_that_is_not_selected_is_evaluated_all_the_same(begin, two_arms, compared):
    run = begin("trains-last", "seed=3", "rounds.final_selection=false")
    record = {"kind": "zero_shot", "set": "birds", "round": 2, "samples_seen": 288, "acc1": 0.75}
    with (run / "rounds/002/metrics.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")
    seen, record, said = compared(run, two_arms[0])
    assert record["sides"][0]["round"] == 1 and record["sides"][0]["trained"] == 2
    birds = record["measures"][0]["arms"][0]["by_seed"]["3"]
    assert birds == {"value": 0.75, "round": 2, "samples_seen": 288}
    assert record["sides"][0]["samples_seen"] == record["compute"]["A"]["samples_seen"]
    assert "75.0" in seen.by_id["overview"] and "75.0" in said
    assert "selection of" in seen.by_id["overview"]
    seen, record, said = compared(run, two_arms[0], "--round", "1")
    assert "birds" not in seen.by_id["overview"] + said and not record["measures"][0]["set"]


def test_of_an_earlier_round_nothing_is_said_of_what_scoring_cost_in_all(two_arms, compared):
    seen, _, _ = compared(*two_arms, "--round", "1")
    assert "All have seen 208 samples." in seen.by_id["overview"]
    assert "scoring has" not in seen.by_id["overview"]
    assert "the selection of round 1" in seen.by_id["overview"]


def test_first_weights_are_only_said_to_be_shared_where_they_are(found, look):
    same = "Runs of one seed share first weights and order"
    assert same in "".join(look(str(final(found))).texts)
    other = replace(found, arm_config={"model.name": ["a", "b"]})
    assert same not in "".join(look(str(final(other))).texts)
    assert "of fewer than 10 seeds it is too narrow" in "".join(look(str(final(found))).texts)


def test_scipy_is_said_to_be_missing_where_it_is_and_nowhere_else(two_arms, monkeypatch):
    narrow = (float("nan"), float("nan"))
    of_seeds = "selffilter.comparing.arm_numbers.paired_difference"
    monkeypatch.setattr(of_seeds, lambda *_: Difference(2, 0.0, 0.0, narrow, narrow))
    assert not any("scipy" in note for note in gather(open_sides(two_arms)).notes)
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    assert any("scipy is missing" in note for note in gather(open_sides(two_arms)).notes)


def test_by_all_and_by_none_is_what_sets_make_of_it():
    from selffilter.pool.multiset import subset_of

    def subset(*numbers):
        return subset_of(uids.from_hex([f"{n:032x}" for n in numbers]))

    found = by_all_and_by_none([subset(1, 2, 3, 4), subset(2, 3, 4, 9)], [subset(3), subset(4, 7)])
    assert uids.to_hex(found.uids_N2) == [f"{2:032x}"]
