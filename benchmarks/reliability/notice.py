"""How long until a loss is noticed, and what is said then: the numbers of docs/reliability.md.

    python benchmarks/reliability/notice.py [CASE]...

Cases: ``failed``, ``killed``, ``frozen`` (a rank of two under torchrun; the last one takes about
three minutes), ``worker`` (a data loader process). Seconds from the loss to the last rank's end.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

RANKS = """
import os, signal, sys, time
import torch, torch.distributed as dist
from selffilter.commands.in_team import with_team
from selffilter.interrupt import StopRequest

def work(team):
    with StopRequest() as stop:
        team.doing, team.while_waiting = "train of round 1", stop.check_torn_down
        for step in range(10**9):
            if team.rank == 1 and step == 20:
                time.sleep(1)
                open("lost_at", "w").write(str(time.time()))
                {loss}
            {together}

with_team("cpu", work)
"""
LOSSES = {
    "failed": "raise RuntimeError('CUDA error: device-side assert')",
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "frozen": "os.kill(os.getpid(), signal.SIGSTOP)",
}
TOGETHER = {
    "in a step": "dist.all_reduce(torch.zeros(1))",
    "waiting": "team.wait_for_all()",
}


def of_ranks(loss: str, together: str) -> None:
    """Lose rank 1 while rank 0 trains with it, or waits for it."""
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        text = RANKS.format(loss=LOSSES[loss], together=TOGETHER[together])
        (where / "ranks.py").write_text(text)
        done = subprocess.run(
            [
                sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
                "ranks.py",
            ],
            cwd=where, capture_output=True, text=True, check=False, env=os.environ | {
                "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""
            },
        )  # fmt: skip
        took = time.time() - float((where / "lost_at").read_text())
    ours = ("selffilter:", "ended by torchrun")
    said = [line for line in done.stderr.splitlines() if line.startswith(ours)]
    said += [line.strip() for line in done.stderr.splitlines() if "Error: " in line][:1]
    print(f"{loss:<8} {together:<10} {took:6.1f} s  {' | '.join(said)}", flush=True)


def of_workers() -> None:
    """Lose a data loader process that is in the middle of a batch."""
    import numpy as np
    import torch

    from selffilter.errors import Lost
    from selffilter.pool.in_flight import loss_of
    from selffilter.pool.index import Pool, build_index
    from selffilter.pool.reading import BatchRequest, PoolDataset, loader_over

    class Slow(PoolDataset):
        def __getitem__(self, request: BatchRequest) -> dict[str, torch.Tensor]:
            if request.rows_B[0] == 2:
                (home / "pid").write_text(str(os.getpid()))
                time.sleep(3600)
            return super().__getitem__(request)

    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "pool").mkdir()
        with tarfile.open(home / "pool" / "0.tar", "w") as tar:
            for row in range(4):
                info = tarfile.TarInfo(f"{row}.txt")
                info.size = 1
                tar.addfile(info, io.BytesIO(b"x"))
                tar.addfile(tarfile.TarInfo(f"{row}.png"))
        pool = Pool(home / "index", build_index([str(home / "pool")], home / "index"))
        dataset = Slow(pool, lambda _: torch.zeros(1), lambda t: torch.zeros(len(t), 1),
                       max_pixels=1)  # fmt: skip
        batches = iter(loader_over(dataset, [BatchRequest(np.array([r])) for r in range(4)], 2))
        next(batches)
        while not (home / "pid").exists():
            time.sleep(0.01)
        begun = time.perf_counter()
        try:
            os.kill(int((home / "pid").read_text()), signal.SIGKILL)
            list(batches)
            said = "nothing"
        except (Lost, RuntimeError) as error:
            said = str(loss_of(error) or error)
        print(f"worker   {'killed':<10} {time.perf_counter() - begun:6.1f} s  {said}", flush=True)


if __name__ == "__main__":
    for case in sys.argv[1:] or ["worker", *LOSSES]:
        if case == "worker":
            of_workers()
        else:
            for together in TOGETHER:
                of_ranks(case, together)
