"""What a run evaluates on the way: `RunContext.zero_shot`."""

import pytest
import torch

from selffilter.config import Config
from selffilter.planning import RoundSteps
from selffilter.stages.context import RunContext
from selffilter.team import Team
from selffilter.tracking.console import Screen

STEPS = RoundSteps(2, 10, 20)


@pytest.fixture
def context(recipe):
    """Return what makes a context of some sets; it logs into a list."""

    def make(*sets):
        config = Config()
        config.evaluate.zero_shot = [str(spec) for spec in sets]
        config.hardware.workers = 0
        config.train.global_batch_size = 32
        made = RunContext(
            config, None, Team(torch.device("cpu")), Screen(quiet=True), Log(), recipe,
            None, None, [], None,
        )  # fmt: skip
        return made, made.tracker.records

    return make


class Log:
    def __init__(self):
        self.records = []

    def log(self, record):
        self.records.append(record)


def test_every_set_is_logged_and_the_first_classification_set_is_shown(
    context, model, caption_set, drawings_set
):
    made, records = context(caption_set, drawings_set, f"again={drawings_set}")
    shown = made.zero_shot(model, STEPS, 20, "evaluate")
    assert [r["set"] for r in records] == ["captions", "drawings", "again"]
    for record in records:
        axes = {k: record[k] for k in ("kind", "round", "stage", "samples_seen")}
        assert axes == {
            "kind": "zero_shot", "round": 2, "stage": "evaluate", "samples_seen": 640,
        }  # fmt: skip
    assert "text_retrieval_recall@5" in records[0]
    keys = ("acc1", "acc5", "mean_per_class_recall")
    assert shown == {key: records[1][key] for key in keys}


def test_without_a_classification_set_nothing_is_shown(context, model, caption_set):
    made, records = context(caption_set)
    assert made.zero_shot(model, STEPS, 20, "evaluate") == {}
    assert len(records) == 1
