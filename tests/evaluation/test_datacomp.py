from pathlib import Path

import pytest
from PIL import Image

from selffilter.errors import UserError
from selffilter.evaluation.datacomp import (
    AGGREGATES,
    COUNTED,
    DATACOMP_TASKS,
    aggregate,
    find_datacomp_sets,
    result_line,
)
from selffilter.evaluation.evaluate import EvaluationSettings, evaluate

BY_KEY = {task.key: task for task in DATACOMP_TASKS}


def test_of_forty_tasks_thirty_eight_count():
    assert len(BY_KEY) == len({task.name for task in DATACOMP_TASKS}) == 40
    left_out = {task.name for task in DATACOMP_TASKS} - {task.name for task in COUNTED}
    assert left_out == {"FairFace", "UTKFace"}
    assert len(COUNTED) == 38


def test_the_main_metrics_are_those_of_the_task_list():
    other = {task.key: task.main_metric for task in COUNTED if task.main_metric != "acc1"}
    recall = "mean_per_class_recall"
    assert other == {
        "vtab/caltech101": recall,
        "fgvc_aircraft": recall,
        "vtab/flowers": recall,
        "vtab/pets": recall,
        "retrieval/flickr30k": "mean_recall@1",
        "retrieval/mscoco_2014_5k_test_image_text_retrieval": "mean_recall@1",
        "misc/winogavil": "jaccard_score_10-12",
        "wilds/iwildcam": "F1-macro_all",
        "wilds/fmow": "acc_worst_region",
        "fairness/dollar_street": "acc_top5_wg",
        "fairness/geode": "acc_wg",
    }


def test_the_folders_are_those_that_the_download_makes():
    assert BY_KEY["vtab/caltech101"].folders[0] == "wds_vtab-caltech101_test"
    assert BY_KEY["wilds/fmow"].folders[0] == "wds_wilds-fmow_test"
    assert BY_KEY["fairness/geode"].folders[0] == "wds_geode_test"
    assert "wds_mscoco_captions" in (
        BY_KEY["retrieval/mscoco_2014_5k_test_image_text_retrieval"].folders
    )


def test_every_mean_is_over_tasks_that_count():
    names = {task.name for task in COUNTED}
    assert all(set(tasks) <= names for tasks in AGGREGATES.values())
    assert {name: len(tasks) for name, tasks in AGGREGATES.items()} == {
        "ImageNet": 1, "ImageNet dist. shifts": 6, "VTAB": 13, "Retrieval": 3, "Average": 38,
    }  # fmt: skip


def test_a_line_has_the_metric_under_both_names():
    line = result_line(BY_KEY["wilds/iwildcam"], {"acc1": 0.5, "macro_f1": 0.25})
    assert line == {
        "key": "wilds/iwildcam",
        "dataset": "iWildCam",
        "metrics": {"acc1": 0.5, "macro_f1": 0.25, "F1-macro_all": 0.25, "main_metric": 0.25},
    }


def lines(but=()):
    return [
        result_line(task, {task.ours: (number + 1) / 100})
        for number, task in enumerate(COUNTED)
        if task.name not in but
    ]


def test_the_average_is_the_mean_of_all_thirty_eight():
    means = aggregate(lines())
    assert means["Average"] == pytest.approx(sum(range(1, 39)) / 38 / 100)
    assert means["ImageNet"] == 0.12
    assert all(mean is not None for mean in means.values())


@pytest.mark.parametrize("absent", [task.name for task in COUNTED])
def test_there_is_no_average_unless_all_are_there(absent):
    means = aggregate(lines(but=[absent]))
    assert means["Average"] is None
    for name, tasks in AGGREGATES.items():
        assert (means[name] is None) is (absent in tasks)


def test_an_undefined_main_metric_is_not_there():
    found = lines(but=["WinoGAViL"])
    found.append(result_line(BY_KEY["misc/winogavil"], {"jaccard_score_10-12": None}))
    assert aggregate(found)["Retrieval"] is None
    assert aggregate(found)["Average"] is None


def test_sets_are_found_under_either_name_and_the_others_said(
    write_classification, write_set, drawings, captions, npy, tmp_path
):
    members = [
        {"png": image, "cls": str(c).encode(), "npy": npy([i % 3, 2002])}
        for i, (image, c) in enumerate(drawings)
    ]
    write_classification(tmp_path / "wds_cars_test", members)
    write_classification(tmp_path / "wds_wilds-fmow_test", members)
    write_set(tmp_path / "wds_flickr30k", [{"txt": b"a"}], dataset_type=["retrieval"])
    (tmp_path / "wds_fairface_test").mkdir()
    found, missing = find_datacomp_sets(tmp_path)
    assert list(found) == ["cars", "retrieval/flickr30k", "wilds/fmow"]
    assert len(missing) == 35
    assert found["wilds/fmow"].groups == {"region": 0}
    assert found["wilds/fmow"].name == "wilds-fmow"
    assert found["cars"].groups == {}
    (tmp_path / "wds_vtab-dtd_test").mkdir()
    with pytest.raises(UserError, match="wds_vtab-dtd_test is not an evaluation set"):
        find_datacomp_sets(tmp_path)


def test_the_documented_writer_of_winogavil_makes_a_set(tmp_path, model, recipe):
    """The block of docs/evaluation.md, on rows with the fields of DataComp's loader."""
    text = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
    (block,) = (b for b in text.split("```python\n")[1:] if "def write_winogavil" in b)
    scope: dict = {}
    exec(block.split("```")[0], scope)
    rows = [
        {
            "cue": "egg",
            "candidates": [f"picture {n}" for n in range(candidates)],
            "associations": ["picture 1", "picture 4"],
            "candidate_images": [
                Image.new("RGB", (8, 8), (20 * n, 0, 9)) for n in range(candidates)
            ],
            "solvers_jaccard_mean": 0.5,
        }
        for candidates in (5, 12)
    ]
    scope["write_winogavil"](rows, tmp_path / "wds_misc-winogavil_test")
    found, _ = find_datacomp_sets(tmp_path)
    evaluation = evaluate(model, recipe, found["misc/winogavil"], EvaluationSettings())
    assert (evaluation.samples, evaluation.unusable) == (2, {})
    line = result_line(BY_KEY["misc/winogavil"], evaluation.metrics)
    assert line["metrics"]["main_metric"] == evaluation.metrics["jaccard_score_10-12"]
