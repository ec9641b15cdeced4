"""The W&B run of a selffilter run, offline: read back from what W&B has kept."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import wandb
from PIL import Image

from selffilter.config import TrackConfig
from selffilter.store import RunStore, read_json
from selffilter.tracking import wandb_media, wandb_tracker
from selffilter.tracking.shown import Bins, Example, Output, SampleTable
from selffilter.tracking.wandb_tracker import STEPS_A_PROCESS, WandbTracker, _mode, logged_in


@pytest.fixture(autouse=True)
def nowhere(monkeypatch):
    """No W&B variables from outside."""
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_DATA_DIR", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")


def open_tracker(root, say=lambda _: None, **track):
    track = TrackConfig(**({"wandb": "offline", "wandb_project": "test"} | track))
    return WandbTracker(RunStore(root), "run", track, {"seed": 0, "code": {"a": "1"}}, say)


def record(kind, round_, seen, **values):
    return {"kind": kind, "round": round_, "stage": "train", "samples_seen": seen} | values


def test_two_processes_are_one_run_on_its_own_axes(tmp_path, offline):
    first = open_tracker(tmp_path, wandb_group="grid/pool", wandb_job_type="uniform")
    for seen in (64, 128):
        first.log(record("train", 0, seen, loss=300.0 / seen, mfu=None))
    first.close()
    again = open_tracker(tmp_path)
    # The process before was killed after 64 samples' checkpoint: 128 comes again.
    again.log(record("train", 0, 128, loss=2.0))
    again.log(record("zero_shot", 1, 192, set="clip-art", acc1=0.5, unusable_by_reason={"x": 1}))
    again.close()

    kept = offline(tmp_path)
    assert len(kept.folders) == 2
    id_ = read_json(tmp_path / "wandb.json")["id"]
    assert {run.run_id for run in kept.runs} == {id_}
    assert (kept.run.run_group, kept.run.job_type, kept.run.project) == (
        "grid/pool", "uniform", "test",
    )  # fmt: skip
    assert kept.config["seed"] == 0 and kept.config["code"] == {"a": "1"}
    assert kept.values("train/loss") == [(0, 64, 300 / 64), (0, 128, 300 / 128), (0, 128, 2.0)]
    assert kept.values("zero_shot/clip-art/acc1") == [(1, 192, 0.5)]
    assert kept.values("zero_shot/clip-art/unusable_by_reason/x") == [(1, 192, 1)]
    steps = [row["_step"] for row in kept.history]
    assert steps == [0, 1, STEPS_A_PROCESS, STEPS_A_PROCESS + 1]  # a step that returns is dropped
    for pattern, axis in {
        "train/*": "samples_seen", "zero_shot/*": "samples_seen", "round_summary/*": "round",
        "scores/*": "round", "samples/*": "round",
    }.items():  # fmt: skip
        assert kept.axes[pattern] == axis


def test_a_round_summary_is_flat_numbers_and_the_guards_alarms_are_alerts(tmp_path, offline):
    tracker = open_tracker(tmp_path)
    alarm = {"name": "retention", "sentence": "Only 0.1 of the confident rows stay."}
    tracker.log(
        record(
            "round_summary", 1, 64, threshold=0.25, confident=40, alarms=[alarm],
            coverage={"source": 0.9}, vanishing={"script": [{}, {}]}, favoured={"source": {}},
            lead_sd=float("nan"), scores_from="model", also=["cosine"],
        )
    )  # fmt: skip
    tracker.close()
    kept = offline(tmp_path)
    (row,) = kept.history
    numbers = {k: v for k, v in row.items() if k.startswith("round_summary/")}
    assert numbers == {
        "round_summary/threshold": 0.25,
        "round_summary/confident": 40,
        "round_summary/alarms": 1,
        "round_summary/coverage/source": 0.9,
        "round_summary/vanishing/script": 2,
    }
    assert kept.alerts == ["guard: retention"]


def example(row, **changed):
    values = {
        "row": row, "uid": f"{row:032x}", "caption": f"caption {row}", "share": "confident",
        "image": Image.new("RGB", (32, 16), (row, 0, 0)), "score": row / 10, "place": 0.5,
        "place_before": float("nan"),
    }  # fmt: skip
    return Example(**values | changed)


def shown(**given):
    """A round of which nothing may be read that is not given."""

    def refuse(*_):
        raise AssertionError("not asked for")

    methods = {"histograms": list, "tables": refuse, "outputs": refuse}
    return SimpleNamespace(round=3, samples_seen=99, **methods | given)


def test_histograms_and_tables_with_pictures_come_back(tmp_path, offline):
    asked = []

    def tables(count):
        asked.append(count)
        return [SampleTable("highest", [example(1), example(2, image=None, score=float("nan"))])]

    tracker = open_tracker(tmp_path, wandb_images=7, wandb_artifacts=False)
    tracker.end_round(
        shown(histograms=lambda: [Bins("base", -1.0, 1.0, [1, 5, 0, 2])], tables=tables)
    )
    tracker.close()
    assert asked == [7]
    kept = offline(tmp_path)
    (row,) = kept.history
    assert (row["round"], row["samples_seen"]) == (3, 99)
    assert row["scores/base/values"] == [1, 5, 0, 2]
    assert np.allclose(row["scores/base/bins"], [-1, -0.5, 0, 0.5, 1])
    assert row["samples/highest/_type"] == "table-file" and row["samples/highest/nrows"] == 2
    table = json.loads((kept.folders[0] / "files" / row["samples/highest/path"]).read_text())
    cells = [dict(zip(table["columns"], line, strict=True)) for line in table["data"]]
    assert cells[0] == {
        "image": "Image", "caption": "caption 1", "score": 0.1, "place": 0.5,
        "place_before": None, "share": "confident", "uid": f"{1:032x}", "row": 1,
    }  # fmt: skip
    assert cells[1]["image"] is None and cells[1]["score"] is None
    # The pictures wait for `wandb sync` in the run directory, not in the user's home.
    staged = [p for p in (tmp_path / "wandb" / "artifacts").rglob("*") if p.is_file()]
    pictures = [p for p in staged if p.read_bytes()[:2] == b"\xff\xd8"]
    assert len(pictures) == 1
    with Image.open(pictures[0]) as picture:
        assert picture.size == (32, 16)


def test_without_images_and_artifacts_nothing_is_read_for_them(tmp_path, offline):
    tracker = open_tracker(tmp_path, wandb_images=0, wandb_artifacts=False)
    tracker.end_round(shown())
    tracker.end_run(Output("final", "final", tmp_path))
    tracker.close()
    kept = offline(tmp_path)
    assert kept.history == [] and kept.artifacts == []


def test_artifacts_know_what_they_were_made_from(tmp_path, offline, monkeypatch):
    monkeypatch.setattr(wandb_media, "FILES_BELOW_BYTES", 1000)
    folder = tmp_path / "rounds" / "001" / "scores"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text("{}")
    tables = [folder / f"{shard:05d}.parquet" for shard in range(3)]
    for table in tables:
        table.write_bytes(b"x" * 300)
    small = Output(
        "scores", "round-001", folder, small=[folder / "summary.json"], large=tables,
        made_from=["model:round-001"], about={"round": 1},
    )  # fmt: skip
    tracker = open_tracker(tmp_path)
    tracker.end_round(shown(tables=lambda _: [], outputs=lambda: [small]))
    for table in tables:
        table.write_bytes(b"y" * 400)  # 1,200 bytes: too many to be uploaded
    tracker.end_round(shown(tables=lambda _: [], outputs=lambda: [small]))
    monkeypatch.setattr(wandb_media, "MOST_REFERENCES", 2)
    tracker.end_round(shown(tables=lambda _: [], outputs=lambda: [small]))
    tracker.close()

    id_ = read_json(tmp_path / "wandb.json")["id"]
    files, references, by_path = offline(tmp_path).artifacts
    for artifact in (files, references, by_path):
        assert (artifact.type, artifact.name) == ("scores", f"scores-{id_}")
        assert set(artifact.aliases) == {"round-001", "latest"}
        about = json.loads(artifact.metadata)
        assert about["made_from"] == [f"model-{id_}:round-001"] and about["round"] == 1
        assert about["path"] == str(folder.resolve())

    def entries(artifact):
        return {c.path: c.ref or c.local_path for c in artifact.manifest.contents}

    names = [table.name for table in tables]
    # Where they lie, and not as copies.
    assert entries(files) == {n: str(folder / n) for n in [*names, "summary.json"]}
    assert entries(references) == {n: (folder / n).as_uri() for n in names} | {
        "summary.json": str(folder / "summary.json")
    }
    assert entries(by_path) == {"summary.json": str(folder / "summary.json")}


def test_config_and_environment_are_the_first_artifact(tmp_path, offline):
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    (tmp_path / "environment.json").write_text("{}")
    open_tracker(tmp_path).close()
    (artifact,) = offline(tmp_path).artifacts
    assert artifact.type == "config"
    assert {c.path for c in artifact.manifest.contents} == {"config.yaml", "environment.json"}


def test_a_server_that_cannot_be_reached_leaves_an_offline_run(tmp_path, offline, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", 40 * "a")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr(wandb_tracker, "_INIT_S", 2.0)
    said = []
    wandb.teardown()
    tracker = open_tracker(tmp_path, said.append, wandb="auto")
    tracker.log(record("train", 0, 64, loss=2.0))
    tracker.close()
    (told,) = said
    assert told.startswith("W&B cannot be reached (")
    assert told.endswith("; kept offline, for `wandb sync` later")
    assert offline(tmp_path).values("train/loss") == [(0, 64, 2.0)]


def test_an_agent_of_a_sweep_gives_the_id(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "fromoutside")
    open_tracker(tmp_path / "alone").close()
    assert read_json(tmp_path / "alone" / "wandb.json")["id"] != "fromoutside"
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    for _ in range(2):
        tracker = open_tracker(tmp_path / "swept")
        assert tracker._run.id == "fromoutside"
        tracker.close()


def test_being_logged_in_is_found_without_the_network(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert not logged_in()
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret")
    assert logged_in()
    monkeypatch.delenv("NETRC")
    monkeypatch.setenv("WANDB_API_KEY", "key")
    assert logged_in()
    assert _mode("auto") == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert _mode("auto") == "offline"
