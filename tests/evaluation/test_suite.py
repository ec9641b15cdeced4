import dataclasses
import json

import pytest
import torch

from selffilter.clip.checkpoint import Checkpoint, fingerprint
from selffilter.evaluation import suite
from selffilter.evaluation.evaluate import EvaluationSettings, evaluate
from selffilter.evaluation.sets import EvaluationSet
from selffilter.evaluation.suite import evaluate_sets
from selffilter.store import read_json


@pytest.fixture(scope="module")
def checkpoint(model, recipe):
    return Checkpoint("tiny", "some.pt", recipe, model, fingerprint(model.state_dict()))


@pytest.fixture
def sets(drawings_set, caption_set):
    return [EvaluationSet(str(drawings_set)), EvaluationSet(str(caption_set))]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "results"


def test_each_set_has_a_file_in_clip_benchmarks_form(checkpoint, sets, out):
    report = evaluate_sets(checkpoint, sets, out, EvaluationSettings(batch_size=16))
    assert sorted(p.name for p in out.iterdir()) == ["captions.json", "drawings.json"]
    result = read_json(out / "drawings.json")
    assert result == report.results["drawings"]
    expected = {
        "dataset": "drawings", "model": "tiny", "pretrained": "some.pt", "language": "en",
        "task": "zeroshot_classification",
    }  # fmt: skip
    assert {key: result[key] for key in expected} == expected
    found = evaluate(checkpoint.model, checkpoint.recipe, sets[0], EvaluationSettings())
    assert result["metrics"] == pytest.approx(found.metrics)
    about = result["selffilter"]
    assert about["weights"] == checkpoint.fingerprint
    assert about["samples"] == 40
    assert about["unusable"] == {"image_unreadable": 1, "missing_cls": 1, "missing_image": 1}
    assert about["settings"] == {
        "precision": "float32", "max_pixels": 100_000_000, "batch_size": 16, "device": "cpu",
    }  # fmt: skip
    assert "torch" in about["environment"]["packages"]
    assert read_json(out / "captions.json")["task"] == "zeroshot_retrieval"


@pytest.fixture
def evaluated(monkeypatch):
    """The names of the sets that were really evaluated."""
    names = []

    def note(model, recipe, data, *rest):
        names.append(data.name)
        return evaluate(model, recipe, data, *rest)

    monkeypatch.setattr(suite, "evaluate", note)
    return names


def changed_model(checkpoint):
    return dataclasses.replace(checkpoint, fingerprint="0" * 32)


def other_preprocessing(checkpoint):
    recipe = checkpoint.recipe
    preprocess = recipe.preprocess | {"interpolation": "bilinear"}
    return dataclasses.replace(
        checkpoint, recipe=dataclasses.replace(recipe, preprocess=preprocess)
    )


def test_what_is_done_is_not_done_again(checkpoint, sets, out, evaluated):
    settings = EvaluationSettings()
    evaluate_sets(checkpoint, sets[:1], out, settings)
    before = (out / "drawings.json").stat().st_mtime_ns
    report = evaluate_sets(
        checkpoint, sets, out, dataclasses.replace(settings, batch_size=7, workers=1)
    )
    assert evaluated == ["drawings", "captions"]
    assert report.kept == ["drawings"]
    assert set(report.results) == {"drawings", "captions"}
    assert (out / "drawings.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "change",
    [
        lambda c, s: (changed_model(c), s),
        lambda c, s: (other_preprocessing(c), s),
        lambda c, s: (c, dataclasses.replace(s, autocast=torch.bfloat16)),
        lambda c, s: (c, dataclasses.replace(s, max_pixels=10_000)),
    ],
    ids=["weights", "preprocessing", "precision", "max_pixels"],
)
def test_another_model_or_setting_is_evaluated_again(change, checkpoint, sets, out, evaluated):
    settings = EvaluationSettings()
    evaluate_sets(checkpoint, sets[:1], out, settings)
    said = []
    other, changed = change(checkpoint, settings)
    report = evaluate_sets(other, sets[:1], out, changed, said.append)
    assert evaluated == ["drawings", "drawings"]
    assert report.kept == []
    assert said == ["drawings: evaluated again, for model, set or settings have changed"]


def test_a_changed_set_and_a_damaged_result_are_evaluated_again(
    checkpoint, drawings_set, out, evaluated
):
    spec, settings = str(drawings_set), EvaluationSettings()
    evaluate_sets(checkpoint, [EvaluationSet(spec)], out, settings)
    (drawings_set / "zeroshot_classification_templates.txt").write_text("{c}\n")
    evaluate_sets(checkpoint, [EvaluationSet(spec)], out, settings)
    for damage in ("", "{", "[]", '{"metrics": {}, "selffilter": 3}'):
        (out / "drawings.json").write_text(damage)
        evaluate_sets(checkpoint, [EvaluationSet(spec)], out, settings)
        json.loads((out / "drawings.json").read_text())
    assert len(evaluated) == 6


def test_a_set_that_fails_does_not_stop_the_others(checkpoint, sets, drawings_set, out):
    (drawings_set / "test" / "0.tar").write_bytes(b"no tar")
    said = []
    report = evaluate_sets(checkpoint, sets, out, EvaluationSettings(), said.append)
    assert list(report.results) == ["captions"]
    assert "broken tar" in report.problems["drawings"]
    assert said == [f"drawings: {report.problems['drawings']}"]
    assert not (out / "drawings.json").exists()


def test_what_is_undefined_is_null(checkpoint, write_classification, drawings, out, tmp_path):
    members = [{"png": image, "cls": b"1"} for image, _ in drawings[:3]]
    home = write_classification(tmp_path / "two", members, classnames=["a", "b"])
    evaluate_sets(checkpoint, [EvaluationSet(str(home))], out, EvaluationSettings())
    assert read_json(out / "two.json")["metrics"]["acc5"] is None
