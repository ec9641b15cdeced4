"""The ranks of one run, and how they agree.

Rank 0 reads the run directory and decides; it publishes the decision in torch.distributed's
key-value store and the others wait there, not in a collective: NCCL's watchdog ends a run after
ten minutes of waiting in a collective, while rank 0 may select from 10⁸ rows for longer.
"""

from __future__ import annotations

import datetime
import json
import os
import sys
from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from selffilter.errors import UserError

_PATIENCE = datetime.timedelta(days=7)


class Store(Protocol):
    """What we use of torch.distributed's key-value store."""

    def set(self, key: str, value: str) -> None:
        """See torch.distributed.Store."""

    def get(self, key: str) -> bytes:
        """See torch.distributed.Store."""

    def add(self, key: str, amount: int) -> int:
        """See torch.distributed.Store."""

    def wait(self, keys: list[str], timeout: datetime.timedelta) -> None:
        """See torch.distributed.Store."""


class Team:
    """One process alone, or one rank of several. See `join_team`.

    Attributes:
        rank: This process's number.
        size: The number of processes.
        local_size: The number of processes on this node.
        device: Where this process computes.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        rank: int = 0,
        size: int = 1,
        local_size: int = 1,
        store: Store | None = None,
    ) -> None:
        self.device = device
        self.rank = rank
        self.size = size
        self.local_size = local_size
        self._store = store
        self._calls = 0

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0: the one that reads state, decides, writes and speaks."""
        return self.rank == 0

    @property
    def nodes(self) -> int:
        """The number of nodes."""
        return self.size // self.local_size

    def decide(self, decision: Callable[[], Any]) -> Any:
        """Let rank 0 compute a JSON-able value; every rank returns it, or its error.

        All ranks must make the same calls in the same order.
        """
        if self._store is None:
            return decision()
        key = f"selffilter/{self._next()}"
        if self.is_main:
            try:
                message = {"value": decision()}
            except BaseException as error:
                known = isinstance(error, UserError)
                self._store.set(key, json.dumps({"error": str(error) or repr(error), "u": known}))
                raise
            self._store.set(key, json.dumps(message))
        self._store.wait([key], _PATIENCE)
        message = json.loads(self._store.get(key))
        if "error" in message:
            # Rank 0 tells the user why; the others only have to end.
            kind = UserError if message["u"] else RuntimeError
            raise kind(f"rank 0 stopped: {message['error']}")
        return message["value"]

    def wait_for_all(self) -> None:
        """Return when every rank has come here, however unequal their work was."""
        if self._store is None:
            return
        key = f"selffilter/{self._next()}"
        if self._store.add(f"{key}/count", 1) == self.size:
            self._store.set(key, "all")
        self._store.wait([key], _PATIENCE)

    def say(self, message: str) -> None:
        """Print one line to stderr, once for the whole team."""
        if self.is_main:
            print(message, file=sys.stderr, flush=True)

    def leave(self) -> None:
        """Leave the process group in good order."""
        if dist.is_initialized():
            self.wait_for_all()
            dist.destroy_process_group()

    def _next(self) -> int:
        self._calls += 1
        return self._calls


def join_team(accelerator: str) -> Team:
    """Join the processes that torchrun (or Slurm through torchrun) started; alone without it.

    Args:
        accelerator: "auto", "cpu" or "gpu". With several processes, gloo serves CPUs and NCCL GPUs.

    Raises:
        UserError: If a GPU is asked for and there is none for this process.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    use_gpu = accelerator == "gpu" or (accelerator == "auto" and torch.cuda.is_available())
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if use_gpu and local_size > torch.cuda.device_count():
        raise UserError(
            f"{local_size} process(es) on this node, but {torch.cuda.device_count()} GPU(s) "
            f"(hardware.accelerator={accelerator}). Start fewer processes a node, or set "
            "hardware.accelerator=cpu."
        )
    device = torch.device("cuda", local_rank) if use_gpu else torch.device("cpu")
    if use_gpu:
        torch.cuda.set_device(device)
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return Team(device)
    store, rank, size = next(iter(rendezvous("env://")))
    dist.init_process_group("nccl" if use_gpu else "gloo", store=store, rank=rank, world_size=size)
    # A prefix of its own, so that our keys never meet torch's; the counter restarts with torchrun.
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    own = PrefixStore(f"selffilter-{restart}", store)
    return Team(device, rank=rank, size=size, local_size=local_size, store=own)
