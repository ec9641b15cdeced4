"""A data loader process that is killed, or never answers, is told by stage, rank and shards."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from test_end_to_end import config_of, go, home, same_run, whole

from selffilter.endings import EXIT_CRASH, ending_of
from selffilter.errors import Lost
from selffilter.pool import in_flight, reading
from selffilter.pool.in_flight import InFlight, loss_of
from selffilter.pool.reading import BatchRequest, PoolDataset, loader_over
from selffilter.store import RunStore

__all__ = ["home", "whole"]


def in_worker(monkeypatch: pytest.MonkeyPatch, shard: int, train: bool, what) -> None:
    """Have something happen where a worker is asked for rows of a shard."""
    read = PoolDataset.__getitem__

    def read_or(self, request):
        asked = self.shards_of(request)
        is_here = torch.utils.data.get_worker_info() is not None
        if is_here and f"pool/{shard:05d}.tar" in asked and train == (request.step is not None):
            what()
        return read(self, request)

    monkeypatch.setattr(PoolDataset, "__getitem__", read_or)


@pytest.mark.parametrize(("stage", "train"), [("train", True), ("score", False)])
def test_a_killed_worker_ends_the_run_in_one_sentence_and_it_goes_on(
    stage: str, train: bool, whole: RunStore, home: Path, tmp_path: Path
) -> None:
    config = config_of(home, tmp_path, "run", "hardware.workers=2")
    with pytest.MonkeyPatch.context() as patch:
        in_worker(patch, 2, train, lambda: os.kill(os.getpid(), signal.SIGKILL))
        with pytest.raises(Lost) as caught:
            go(config)
    said = str(caught.value)
    assert said.startswith(f"{stage} of round 0: data loader process ")
    assert "(perhaps memory ran out: use fewer hardware.workers), while reading " in said
    assert "pool/00002.tar" in said
    assert said.endswith("What is saved stays; the same command goes on")
    assert ending_of(caught.value).code == EXIT_CRASH
    same_run(whole, go(config))


def test_a_worker_that_never_answers_ends_the_wait(tiny_pool, monkeypatch) -> None:
    monkeypatch.setattr(reading, "WORKER_SILENCE_S", 1.0)
    dataset = PoolDataset(tiny_pool, lambda _: torch.zeros(1), lambda t: torch.zeros(len(t), 1),
                          max_pixels=10**6)  # fmt: skip
    in_worker(monkeypatch, 1, False, lambda: time.sleep(60))
    requests = [BatchRequest(np.array([0, 1])), BatchRequest(np.array([4]))]
    batches = iter(loader_over(dataset, requests, 1))
    assert next(batches)["row"].tolist() == [0, 1]
    with pytest.raises(Lost) as caught:
        next(batches)
    assert str(caught.value) == (
        "no data loader process has brought a batch for 1 s, while reading pool/00001.tar"
    )


class Loader:
    """As torch's: hands out two requests to each worker, and knows their processes."""

    def __init__(self, requests: InFlight, pids: list[int]) -> None:
        self._requests, self._pids = requests, pids

    def __iter__(self) -> Loader:
        self._workers = [type("Process", (), {"pid": pid}) for pid in self._pids]
        handed = iter(self._requests)
        self.handed = [next(handed) for _ in range(2 * len(self._pids))]
        return self

    def __next__(self) -> tuple[int, str]:
        return self.handed.pop(0)


def death(*pids: int) -> RuntimeError:
    named = ", ".join(map(str, pids))
    return RuntimeError(f"DataLoader worker (pid(s) {named}) exited unexpectedly")


@pytest.fixture
def under_way():
    requests = InFlight([f"s{n}" for n in range(20)], 3, lambda request: [request])
    batches = requests.begins(Loader(requests, [71, 72, 73]))
    assert next(batches) == (0, "s0")
    requests.came_back()
    requests.at[:] = [3, 1, 5]  # the third is ahead: s2 waits to be fetched
    yield requests
    requests.ends()


def test_the_shards_are_those_of_the_worker_that_died(under_way: InFlight) -> None:
    assert str(loss_of(death(71))).endswith(", while reading s3")
    assert str(loss_of(death(73))).endswith(", while reading s5")
    assert str(loss_of(death(72, 73))).endswith(", while reading s1, s5")
    under_way.at[0] = -1
    assert str(loss_of(death(71))).endswith("use fewer hardware.workers)")  # it had nothing to do


def test_of_an_unknown_process_it_is_what_all_were_reading(under_way: InFlight) -> None:
    assert str(loss_of(death(99))).endswith(", while reading s3, s1, s5")
    assert in_flight.reading_now() == "reading s3, s1, s5"


def test_other_errors_are_no_losses_and_nothing_is_read_when_all_is_back() -> None:
    assert loss_of(RuntimeError("CUDA error")) is None
    assert loss_of(ValueError(str(death(1)))) is None
    assert in_flight.reading_now() == ""
    assert str(loss_of(death(1))).endswith("use fewer hardware.workers)")


def test_many_shards_are_counted_and_not_listed() -> None:
    requests = InFlight([range(30)], 1, lambda request: [f"s{n}" for n in request])
    next(requests.begins(requests))
    requests.at[0] = 0
    said = str(loss_of(death(1)))
    requests.ends()
    assert said.endswith("s6, s7 and 22 more")
