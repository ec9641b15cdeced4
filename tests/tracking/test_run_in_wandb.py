"""A real run of two rounds in three processes, as W&B has kept it offline."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from selffilter.config import load_config
from selffilter.run import run
from selffilter.store import RunStore, read_json
from selffilter.tables import read_table
from selffilter.team import Team
from selffilter.tracking.console import Screen

BATCH, ROWS, IMAGES = 16, 80, 6


@pytest.fixture(scope="module")
def finished(tmp_path_factory, write_pool, tiny_vit):
    """The run's folder; nobody may change it."""
    home = tmp_path_factory.mktemp("wandb-run")
    write_pool(home / "pool", ROWS)
    (home / "vit.json").write_text(json.dumps(tiny_vit))
    config = load_config(
        None,
        [
            "name=loop", f"runs_dir={home}", f"pool.shards=[{home / 'pool'}]",
            f"pool.index_dir={home / 'index'}", f"model.name={home / 'vit.json'}",
            f"rounds.samples_seen={8 * BATCH}", "rounds.count=2", "rounds.bootstrap_fraction=0.5",
            "rounds.fresh_weights_at=[]", "select.keep_fraction=0.4",
            "select.diverse_fraction=0.2", "select.probe_fraction=0.1",
            f"train.global_batch_size={BATCH}", "train.warmup_steps=2", "train.log_every_steps=1",
            "score.bank_size=32", "score.batch_size=16", "hardware.workers=0",
            "hardware.accelerator=cpu", "track.wandb=offline", f"track.wandb_images={IMAGES}",
        ],
    )  # fmt: skip
    for only in ("train", "score", None):
        run(config, Team(torch.device("cpu")), Screen(quiet=True), only)
    return home / "loop"


@pytest.fixture(scope="module")
def kept(finished, offline):
    return offline(finished)


def test_all_processes_are_one_run_with_config_code_and_pool(finished, kept):
    assert len(kept.folders) == 3 and len({run.run_id for run in kept.runs}) == 1
    assert kept.run.display_name == "loop"
    record = read_json(finished / "environment.json")
    assert kept.config["select.keep_fraction"] == [0.4]
    assert kept.config["code"]["git_commit"] == record["git_commit"]
    assert kept.config["code"]["packages"] == record["packages"]
    assert kept.config["pool_version"] == record["pool"]["version"]


def test_training_is_drawn_over_samples_and_rounds_over_rounds(finished, kept):
    seen = [samples for _, samples, _ in kept.values("train/loss")]
    assert seen == [BATCH * step for step in range(1, 9)]
    for key in ("samples_per_s", "data_wait", "learning_rate"):
        assert len(kept.values(f"train/{key}")) == 8
    store = RunStore(finished)
    for round_, key in ((0, "threshold"), (1, "threshold"), (1, "overlap"), (1, "lead_sd")):
        value = store.summary(round_, "select")[key]
        logged = {r: v for r, _, v in kept.values(f"round_summary/{key}")}
        assert logged[round_] == pytest.approx(value)
    coverage = store.summary(1, "select")["coverage"]["caption_chars"]
    assert kept.values("round_summary/coverage/caption_chars")[-1][2] == pytest.approx(coverage)


def test_histograms_of_scores_are_those_of_selecting(finished, kept):
    for round_ in (0, 1):
        path = RunStore(finished).stage(round_, "select") / "about" / "histograms.json"
        for part, shape in read_json(path)["parts"].items():
            logged = {r: v for r, _, v in kept.values(f"scores/{part}/values")}
            assert logged[round_] == shape["counts"]


def tables_of(kept, round_):
    """Return the tables of a round: name → list of rows as dicts."""
    (row,) = [
        row for row in kept.history if row["round"] == round_ and "samples/highest/path" in row
    ]
    found = {}
    for key, path in row.items():
        if key.startswith("samples/") and key.endswith("/path"):
            (file,) = [p for folder in kept.folders for p in folder.glob(f"files/{path}")]
            table = json.loads(file.read_text())
            cells = [dict(zip(table["columns"], line, strict=True)) for line in table["data"]]
            found[key.split("/")[1]] = cells
    return found


def selected(finished, round_):
    folder, whole = RunStore(finished).stage(round_, "select"), {}
    for path in folder.glob("0*.parquet"):
        table = read_table(path, ["row", "share"])
        whole |= dict(zip(table["row"].to_pylist(), table["share"].to_pylist(), strict=True))
    return whole


def test_tables_show_what_their_names_say(finished, kept):
    first, tables = tables_of(kept, 0), tables_of(kept, 1)
    assert set(first) == {"highest", "lowest", "diverse"}
    assert set(tables) >= {"newly_kept", "newly_dropped", "most_disputed"}
    before, now = selected(finished, 0), selected(finished, 1)
    for cell in tables["newly_kept"]:
        assert now[cell["row"]] == "confident" == cell["share"]
        assert before.get(cell["row"]) != "confident"
    for cell in tables["newly_dropped"]:
        assert before[cell["row"]] == "confident"
        assert now.get(cell["row"], "") == cell["share"] != "confident"
    assert {now[cell["row"]] for cell in tables["diverse"]} == {"diverse"}
    lowest = [cell["score"] for cell in tables["lowest"]]
    highest = [cell["score"] for cell in tables["highest"]]
    assert lowest == sorted(lowest) and highest == sorted(highest, reverse=True)
    change = [abs(c["place"] - c["place_before"]) for c in tables["most_disputed"]]
    assert change == sorted(change, reverse=True) and len(change) == IMAGES
    for cells in tables.values():
        assert 0 < len(cells) <= IMAGES
        assert all(cell["image"] == "Image" for cell in cells)


def test_captions_are_plain_text(kept):
    every = [c for r in (0, 1) for cells in tables_of(kept, r).values() for c in cells]
    assert every and all(cell["caption"].isprintable() for cell in every)
    assert any(cell["caption"].startswith("a [2J ]0;owned fox") for cell in every)


def test_artifacts_lead_from_the_model_back_to_the_first_round(kept):
    found = {}
    for artifact in kept.artifacts:
        for alias in set(artifact.aliases) - {"latest"}:
            found[f"{artifact.name}:{alias}"] = artifact
    id_ = kept.run.run_id
    chain, name = [], f"final-{id_}:final"
    while True:
        made_from = json.loads(found[name].metadata)["made_from"]
        chain.append(name.replace(f"-{id_}", ""))
        if not made_from:
            break
        name = made_from[0]
    assert chain == [
        "final:final", "model:round-001", "selection:round-000", "scores:round-000",
        "model:round-000", "config:run",
    ]  # fmt: skip
    paths = {c.path for c in found[f"final-{id_}:final"].manifest.contents}
    assert {"open_clip_model.safetensors", "open_clip_config.json", "subset.npy"} <= paths
    selection = {c.path for c in found[f"selection-{id_}:round-001"].manifest.contents}
    assert {"subset.npy", "00000.parquet", "about/histograms.json"} <= selection
    for artifact in kept.artifacts:
        for entry in artifact.manifest.contents:
            assert Path(entry.local_path).stat().st_size, entry.path


def test_pictures_are_small(finished):
    staged = [p for p in (finished / "wandb" / "artifacts").rglob("*") if p.is_file()]
    sizes = []
    for path in staged:
        if path.read_bytes()[:2] == b"\xff\xd8":
            with Image.open(path) as picture:
                sizes.append(max(picture.size))
    assert sizes and max(sizes) <= 192
    assert np.max(sizes) > 100  # the pool's are larger: these were made smaller
