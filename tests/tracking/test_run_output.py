"""What `selffilter run` says: to a log, quietly, and to a program."""

import json

import pytest

from selffilter.store import read_json

BATCH = 16


@pytest.fixture
def call(call, tmp_path, write_pool, tiny_vit):
    """Return a call of `selffilter run` on a small pool: exit code, output, errors."""
    write_pool(tmp_path / "pool", 80)
    (tmp_path / "vit.json").write_text(json.dumps(tiny_vit))
    words = [
        f"rounds.samples_seen={6 * BATCH}", "rounds.count=2", "rounds.bootstrap_fraction=0.5",
        "select.probe_fraction=0", f"train.global_batch_size={BATCH}", "train.warmup_steps=1",
        "score.bank_size=32", "hardware.workers=0", "hardware.accelerator=cpu",
        "track.wandb=disabled", "name=it",
    ]  # fmt: skip
    (tmp_path / "it.yaml").write_text(
        "pool: {shards: [pool]}\nmodel: {name: vit.json}\nrounds: {fresh_weights_at: []}\n"
    )

    return lambda *more: call("run", "it.yaml", *words, *more)


def test_a_log_has_lines_with_rate_and_the_table(call):
    code, out, err = call()
    assert (code, out) == (0, "")
    lines = err.splitlines()
    assert any(line.startswith("round 0  train  48/48  ") and "data wait" in line for line in lines)
    assert any(line.startswith("round 1  score  80/80  ") for line in lines)
    assert sum(line.startswith("round  samples  loss") for line in lines) == 1


def test_quiet_says_only_what_went_wrong(call):
    assert call("--quiet") == (0, "", "")
    code, out, err = call("--quiet", "seed=1")
    assert (code, out) == (2, "") and "seed: 0 -> 1" in err


def test_json_is_one_event_a_line_and_the_end_has_the_exit_code(call, tmp_path):
    code, out, err = call("--json")
    assert (code, err) == (0, "")
    events = [json.loads(line) for line in out.splitlines()]
    stages = [(e["round"], e["stage"]) for e in events if e["event"] == "stage"]
    assert stages == [
        (r, stage) for r in (0, 1) for stage in ("train", "evaluate", "score", "select")
    ]
    summaries = {e["round"]: e for e in events if e["event"] == "round" and "round" in e}
    kept = read_json(tmp_path / "runs" / "it" / "rounds" / "001" / "selection" / "summary.json")
    assert summaries[1]["selected"] == kept["selected"]
    trained = [e for e in events if e["event"] == "progress" and e["title"] == "round 0  train"]
    assert trained[-1]["done"] == trained[-1]["total"] == 3 * BATCH
    assert trained[-1]["loss"] > 0 and 0 <= trained[-1]["data_wait"] <= 1
    assert (events[-1]["event"], events[-1]["code"]) == ("end", 0)
    assert not (tmp_path / "runs" / "it" / "progress.json").exists()

    code, out, err = call("--json", "seed=1")
    last = json.loads(out.splitlines()[-1])
    assert (code, last["event"], last["code"]) == (2, "end", 2)
    assert "seed: 0 -> 1" in last["message"] and "seed: 0 -> 1" in err


def test_one_of_the_two(call):
    code, _, err = call("--json", "--quiet")
    assert code == 2 and "--quiet and --json: one of the two." in err
