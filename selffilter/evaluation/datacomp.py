"""DataComp's evaluation: 40 tasks, 38 of which have a main metric and make the average.

From tasklist.yml, evaluate.py, aggregate_scores.py and eval_utils/ of mlfoundations/datacomp. The
average is the plain mean of the main metrics, and theirs too is refused unless all 38 are there.
FairFace and UTKFace have no accuracy among their metrics, so no main metric, and are not built.

Two things are as that code computes them, not as its words are: FMoW's worst region includes
"Other" (the names of the regions, by which it would be left out, are not given to it), and macro F1
is over the classes that occur.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selffilter.evaluation.classification import Metrics
from selffilter.evaluation.sets import EvaluationSet

NOT_BUILT = "no main metric: not in the average, and not built"


@dataclass(frozen=True)
class DataCompTask:
    """A task.

    Attributes:
        key: DataComp's key.
        name: DataComp's name, by which it aggregates.
        size: Samples in its set; None where DataComp's number is of something else.
        main_metric: DataComp's name of the metric that counts; None if there is none.
        ours: Our name of that metric.
        groups: Name → column of the samples' metadata.
        also: Further names of the folder.
    """

    key: str
    name: str
    size: int | None
    main_metric: str | None = "acc1"
    ours: str = "acc1"
    groups: Mapping[str, int] = field(default_factory=dict)
    also: tuple[str, ...] = ()

    @property
    def set_name(self) -> str:
        """How the set is called here."""
        return self.key.replace("/", "-")

    @property
    def folders(self) -> tuple[str, ...]:
        """Names that the set's folder may have: download_evalsets.py's, then CLIP_benchmark's."""
        key = self.key.removeprefix("fairness/").replace("/", "-")
        return (f"wds_{key}_test", f"wds_{key}", *self.also)


_RECALL = ("mean_per_class_recall", "mean_per_class_recall")
_RETRIEVAL = ("mean_recall@1", "mean_recall@1")

DATACOMP_TASKS = (
    DataCompTask("vtab/caltech101", "Caltech-101", 6085, *_RECALL),
    DataCompTask("cifar10", "CIFAR-10", 10000),
    DataCompTask("vtab/cifar100", "CIFAR-100", 10000),
    DataCompTask("vtab/clevr_count_all", "CLEVR Counts", 15000),
    DataCompTask("vtab/clevr_closest_object_distance", "CLEVR Distance", 15000),
    DataCompTask("country211", "Country211", 21100),
    DataCompTask("vtab/dtd", "Describable Textures", 1880),
    DataCompTask("vtab/eurosat", "EuroSAT", 5400),
    DataCompTask("fgvc_aircraft", "FGVC Aircraft", 3333, *_RECALL),
    DataCompTask("food101", "Food-101", 25250),
    DataCompTask("gtsrb", "GTSRB", 12630),
    DataCompTask("imagenet1k", "ImageNet 1k", 50000),
    DataCompTask("imagenet_sketch", "ImageNet Sketch", 50889),
    DataCompTask("imagenetv2", "ImageNet v2", 10000),
    DataCompTask("imagenet-a", "ImageNet-A", 7500),
    DataCompTask("imagenet-o", "ImageNet-O", 2000),
    DataCompTask("imagenet-r", "ImageNet-R", 30000),
    DataCompTask("vtab/kitti_closest_vehicle_distance", "KITTI Vehicle Distance", 711),
    DataCompTask("mnist", "MNIST", 10000),
    DataCompTask("objectnet", "ObjectNet", 18574),
    DataCompTask("vtab/flowers", "Oxford Flowers-102", 6149, *_RECALL),
    DataCompTask("vtab/pets", "Oxford-IIIT Pet", 3669, *_RECALL),
    DataCompTask("voc2007", "Pascal VOC 2007", 14976),
    DataCompTask("vtab/pcam", "PatchCamelyon", 32768),
    DataCompTask("renderedsst2", "Rendered SST2", 1821),
    DataCompTask("vtab/resisc45", "RESISC45", 6300),
    DataCompTask("cars", "Stanford Cars", 8041),
    DataCompTask("stl10", "STL-10", 8000),
    DataCompTask("sun397", "SUN397", 108754),
    DataCompTask("vtab/svhn", "SVHN", 26032),
    DataCompTask("retrieval/flickr30k", "Flickr", None, *_RETRIEVAL, also=("wds_flickr30k",)),
    DataCompTask(
        "retrieval/mscoco_2014_5k_test_image_text_retrieval",
        "MSCOCO",
        None,
        *_RETRIEVAL,
        also=("wds_mscoco_captions",),
    ),
    DataCompTask("misc/winogavil", "WinoGAViL", None, "jaccard_score_10-12", "jaccard_score_10-12"),
    DataCompTask("wilds/iwildcam", "iWildCam", 42791, "F1-macro_all", "macro_f1"),
    DataCompTask("wilds/camelyon17", "Camelyon17", 85054),
    DataCompTask(
        "wilds/fmow", "FMoW", 22108, "acc_worst_region", "worst_region_acc1", {"region": 0}
    ),
    DataCompTask(
        "fairness/dollar_street",
        "Dollar Street",
        3503,
        "acc_top5_wg",
        "worst_income_acc5",
        {"income": 0},
    ),
    DataCompTask("fairness/geode", "GeoDE", 12488, "acc_wg", "worst_region_acc1", {"region": 0}),
    DataCompTask("fairness/fairface", "FairFace", 10954, None),
    DataCompTask("fairness/utkface", "UTKFace", 23703, None),
)
COUNTED = tuple(task for task in DATACOMP_TASKS if task.main_metric)

