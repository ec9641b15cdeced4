"""`selffilter evaluate` as its user meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from selffilter.clip.model import export, find_recipe
from selffilter.errors import UserError
from selffilter.evaluating import datacomp_table, results_table, run_evaluation
from selffilter.evaluation.datacomp import COUNTED, result_line
from selffilter.store import iterate_jsonl, read_json

TINY = Path(__file__).parent.parent / "configs" / "models" / "tiny.json"
CPU = {"accelerator": "cpu", "workers": 0}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """What `evaluate` looks at of a finished run."""
    home = tmp_path_factory.mktemp("runs") / "mine"
    torch.manual_seed(0)
    recipe = find_recipe(str(TINY))
    export(home / "final", recipe, recipe.build().state_dict())
    (home / "config.yaml").write_text("name: mine\n")
    return home


@pytest.fixture
def write_set(make_tar, picture):
    def write(home, count=12, text=None, **members):
        samples = []
        for i in range(count):
            label = {"txt": text.encode()} if text else {"cls": str(i % 6).encode()}
            more = {e: make(i) for e, make in members.items()}
            samples.append((f"s{i}", {"png": picture(i, (20, 20))} | label | more))
        make_tar(home / "test" / "0.tar", samples)
        (home / "test" / "nshards.txt").write_text("1")
        if text:
            (home / "dataset_type.txt").write_text("retrieval")
        (home / "classnames.txt").write_text("\n".join("abcdef"))
        (home / "zeroshot_classification_templates.txt").write_text("a {c}")
        return str(home)

    return write


def npy(*values):
    import io

    out = io.BytesIO()
    np.save(out, np.array(values))
    return out.getvalue()


def test_a_table_a_file_a_set_and_where_they_lie(run_dir, write_set, tmp_path, capsys):
    sets = [write_set(tmp_path / "letters"), write_set(tmp_path / "words", text="one\ntwo")]
    run_evaluation(str(run_dir), sets, **CPU)
    printed, said = capsys.readouterr()
    letters, words = printed.strip().split("\n\n")
    assert letters.splitlines()[0].split()[:5] == ["set", "samples", "unusable", "acc1", "%"]
    assert letters.splitlines()[1].split()[:3] == ["letters", "12", "0"]
    assert "image R@1 %" in words and "text R@10 %" in words
    assert f"results  {run_dir}/evaluation" in said
    result = read_json(run_dir / "evaluation" / "letters.json")
    assert f"{100 * result['metrics']['acc1']:.1f}" == letters.splitlines()[1].split()[3]

    run_evaluation(str(run_dir), sets, as_json=True, **CPU)
    printed, said = capsys.readouterr()
    assert "evaluated before, and kept: letters, words" in said
    assert json.loads(printed)["results"][0] == result


def test_datacomps_tasks_that_are_there(run_dir, write_set, tmp_path, capsys):
    folder, out = tmp_path / "evalsets", tmp_path / "out"
    write_set(folder / "wds_cars_test")
    write_set(folder / "wds_geode_test", npy=lambda i: npy(i % 4, 3))
    write_set(folder / "wds_mscoco_captions", text="a\nb")
    write_set(folder / "wds_fairface_test")
    own = write_set(tmp_path / "own")
    run_evaluation(str(run_dir), [own], datacomp=folder, out=out, **CPU)
    printed, said = capsys.readouterr()
    assert "3 of 38 tasks that count; not there: Caltech-101, CIFAR-10, " in printed
    assert "left out: FairFace, UTKFace" in printed
    assert "note: GeoDE has 12 samples, DataComp's has 12,488" in said
    lines = {line["key"]: line for line in iterate_jsonl(out / "eval_results.jsonl")}
    assert list(lines) == [
        "cars", "retrieval/mscoco_2014_5k_test_image_text_retrieval", "fairness/geode",
    ]  # fmt: skip
    geode = lines["fairness/geode"]["metrics"]
    assert geode["main_metric"] == geode["acc_wg"] == geode["worst_region_acc1"]
    assert {p.name for p in out.glob("*.json")} == {
        "own.json", "cars.json", "fairness-geode.json",
        "retrieval-mscoco_2014_5k_test_image_text_retrieval.json",
    }  # fmt: skip


def test_the_tables_of_all_tasks():
    about = {"samples": 1234, "unusable": {"missing_cls": 2, "missing_image": 3}}
    metrics = [
        ("zeroshot_classification", {"acc1": 0.5, "acc5": None}),
        ("zeroshot_classification", {"mean_average_precision": 0.25}),
        ("zeroshot_association", {"avg_jaccard_score": 1.0}),
    ]
    results = [
        {"dataset": f"set{n}", "task": task, "metrics": found, "selffilter": about}
        for n, (task, found) in enumerate(metrics)
    ]
    classification, association = results_table(results).split("\n\n")
    assert [line.split() for line in classification.splitlines()] == [
        ["set", "samples", "unusable", "acc1", "%", "acc5", "%", "mAP", "%"],
        ["set0", "1,234", "5", "50.0", "–", "–"],
        ["set1", "1,234", "5", "–", "–", "25.0"],
    ]
    assert association.splitlines()[1].split() == ["set2", "1,234", "5", "100.0"]

    lines = [result_line(task, {task.ours: 0.5}) for task in COUNTED]
    assert "mean: Average" in datacomp_table(lines, [])
    assert "50.0" in datacomp_table(lines, []).split("mean: Average")[1].splitlines()[0]
    assert "–" in datacomp_table(lines[1:], ["Caltech-101"]).split("mean: Average")[1]


def test_a_broken_set_is_said_at_the_end_and_the_others_are_kept(
    run_dir, write_set, tmp_path, capsys
):
    good, bad = write_set(tmp_path / "good"), write_set(tmp_path / "bad")
    (tmp_path / "bad" / "test" / "0.tar").write_bytes(b"no tar")
    with pytest.raises(UserError, match="not evaluated: bad"):
        run_evaluation(str(run_dir), [bad, good], out=tmp_path / "out", **CPU)
    assert "good" in capsys.readouterr().out
    assert (tmp_path / "out" / "good.json").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"specs": []}, "name a set to evaluate on"),
        ({"datacomp": Path("nowhere")}, "--datacomp nowhere: there is no such folder"),
        ({"precision": "bf16-mix"}, "Did you mean 'bf16-mixed'?"),
        ({"accelerator": "cuda"}, "--accelerator 'cuda' is not one of auto, cpu, gpu"),
        ({"batch_size": 0}, "--batch-size 0"),
        ({"checkpoint": "nowhere"}, "'nowhere' is no model"),
        ({"specs": ["nowhere"]}, "nowhere is not an evaluation set"),
        ({"split": "train"}, "train/nshards.txt"),
    ],
)
def test_a_mistake_is_found_before_anything_is_done(change, says, run_dir, write_set, tmp_path):
    words = {"checkpoint": str(run_dir), "specs": [write_set(tmp_path / "letters")]}
    words |= CPU | {"out": tmp_path / "out"} | change
    with pytest.raises(UserError) as caught:
        run_evaluation(**words)
    assert says in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_datacomp_sets_and_torchrun_are_refused(run_dir, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="has none of DataComp's sets"):
        run_evaluation(str(run_dir), [], datacomp=tmp_path, **CPU)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="without torchrun"):
        run_evaluation(str(run_dir), [str(tmp_path)], **CPU)


def test_the_command_line(run_dir, write_set, tmp_path):
    letters = write_set(tmp_path / "letters")

    def command(*words):
        return subprocess.run(
            [sys.executable, "-m", "selffilter", "evaluate", *words, "--accelerator", "cpu"],
            cwd=tmp_path, capture_output=True, text=True, timeout=200,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    weights = f"{TINY}:{run_dir / 'final' / 'open_clip_model.safetensors'}"
    done = command(weights, f"abc={letters}", "--json", "--batch-size", "5", "--workers", "1")
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["results"]
    assert (result["dataset"], result["model"]) == ("abc", "tiny")
    assert len(list((tmp_path / "evaluation").glob("*/abc.json"))) == 1
    refused = command(f"RN50:{run_dir / 'final' / 'open_clip_model.safetensors'}", letters)
    assert refused.returncode == 2
    assert "not of the architecture RN50" in refused.stderr
    assert "Traceback" not in refused.stderr
