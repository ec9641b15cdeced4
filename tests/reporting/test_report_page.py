"""The page as a whole: what is in it, what is not, and that it is of the run's own numbers."""

import base64
import hashlib
import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from selffilter.errors import UserError
from selffilter.reporting import command
from selffilter.reporting.command import MOST_BYTES, run_report
from selffilter.selecting.calibration import reliability
from selffilter.tables import CALIBRATION, write_table
from selffilter.tracking.console import Screen

EVERY = ("glance", "samples", "curves", "scores", "flow", "map", "groups", "compute", "config")


def write(run, tmp_path, samples=6):
    out = tmp_path / "page.html"
    run_report(run, out, samples=samples, screen=Screen(quiet=True))
    return out.read_text()


@pytest.fixture
def page(finished, tmp_path):
    return write(finished, tmp_path)


def selection(run, round_):
    return json.loads((run / f"rounds/{round_:03d}/selection/summary.json").read_text())


# --- what is in it ----------------------------------------------------------------------------


def test_every_section_is_there_and_linked(page, look):
    seen = look(page)
    ids = [attrs["id"] for attrs in seen.all("section") if "id" in attrs]
    assert [name for name in ids if name != "words"] == list(EVERY)
    assert [a["href"] for a in seen.all("a")] == [f"#{name}" for name in ids]


def test_the_rounds_are_those_of_the_summaries(page, finished, look):
    told = look(page).by_id["glance"]
    for round_ in range(3):
        summary = selection(finished, round_)
        for key in ("selected", "confident", "diverse"):
            assert f"{summary[key]:,}" in told
        for key in ("precision", "auc"):
            assert f"{summary[key]:.3f}" in told
    account = selection(finished, 2)["account"]
    assert f"{account['indexed']} rows indexed = {account['base_scored']}" in told
    assert "1 image unreadable" in told or "1 image" in told


def test_the_paragraph_says_what_the_run_came_to(page, finished, look):
    last = selection(finished, 2)
    told = look(page).by_id["glance"]
    assert f"{last['confident']} for their score by neg_clip_loss" in told
    assert f"{last['precision']:.1%} are right pairs" in told
    spent = json.loads((finished / "final/compute.json").read_text())
    assert f"{spent['training_flops']:.3g} FLOPs" in look(page).by_id["compute"]
    assert f"{spent['scoring_flops']:.3g} FLOPs" in look(page).by_id["compute"]


def test_distributions_hold_as_many_rows_as_were_selected(page, finished, look):
    told = look(page).by_id["scores"]
    for round_ in range(3):
        last = selection(finished, round_)
        dropped = last["base"] - last["selected"]
        shown = f"{last['confident']} confident, {last['diverse']} by lot, {dropped} dropped"
        assert f"scores of round {round_}: {shown}" in told


def test_where_a_mixture_was_held_against_the_truth_its_reliability_is_drawn(copy, tmp_path, look):
    heading = "How far two Gaussians could be believed"
    for round_ in range(3):
        (copy / f"rounds/{round_:03d}/selection" / CALIBRATION).unlink(missing_ok=True)
    assert heading not in look(write(copy, tmp_path)).by_id["scores"]
    found = reliability(np.array([0.1] * 40 + [0.9] * 40), np.arange(80) % 4 > 0)
    write_table(copy / "rounds/001/selection" / CALIBRATION, found.table())
    told = look(write(copy, tmp_path)).by_id["scores"]
    assert told.count("expected calibration error") == 1
    assert f"round 1: expected calibration error {found.expected_calibration_error:.3f}" in told
    assert "where 0.10 was fitted, 0.75 of 40" in told
    nobody = reliability(np.empty(0), np.empty(0, bool))
    write_table(copy / "rounds/001/selection" / CALIBRATION, nobody.table())
    assert heading not in look(write(copy, tmp_path)).by_id["scores"]


def test_samples_have_pictures_captions_and_their_truth(page, look):
    seen = look(page)
    tiles = seen.all("figure", "tile")
    assert len(tiles) > 20
    assert all({"right", "planted"} & set(tile["class"].split()) for tile in tiles)
    pictures = [base64.b64decode(img["src"].split(",")[1]) for img in seen.all("img")]
    assert len(pictures) >= len(tiles) - 2  # the row without a picture
    for data in pictures:
        image = Image.open(io.BytesIO(data))
        assert image.format == "WEBP" and max(image.size) <= 96


def test_the_map_is_of_the_embeddings_where_they_were_kept(page, by_merit, tmp_path, look):
    assert "principal axes" in look(page).by_id["map"]
    told = look(write(by_merit, tmp_path)).by_id["map"]
    assert "to the right in round 0, upwards in round 2" in told


def test_the_config_is_that_of_the_run(page, look):
    told = look(page).by_id["config"]
    assert "select.keep_fraction" in told and "open_clip_torch" in told
    assert "git_commit" in told


def test_the_same_run_gives_the_same_bytes(page, finished, tmp_path):
    assert write(finished, tmp_path) == page


# --- a stranger's texts -----------------------------------------------------------------------