AVERAGE = "Average"
AGGREGATES: dict[str, tuple[str, ...]] = {
    "ImageNet": ("ImageNet 1k",),
    "ImageNet dist. shifts": (
        "ImageNet Sketch", "ImageNet v2", "ImageNet-A", "ImageNet-O", "ImageNet-R", "ObjectNet",
    ),
    "VTAB": (
        "Caltech-101", "CIFAR-100", "CLEVR Counts", "CLEVR Distance", "Describable Textures",
        "EuroSAT", "KITTI Vehicle Distance", "Oxford Flowers-102", "Oxford-IIIT Pet",
        "PatchCamelyon", "RESISC45", "SVHN", "SUN397",
    ),
    "Retrieval": ("Flickr", "MSCOCO", "WinoGAViL"),
    AVERAGE: tuple(task.name for task in COUNTED),
}  # fmt: skip
"""As aggregate_scores.py: each is the mean of the main metrics of these tasks."""


def find_datacomp_sets(
    folder: Path, split: str = "test"
) -> tuple[dict[str, EvaluationSet], list[DataCompTask]]:
    """Look for the sets of the tasks that count.

    Args:
        folder: Where download_evalsets.py put them.
        split: The folder of the shards in each.

    Returns:
        Key of the task → its set, and the tasks without one.

    Raises:
        UserError: If a folder of that name is no evaluation set.
    """
    found, missing = {}, []
    for task in COUNTED:
        there = [folder / name for name in task.folders if (folder / name).is_dir()]
        if there:
            spec = f"{task.set_name}={there[0]}"
            found[task.key] = EvaluationSet(spec, split, dict(task.groups) or None)
        else:
            missing.append(task)
    return found, missing


def result_line(task: DataCompTask, metrics: Metrics) -> dict[str, Any]:
    """Return a line of DataComp's eval_results.jsonl: our metrics, and theirs under its names."""
    assert task.main_metric
    main = metrics.get(task.ours)
    named = {**metrics, task.main_metric: main, "main_metric": main}
    return {"key": task.key, "dataset": task.name, "metrics": named}


def aggregate(lines: list[dict[str, Any]]) -> dict[str, float | None]:
    """Return the means of `AGGREGATES`; None where one of the tasks is not there."""
    score = {line["dataset"]: line["metrics"]["main_metric"] for line in lines}
    means: dict[str, float | None] = {}
    for name, tasks in AGGREGATES.items():
        scores = [score[task] for task in tasks if score.get(task) is not None]
        means[name] = sum(scores) / len(scores) if len(scores) == len(tasks) else None
    return means
