import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from selffilter.cli import app
from selffilter.config import Config, PoolConfig, to_yaml
from selffilter.errors import UserError
from selffilter.pool.base import Base
from selffilter.pool.failures import Failure
from selffilter.pool.index import Pool, build_index
from selffilter.rundir.coverage import Account, RunScores
from selffilter.scoring.table import score_table
from selffilter.store import RunStore, write_json, write_text
from selffilter.tables import shard_file, write_table


@pytest.fixture
def run(make_tar, tmp_path):
    """A run with two scored rounds over two sources of 60 rows; every tenth lacks its caption.

    Row 1 of each shard cannot be decoded. The second round carries the first one's scores.
    """
    for source in ("a", "b"):
        samples = [
            (str(i), {"png": b"i", "txt": b"t"} if i % 10 else {"png": b"i"}) for i in range(60)
        ]
        make_tar(tmp_path / source / "0.tar", samples)
    specs = [str(tmp_path / source) for source in ("a", "b")]
    pool = Pool(tmp_path / "i", build_index(specs, tmp_path / "i"))
    base = Base(pool, 0, probe_fraction=0.2)
    store = RunStore(tmp_path / "run")
    for shard in (0, 1):
        rows = base.readable(shard)
        failures = np.zeros(len(rows), np.uint8)
        failures[0] = Failure.image_unreadable
        scores = np.where(failures == 0, 0.5, np.nan).astype(np.float32)
        table = score_table(base, shard, rows, {"cosine": scores}, failures, 0)
        for round_ in (0, 1):
            write_table(shard_file(store.stage(round_, "score"), shard), table)
    for round_, scores_from in enumerate(("model", "carried")):
        store.mark_done(round_, "score", {"scores_from": scores_from, "signal": "cosine"})
    write_text(store.config_path, to_yaml(Config(name="run", pool=PoolConfig(shards=specs))))
    pinned = {"index_dir": str(tmp_path / "i"), "version": pool.version}
    write_json(store.root / "environment.json", {"pool": pinned})
    return store.root


def change(run, round_, column, value):
    """Overwrite a column of a score table, from its 5th row on."""
    path = shard_file(RunStore(run).stage(round_, "score"), 0)
    table = pq.read_table(path)
    values = [*table[column].to_pylist()[:5], *[value] * (len(table) - 5)]
    new = pa.array(values, table.schema.field(column).type)
    write_table(path, table.set_column(table.schema.get_field_index(column), column, new))


def whole(run, round_):
    total = Account()
    for account in RunScores.of(run).accounts(round_):
        total.merge(account)
    return total


def test_every_row_is_scored_carried_in_the_probe_or_failed_with_a_reason(run):
    scores = RunScores.of(run)
    accounts = scores.accounts(0)
    base = Base(scores.pool, 0, probe_fraction=0.2)
    assert len(accounts) == 2
    for shard, account in enumerate(accounts):
        usable = base.readable(shard)[1:]
        probe = int(base.in_probe(usable).sum())
        assert account.adds_up
        assert account.indexed == 60
        assert account.failed == {"missing_caption": 6, "image_unreadable": 1}
        assert (account.states["probe"], account.states["scored"]) == (probe, 53 - probe)
        assert probe > 0
    carried = whole(run, 1)
    assert carried.adds_up
    assert carried.states["scored"] == 0
    assert carried.states["carried"] == whole(run, 0).states["scored"]
    record = carried.record()
    assert record["indexed"] == 120
    assert sum(record[s] for s in ("scored", "carried", "probe", "outside", "not_scored")) + (
        record["failed"]
    ) == 120  # fmt: skip


def test_rows_outside_of_a_subset_are_told_apart(run):
    change(run, 0, "outside", True)
    account = RunScores.of(run).accounts(0)[0]
    assert account.adds_up
    assert account.states["outside"] > 30


@pytest.mark.parametrize(
    ("column", "value", "wrong"),
    [
        ("failure", 99, "reason_unknown"),
        ("failure", Failure.image_truncated, "failed_and_scored"),
        ("cosine", float("nan"), "usable_and_not_scored"),
        ("row", 7, "other_rows"),
        ("uid", b"0" * 16, "other_uids"),
    ],
)
def test_a_table_that_does_not_account_for_a_row_does_not_add_up(run, column, value, wrong):
    change(run, 0, column, value)
    account, other = RunScores.of(run).accounts(0)
    assert not account.adds_up
    assert account.wrong[wrong] > 0
    assert other.adds_up


def test_a_shards_table_that_is_missing_is_missed(run):
    shard_file(RunStore(run).stage(1, "score"), 1).unlink()
    first, second = RunScores.of(run).accounts(1)
    assert first.adds_up
    assert (second.adds_up, second.wrong) == (False, {"no_table": 60})


def test_without_a_model_rows_may_have_no_score(run):
    store = RunStore(run)
    store.mark_done(0, "score", {"scores_from": "none", "signal": "cosine"})
    change(run, 0, "cosine", float("nan"))
    account = RunScores.of(run).accounts(0)[0]
    assert account.adds_up
    assert account.states["not_scored"] > 30


def test_failed_rows_are_given_shard_by_shard(run):
    (shard, rows, failures), _ = RunScores.of(run).failures(1)
    assert shard == 0
    assert rows.tolist() == list(range(60))
    assert np.flatnonzero(failures).tolist() == [0, 1, 10, 20, 30, 40, 50]


def test_what_is_no_run_or_has_no_scores_is_refused(run, tmp_path):
    with pytest.raises(UserError, match="is no run directory"):
        RunScores.of(tmp_path)
    for round_ in (0, 1):
        RunStore(run).marker(round_, "score").unlink()
    with pytest.raises(UserError, match="no round is scored yet"):
        RunScores.of(run)


def call(*words, code):
    result = CliRunner().invoke(app, ["pool", "coverage", *map(str, words)])
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout


def test_the_command_says_that_the_sums_add_up(run, tmp_path):
    said = call(run, "--failures", tmp_path / "f.parquet", code=0)
    assert "the sums add up" in said
    assert "failed: 12 missing_caption, 2 image_unreadable" in said
    listed = pq.read_table(tmp_path / "f.parquet").to_pylist()
    assert len(listed) == 14
    unreadable = [row for row in listed if row["reason"] == "image_unreadable"]
    assert [(row["source"], row["key"]) for row in unreadable] == [("a", "1"), ("b", "1")]
    found = json.loads(call(run, "--json", code=0))
    assert found["adds_up"] is True
    assert [round_["round"] for round_ in found["rounds"]] == [0, 1]
    for round_ in found["rounds"]:
        assert sum(part["failed"] for part in round_["sources"].values()) == 14
        assert round_["total"]["indexed"] == 120


def test_the_command_fails_if_they_do_not(run):
    change(run, 0, "failure", 99)
    said = call(run, code=1)
    assert "do NOT add up" in said
    assert "WRONG: 55 reason_unknown" in said
    assert json.loads(call(run, "--json", code=1))["adds_up"] is False
