"""A pool on a server: the same run as with the pool on this disk, whatever was fetched ahead."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path

import numpy as np
import pytest
from test_end_to_end import config_of, go, home, same_run

from benchmarks.pool.serving import FolderServer
from selffilter import patience
from selffilter.errors import StoreGone
from selffilter.pool.prefetch import Fetching
from selffilter.pool.row_reader import Reads
from selffilter.stages import context
from selffilter.store import RunStore, iterate_jsonl
from selffilter.training import round_plan
from selffilter.training.batch_plan import BatchPlan
from selffilter.training.state import TrainState

__all__ = ["home"]


@pytest.fixture(autouse=True)
def short_windows(monkeypatch):
    """Windows of about a shard, so that there is something to look ahead to."""
    monkeypatch.setattr(round_plan, "BatchPlan", functools.partial(BatchPlan, window_batches=2))
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.0)


@pytest.fixture
def near(home: Path, tmp_path: Path) -> RunStore:
    return go(config_of(home, tmp_path / "near", "run"))


class AtOnce:
    """Fetches ahead in this process, so that nothing depends on who is faster."""

    def __init__(self, fetching: Fetching) -> None:
        self._fetching = fetching
        self.asked: list[list[int]] = []

    def want(self, rows_N: np.ndarray) -> None:
        self.asked.append(rows_N.tolist())
        self._fetching.fetch(np.unique(rows_N))

    def reads(self) -> Reads:
        return Reads(
            read_bytes=self._fetching.reads.read_bytes, requests=self._fetching.reads.requests
        )


@contextlib.contextmanager
def at_once(fetching, share):
    yield AtOnce(fetching)


def far_words(address: str, tmp_path: Path, *more: str) -> list[str]:
    return [
        f"pool.shards=['pool={address}/{{00000..00003}}.tar']",
        f"pool.index_dir={tmp_path / 'far_index'}",
        f"pool.cache_dir={tmp_path / 'packs'}",
        *more,
    ]


@pytest.mark.parametrize("cache_gb", [0.0, 1.0, 1e-6])
def test_a_pool_on_a_server_gives_the_same_run(home, near, tmp_path, monkeypatch, cache_gb):
    monkeypatch.setattr(context, "fetching_ahead", at_once if cache_gb else context.fetching_ahead)
    with FolderServer(home / "pool") as server:
        more = far_words(server.url, tmp_path, f"pool.cache_gb={cache_gb}")
        far = go(config_of(home, tmp_path / "far", "run", *more))
    same_run(near, far)
    ahead = [
        r["read_ahead"] for r in iterate_jsonl(far.root / "metrics.jsonl") if r["kind"] == "train"
    ]
    # A billionth of a gigabyte is no room for anything.
    assert (max(ahead) > 0.5) == (cache_gb == 1.0)
    assert (tmp_path / "packs").exists() == bool(cache_gb)


def test_a_server_that_goes_away_ends_in_one_sentence_and_the_run_goes_on_later(
    home, near, tmp_path, monkeypatch
):
    server = FolderServer(home / "pool")
    with server:
        more = far_words(
            server.url, tmp_path, "pool.cache_gb=0", "train.checkpoint_every_steps=500"
        )
        config = config_of(home, tmp_path / "far", "run", *more)
        reads = 0
        read = context.PoolDataset.__getitem__

        def away_later(self, request):
            nonlocal reads
            reads += request.step is not None
            if reads == 4:
                reads += 1
                raise StoreGone(f"{server.url}/00001.tar: connection refused")
            return read(self, request)

        monkeypatch.setattr(context.PoolDataset, "__getitem__", away_later)
        with pytest.raises(StoreGone, match=r"00001\.tar"):
            go(config)
        # Nothing is lost, though no checkpoint was due.
        store = RunStore(tmp_path / "far" / "run")
        assert TrainState.load(store.state(0)).step == 3
        far = go(config)
    same_run(near, far)