def test_captions_are_text_and_never_markup(page, look):
    seen = look(page)
    assert not seen.all("script")
    assert not [tag for tag, attrs in seen.elements if any(name.startswith("on") for name in attrs)]
    assert any("<script>alert(1)</script>" in text for text in seen.texts)
    assert "\u202e" not in page


def test_the_name_of_the_run_is_text(page, look):
    assert "<b>finished" in look(page).texts
    assert "<b>finished" not in page


def test_nothing_of_it_is_fetched(page, look):
    for tag, attrs in look(page).elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form", "use")
        for name in ("src", "href", "srcset", "data", "action", "xlink:href", "style"):
            value = attrs.get(name)
            assert value is None or value.startswith(("data:image/webp;base64,", "#"))
    assert "url(" not in page and "@import" not in page


def test_the_policy_allows_this_style_and_no_other(page, look):
    (policy,) = [
        meta["content"]
        for meta in look(page).all("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    style = re.search(r"<style>(.*?)</style>", page, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "script-src" not in policy and "unsafe" not in policy


# --- its bounds -------------------------------------------------------------------------------


def test_the_page_is_small_however_many_samples_it_shows(finished, tmp_path):
    assert len(write(finished, tmp_path, samples=60).encode()) < MOST_BYTES


def test_a_page_that_would_be_larger_shows_fewer_samples_and_says_so(
    finished, tmp_path, look, monkeypatch
):
    few, many = (write(finished, tmp_path, samples=count) for count in (3, 12))
    monkeypatch.setattr(command, "MOST_BYTES", (len(few.encode()) + len(many.encode())) // 2)
    bounded = look(write(finished, tmp_path, samples=12))
    shown = [{a["src"] for a in page.all("img")} for page in (look(many), bounded)]
    assert set() < shown[1] < shown[0]
    told = "a sheet shows at most {} samples"
    assert any(told.format(6) in text or told.format(3) in text for text in bounded.texts)
    monkeypatch.setattr(command, "MOST_BYTES", 1)
    least = look(write(finished, tmp_path, samples=12))
    assert not least.all("img") and "rows indexed" in least.by_id["glance"]


def test_without_samples_there_are_no_pictures(finished, tmp_path, look):
    seen = look(write(finished, tmp_path, samples=0))
    assert not seen.all("img") and "samples" not in seen.by_id


@pytest.mark.parametrize("samples", [-1, 61])
def test_too_many_samples_are_refused(finished, tmp_path, samples):
    with pytest.raises(UserError, match=f"--samples {samples}: a sheet shows 0 to 60"):
        write(finished, tmp_path, samples=samples)


# --- runs that are not as one would wish ------------------------------------------------------


def test_an_unfinished_run_says_what_is_to_come(copy, tmp_path, look):
    shutil.rmtree(copy / "final")
    (copy / "rounds/002/selection/summary.json").unlink()
    seen = look(write(copy, tmp_path))
    assert "not finished: select of round 2 is to come" in seen.texts
    assert "The selection of round 1 keeps" in seen.by_id["glance"]
    assert "As planned, training will cost" in seen.by_id["compute"]


def test_before_the_first_selection_there_is_what_there_is(copy, tmp_path, look):
    shutil.rmtree(copy / "final")
    for path in (copy / "rounds").glob("*/selection/summary.json"):
        path.unlink()
    seen = look(write(copy, tmp_path))
    assert "Nothing has been selected yet." in seen.by_id["glance"]
    assert {"glance", "curves", "config"} <= set(seen.by_id)
    assert not {"samples", "scores", "flow", "map"} & set(seen.by_id)


def test_where_the_pool_is_gone_the_numbers_stay(finished, home, tmp_path, look):
    aside = home / "aside"
    (home / "pool").rename(aside)
    try:
        seen = look(write(finished, tmp_path))
    finally:
        aside.rename(home / "pool")
    assert not seen.all("img")
    notes = seen.by_id["glance"]
    assert "Samples are not all shown: shard" in notes and "gone" in notes
    assert {"scores", "flow", "map"} <= set(seen.by_id)


def test_a_run_that_keeps_nothing_for_its_score_has_no_distributions(uniform, tmp_path, look):
    seen = look(write(uniform, tmp_path))
    assert "scores" not in seen.by_id
    assert "by lot" in seen.by_id["glance"] and "no score" in seen.by_id["samples"]


def test_a_run_by_merit_draws_no_threshold_among_scores(by_merit, tmp_path, look):
    seen = look(write(by_merit, tmp_path))
    assert "lowest confident score" not in seen.by_id["scores"]
    assert not seen.all("figure", "planted")


# --- the command ------------------------------------------------------------------------------


def test_the_page_goes_into_the_run_unless_told_otherwise(copy, call):
    code, _, said = call("report", copy, "--samples", 2)
    assert code == 0
    assert (copy / "report.html").read_text().startswith("<!doctype html>")
    assert f"wrote {copy / 'report.html'}" in said.replace("\n", "")


def test_what_is_no_run_is_refused(tmp_path, call):
    code, _, said = call("report", tmp_path)
    assert code == 2 and "no run directory" in said


def test_a_folder_is_no_place_for_the_page(copy, tmp_path, call):
    code, _, said = call("report", copy, "--out", tmp_path)
    assert code == 2 and "that is a folder; name a file" in said
