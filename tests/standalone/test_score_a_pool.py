"""`selffilter score` on shards: what a run's own pass gives, by any weights, in any parts."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch.distributed.run import get_args_parser
from typer.main import get_command

from selffilter.cli import app
from selffilter.clip.model import export, find_recipe
from selffilter.config import load_config
from selffilter.run import run
from selffilter.standalone import pool_source
from selffilter.standalone.score import run_score
from selffilter.standalone.settings import ScoreSettings
from selffilter.store import read_json
from selffilter.team import Team
from selffilter.tracking.console import Screen

CPU = ("--accelerator", "cpu", "--workers", 0)


@pytest.fixture
def home(tmp_path, make_tar, picture, tiny_vit):
    """Five shards of six; some samples have three captions, and three are unusable."""
    (tmp_path / "test-score.json").write_text(json.dumps(tiny_vit))
    for shard in range(5):
        samples = []
        for place in range(6):
            row = 6 * shard + place
            captions = [f"caption {row}", f"another of {row}", "one more"][: 1 + 2 * (row % 2)]
            about = {"uid": f"{row * 7919:032x}", "captions": captions}
            members = {"png": picture(row), "json": json.dumps(about).encode()}
            if row == 4:
                members["png"] = b"no picture"
            if row == 9:
                members["json"] = json.dumps(about | {"captions": [" "]}).encode()
            if row == 20:
                del members["png"]
            samples.append((f"{row:03d}", members))
        make_tar(tmp_path / "pool" / f"{shard:05d}.tar", samples)
    return tmp_path


@pytest.fixture
def model(home):
    """An open_clip folder."""
    torch.manual_seed(0)
    recipe = find_recipe(str(home / "test-score.json"))
    export(home / "model", recipe, recipe.build().state_dict())
    return "model"


def words(out, *more, model="model"):
    return (
        "score", "pool", out, "--model", model, "--caption-key", "json:captions",
        "--index-dir", "index", "--bank-size", 16, "--batch-size", 4, *CPU, *more,
    )  # fmt: skip


SIGNALS = ("--signal", "cosine", "--signal", "neg_clip_loss")


def files_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


def test_it_gives_the_tables_of_a_run_that_has_the_same_weights(call, home):
    config = load_config(
        None,
        [
            "name=mine", f"runs_dir={home}/runs", f"pool.shards=[{home}/pool]",
            f"pool.index_dir={home}/index", "pool.caption_key=json:captions",
            f"model.name={home}/test-score.json", "evaluate.zero_shot=[]",
            "rounds.samples_seen=32", "rounds.count=1", "rounds.bootstrap_fraction=1",
            "rounds.fresh_weights_at=[]", "train.global_batch_size=8", "train.warmup_steps=1",
            "score.bank_size=16", "score.batch_size=4", "select.probe_fraction=0",
            "track.wandb=disabled", "hardware.workers=0", "hardware.accelerator=cpu", "seed=3",
            "score.keep_embeddings=true",
        ],
    )  # fmt: skip
    store = run(config, Team(torch.device("cpu")), Screen(quiet=True))
    weights = store.model(0)
    code, said, _ = call(*words("scores", *SIGNALS, "--seed", 3, model=weights))
    assert code == 0
    assert "30 rows in 5 of 5 shards" in said and "neg_clip_loss: 27 scored" in said
    assert "1 caption_empty, 1 image_unreadable, 1 missing_image" in said
    theirs = store.stage(0, "score")
    for path in sorted(theirs.glob("*.parquet")):
        mine, run_s = pq.read_table(home / "scores" / path.name), pq.read_table(path)
        assert set(mine["scored_round"].to_pylist()) == {-1}
        common = [name for name in run_s.column_names if name != "scored_round"]
        for name in common:
            np.testing.assert_array_equal(mine[name].to_numpy(), run_s[name].to_numpy(), name)
    # A run's round is read by the same command as a folder of scores, and joined with one.
    for name, folders in (("a.npy", (theirs,)), ("b.npy", ("scores",))):
        assert call("select", *folders, name, "--keep", "neg_clip_loss:0.4")[0] == 0
    assert (home / "a.npy").read_bytes() == (home / "b.npy").read_bytes()
    code, said, _ = call(
        "select", theirs, "scores", "c.npy", "--keep", "mine-000:neg_clip_loss:0.5", "--keep",
        "scores:neg_clip_loss:0.4", "--keep", "cosine:0.2",
    )  # fmt: skip
    assert code == 0 and "of run mine, round 0" in said
    # So are the embeddings that it kept: of the same rows, at the same temperature.
    assert call("score", theirs / "embeddings", "ready", *SIGNALS, "--accelerator", "cpu")[0] == 0
    record, whole = (read_json(home / name / "scores.json") for name in ("ready", "scores"))
    assert record["source"] == whole["source"]
    assert record["scorer"]["temperature"] == whole["scorer"]["model"]["temperature"] != 0.01
    ready = pq.read_table(home / "ready" / "00001.parquet")
    first = pq.read_table(home / "scores" / "00001.parquet")
    one_caption = [place for place in range(0, 6, 2) if ready["failure"][place].as_py() == 0]
    difference = ready["cosine"].to_numpy() - first["cosine"].to_numpy()
    assert np.abs(difference[one_caption]).max() < 1e-3
    described = json.loads((theirs / "embeddings" / "embeddings.json").read_text())
    (theirs / "embeddings" / "embeddings.json").write_text(json.dumps(described | {"made_by": {}}))
    code, _, error = call("score", theirs / "embeddings", "unknown", *SIGNALS)
    assert code == 2 and "does not say by which model its embeddings are" in error


def test_parts_in_any_split_are_the_whole_byte_for_byte(call, home, model):
    assert call(*words("whole", *SIGNALS, "--embeddings"))[0] == 0
    code, said, _ = call(*words("parts", *SIGNALS, "--embeddings", "--part", "2/2"))
    assert code == 0 and "2 of 5 shards" in said and "the other parts write the rest" in said
    assert sorted(files_of(home / "parts")) == ["00001.parquet", "00003.parquet"]
    code, _, error = call("select", "parts", "x.npy", "--keep", "cosine:0.1")
    assert code == 2 and "not complete: 3 of 5 shards" in error
    for part in ("3/3", "2/3", "1/3"):
        assert call(*words("parts", *SIGNALS, "--embeddings", "--part", part))[0] == 0
    assert files_of(home / "parts") == files_of(home / "whole")
    for name in ("facts/bank.safetensors", "scores.json"):
        assert (home / "parts" / name).read_bytes() == (home / "whole" / name).read_bytes()
    kept = [path.name for path in sorted((home / "whole" / "embeddings").iterdir())]
    assert kept[:3] == ["00000.image.npy", "00000.parquet", "00000.text.npy"]
    for name in kept:
        twins = [(home / folder / "embeddings" / name) for folder in ("parts", "whole")]
        assert twins[0].read_bytes() == twins[1].read_bytes()


def test_what_is_there_is_not_done_again(call, home, model):
    assert call(*words("scores", *SIGNALS))[0] == 0
    before = files_of(home / "scores")
    times = {path: path.stat().st_mtime_ns for path in (home / "scores").glob("*.parquet")}
    (home / "scores" / "00002.parquet").unlink()
    assert call(*words("scores", *SIGNALS, "--batch-size", 4))[0] == 0
    assert files_of(home / "scores") == before
    again = [path.name for path, time in times.items() if path.stat().st_mtime_ns != time]
    assert again == ["00002.parquet"]


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (("--signal", "cosine"), "signals is"),
        ((*SIGNALS, "--seed", 1), "bank.seed is 0 there and 1 here"),
        ((*SIGNALS, "--bank-size", 8), "bank.size is 16 there and 8 here"),
        ((*SIGNALS, "--precision", "bf16-mixed"), "precision"),
        ((*SIGNALS, "--temperature", 0.5), "model.temperature"),
        ((*SIGNALS, "--model", "other"), "model.fingerprint"),
    ],
)
def test_scores_of_another_scorer_are_never_mixed_in(other, named, call, home, model):
    recipe = find_recipe(str(home / "test-score.json"))
    export(home / "other", recipe, recipe.build().state_dict())
    assert call(*words("scores", *SIGNALS, "--part", "1/5"))[0] == 0
    before = files_of(home / "scores")
    code, _, error = call(*words("scores", *other))
    assert code == 2 and "scores has scores of another scorer" in error and named in error
    assert files_of(home / "scores") == before


def test_a_model_that_was_moved_is_the_same_model(call, home, model):
    assert call(*words("scores", *SIGNALS, "--part", "1/2"))[0] == 0
    (home / "model").rename(home / "moved")
    assert call(*words("scores", *SIGNALS, model="moved"))[0] == 0
    assert len(files_of(home / "scores")) == 5


def test_another_pool_is_refused(call, home, model, make_tar, picture):
    assert call(*words("scores", *SIGNALS, "--part", "1/5"))[0] == 0
    json_member = json.dumps({"captions": ["new"]}).encode()
    make_tar(home / "pool" / "00009.tar", [("9", {"png": picture(9), "json": json_member})])
    code, _, error = call(*words("scores", *SIGNALS))
    assert code == 2 and "scores of another source: version is" in error


def test_a_part_that_is_stopped_goes_on_with_what_is_missing(call, home, model, monkeypatch):
    assert call(*words("whole", *SIGNALS))[0] == 0
    make = pool_source.counting

    def stopping(bar, stop):
        progress, rows = make(bar, stop), 0

        def counted(count):
            nonlocal rows
            rows += count
            if rows >= 14:
                stop.ask()
            progress(count)

        return counted

    monkeypatch.setattr(pool_source, "counting", stopping)
    code, _, error = call(*words("scores", *SIGNALS))
    assert code == 75 and "The same command goes on" in error
    assert sorted(files_of(home / "scores")) == ["00000.parquet", "00001.parquet"]
    monkeypatch.setattr(pool_source, "counting", make)
    assert call(*words("scores", *SIGNALS))[0] == 0
    assert files_of(home / "scores") == files_of(home / "whole")


def test_a_kill_in_the_middle_leaves_whole_files_only(call, home, model):
    assert call(*words("whole", *SIGNALS))[0] == 0
    slow = home / "slow.py"
    slow.write_text(
        "import time\n"
        "from selffilter import store\n"
        "sync = store.os.fsync\n"
        "def slowly(file):\n"
        "    sync(file)\n"
        "    if '00002.parquet' in store.os.readlink(f'/proc/self/fd/{file}'):\n"
        "        time.sleep(600)\n"
        "store.os.fsync = slowly\n"
        "from selffilter.cli import main\n"
        "main()\n"
    )
    env = os.environ | {"PYTHONPATH": str(Path(pool_source.__file__).parents[2])}
    command = [sys.executable, slow, *map(str, words("scores", *SIGNALS))]
    process = subprocess.Popen(command, cwd=home, env=env, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not any((home / "scores").glob(".00002.parquet.*.tmp")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert sorted(files_of(home / "scores")) == ["00000.parquet", "00001.parquet"]
    assert call(*words("scores", *SIGNALS))[0] == 0
    assert files_of(home / "scores") == files_of(home / "whole")
    assert not list((home / "scores").rglob(".*.tmp"))


def test_ranks_share_what_is_missing(call, home, model, capsys):
    assert call(*words("whole", *SIGNALS))[0] == 0
    assert call(*words("scores", *SIGNALS, "--part", "2/3"))[0] == 0
    settings = ScoreSettings(
        signals=("cosine", "neg_clip_loss"), model="model", bank_size=16, batch_size=4, workers=0,
        caption_key="json:captions", index_dir=home / "index",
    )  # fmt: skip
    store = torch.distributed.HashStore()

    def rank(number):
        team = Team(torch.device("cpu"), rank=number, size=2, store=store)
        run_score(["pool"], Path("scores"), settings, team, Screen(quiet=True))

    capsys.readouterr()
    with ThreadPoolExecutor(2) as ranks:
        for done in [ranks.submit(rank, number) for number in range(2)]:
            done.result(timeout=120)
    assert capsys.readouterr().out.count("30 rows in 5 of 5 shards") == 1
    assert files_of(home / "scores") == files_of(home / "whole")


def test_torchrun_takes_no_word_of_the_command_for_its_own():
    """But --signal, of its --signals-to-handle: so that has another name."""
    named = [name for option in get_command(app).commands["score"].params for name in option.opts]
    options = [name for name in named if name.startswith("--") and name != "--signal"]
    assert "--by" in options and "--part" in options
    command = ["-m", "selffilter", "score", "pool", "out", *options]
    asked = get_args_parser().parse_args(command)
    assert asked.training_script_args == command[2:]


def test_a_target_and_a_reference_come_with_the_model(call, home, model, make_tar, picture):
    recipe = find_recipe(str(home / "test-score.json"))
    torch.manual_seed(1)
    export(home / "other", recipe, recipe.build().state_dict())
    labelled = [(f"s{i}", {"png": picture(100 + i), "cls": b"0"}) for i in range(5)]
    make_tar(home / "target" / "train" / "0.tar", labelled)
    (home / "target" / "train" / "nshards.txt").write_text("1")
    (home / "target" / "classnames.txt").write_text("thing")
    (home / "target" / "zeroshot_classification_templates.txt").write_text("{c}")
    signals = [
        word
        for name in ("norm_sim_2", "variance_alignment_image", "norm_sim_inf", "learnability")
        for word in ("--signal", name)
    ]
    code, _, error = call(*words("scores", *signals, "--reference", "other"))
    assert code == 2 and "norm_sim_2 needs --target" in error
    code, _, error = call(*words("scores", *signals, "--target", "target"))
    assert code == 2 and "learnability needs --reference" in error
    given = ("--target", "target", "--reference", "other", "--embeddings")
    assert call(*words("scores", *signals, *given))[0] == 0
    table = pq.read_table([home / "scores" / f"{shard:05d}.parquet" for shard in range(5)])
    usable = np.array(table["failure"].to_pylist()) == 0
    columns = {name: table[name].to_numpy()[usable] for name in signals[1::2]}
    # NormSim_2² = M · VAS, and M = 5.
    np.testing.assert_allclose(
        columns["norm_sim_2"] ** 2, 5 * columns["variance_alignment_image"], rtol=1e-5
    )
    assert (columns["norm_sim_inf"] <= columns["norm_sim_2"] + 1e-6).all()
    assert columns["learnability"].std() > 0
    # The embeddings that were kept, scored by themselves, give the same again.
    ready = ("score", "scores/embeddings", "again", "--target", "target", "--model", "model", *CPU)
    assert call(*ready, *signals[:6])[0] == 0
    record = read_json(home / "again" / "scores.json")
    assert record["source"] == read_json(home / "scores" / "scores.json")["source"]
    again = pq.read_table([home / "again" / f"{shard:05d}.parquet" for shard in range(5)])
    assert again["row"].to_pylist() == [row for row in range(30) if row != 20]
    for name in signals[1:6:2]:
        found = dict(zip(again["row"].to_pylist(), again[name].to_numpy(), strict=True))
        theirs = table[name].to_numpy()
        assert all(abs(found[row] - theirs[row]) < 2e-3 for row in np.flatnonzero(usable))
    # Both joined are of the pool's 30 rows, also those that have no embedding.
    code, said, _ = call(
        "select", "again", "scores", "x.npy", "--keep", "learnability:0.5", "--keep",
        "again:norm_sim_inf:0.1",
    )  # fmt: skip
    assert code == 0 and "fractions are of all indexed rows: 30" in said


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((), "say what to score by"),
        (("--signal", "cosin"), "Did you mean 'cosine'?"),
        (("--signal", "cosine", "--signal", "cosine"), "cosine is asked for twice"),
        (("--signal", "cosine", "--part", "3/2"), "--part 3/2 is no part"),
        (("--signal", "cosine", "--part", "0/2"), "--part 0/2 is no part"),
        (("--signal", "cosine", "--target", "pool"), "no signal that is asked for looks at it"),
        (("--signal", "cosine", "--column", "x"), "shards have no such columns"),
        (("--signal", "neg_clip_loss_permutation"), "is for ready embeddings"),
        (("--signal", "cosine", "--temperature", "0"), "--temperature 0 is not above 0"),
        (("--signal", "cosine", "--model", "nothing"), "'nothing' is no model"),
    ],
)
def test_mistakes_are_one_sentence(more, said, call, home, model):
    code, _, error = call(*words("scores", *more))
    assert code == 2 and said in error and error.count("\n") == 1
    assert not (home / "scores").exists()


def test_what_is_no_folder_of_scores_is_left_alone(call, home, model):
    (home / "mine").mkdir()
    (home / "mine" / "notes.txt").write_text("mine")
    code, _, error = call(*words("mine", *SIGNALS))
    assert code == 2 and "mine is there, and is no folder of scores" in error
    code, _, error = call("score", "pool", "out", "--signal", "cosine", *CPU)
    assert code == 2 and "say with --model" in error
