"""The ranks of one run, and how they agree.

Rank 0 reads the run directory and decides; it publishes the decision in torch.distributed's
key-value store and the others wait there, not in a collective: NCCL's watchdog ends a run after
ten minutes of waiting in a collective, while rank 0 may select from 10⁸ rows for longer.

A rank that fails says why in the same store: the others, whose collectives break a moment later or
who wait for it, end for that reason and not with a traceback of their own.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from selffilter import pulse
from selffilter.endings import AnotherEnded, Ending, ending_of
from selffilter.errors import Lost, UserError
from selffilter.interrupt import Stopped, TornDown
from selffilter.pulse import Pulse, Store

_LOOK_EVERY_S = (0.002, 0.2)
"""Waiting ranks look this often, at first and later on."""
_PATIENCE_S = 600.0
"""How long ranks wait for one another at the beginning, and for rank 0 to save at the end."""
_CONNECTION = re.compile("gloo|NCCL|[Cc]onnection")
_SEEN_S = 2.0
"""How long to look for a rank that was killed when a connection has broken."""
_COLLECTIVE_S = 600.0
"""How long a step waits for the slowest rank: NCCL's default, for gloo too (its own is 30 min)."""


class Team:
    """One process alone, or one rank of several. See `join_team`.

    Attributes:
        rank: This process's number.
        size: The number of processes.
        local_size: The number of processes on this node.
        device: Where this process computes.
        while_waiting: Called again and again while this rank waits for others; may raise.
        reading: Returns what its data loader processes read, in words; "" if nothing.
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
        self.while_waiting: Callable[[], None] = lambda: None
        self._doing = "its beginning"
        self.reading: Callable[[], str] = lambda: ""
        self._store = store
        self._pulse: Pulse | None = None
        self._calls = 0

    @property
    def doing(self) -> str:
        """What this rank does, in words: the stage and its round."""
        return self._doing

    @doing.setter
    def doing(self, what: str) -> None:
        self._doing = what
        if self._pulse is not None:
            self._pulse.hurry()

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0: the one that reads state, decides, writes and speaks."""
        return self.rank == 0

    @property
    def nodes(self) -> int:
        """The number of nodes."""
        return self.size // self.local_size

    def decide(self, decision: Callable[[], Any]) -> Any:
        """Let rank 0 compute a JSON-able value; every rank returns it.

        All ranks must make the same calls in the same order.

        Raises:
            AnotherEnded: On the other ranks, if it fails on rank 0.
        """
        if self._store is None:
            return decision()
        key = self._next()
        if self.is_main:
            try:
                value = decision()
            except BaseException as error:
                self.tell(error)
                raise
            self._store.set(key, json.dumps(value))
        self._wait(key)
        return json.loads(self._store.get(key))

    def wait_for_all(self) -> None:
        """Return when every rank has come here, however unequal their work was.

        Raises:
            AnotherEnded: If a rank has ended and will not come.
        """
        if self._store is None:
            return
        key = self._next()
        if self._store.add(f"{key}/count", 1) == self.size:
            self._store.set(key, "all")
        self._wait(key)

    def tell(self, error: BaseException) -> None:
        """Tell the other ranks why this one ends; the first to tell is heard."""
        if self._store is None or isinstance(error, AnotherEnded | TornDown):
            return
        self._tell(ending_of(error))

    def gone(self) -> str:
        """Return which rank of this node was killed, and in what, in words; "" if none is known."""
        found = self._pulse.gone() if self._pulse is not None else None
        if found is None:
            return ""
        rank, doing = found
        return f"the process of rank {rank} is gone (killed: perhaps memory ran out), in {doing}"

    def explained(self, error: Exception) -> Exception:
        """Return what an error comes from, if that is the loss of another rank, else the error.

        A rank that is killed tells nobody; what the others see is a connection that breaks.
        """
        if self._store is None or not isinstance(error, RuntimeError) or self.another_ended():
            return error
        if not _CONNECTION.search(str(error)) or not _look_until(
            lambda: self.gone() != "", _SEEN_S
        ):
            return error
        return Lost(f"{self.gone()}. What is saved stays; the same command goes on")

    def _tell(self, ending: Ending) -> None:
        # The store may be what has failed: it is gone when torchrun is.
        with contextlib.suppress(RuntimeError):
            if self._store is not None and self._store.add("ended/count", 1) == 1:
                self._store.set("ended", ending.to_json())

    def begin_pulse(self, store: Store) -> None:
        """Give signs of life, and watch for those of another rank, until this one leaves.

        Args:
            store: A connection of its own to a store that all ranks share.
        """

        def activity() -> str:
            reading = self.reading()
            return f"{self.doing}, {reading}" if reading else self.doing

        self._pulse = Pulse(
            store,
            self.rank,
            self.size,
            activity,
            self._tell,
            beat_s=pulse.BEAT_S,
            silent_s=pulse.SILENT_S,
            grace_s=pulse.GRACE_S,
        )
        self._pulse.start()

    def another_ended(self) -> Ending | None:
        """Return how another rank has ended, if one has told."""
        if self._store is None:
            return None
        with contextlib.suppress(RuntimeError):
            if self._store.check(["ended"]):
                ending = Ending.from_json(self._store.get("ended"))
                return None if ending.rank == self.rank else ending
        return None

    def say(self, message: str) -> None:
        """Print one line to stderr, once for the whole team."""
        if self.is_main:
            print(message, file=sys.stderr, flush=True)

    def leave(self) -> None:
        """Leave the process group in good order."""
        if dist.is_initialized():
            self.wait_for_all()
            if self._pulse is not None:
                self._pulse.stop()
            dist.destroy_process_group()

    def leave_after_main(self) -> None:
        """Leave once rank 0 has: it saves, and torchrun gives it 30 s more when another is gone."""
        if self._store is None:
            return
        if self.is_main:
            self._store.set("left", "")
            return
        with contextlib.suppress(RuntimeError):
            _look_until(lambda: self._store is None or self._store.check(["left"]), _PATIENCE_S)

    def _next(self) -> str:
        self._calls += 1
        return f"call/{self._calls}"

    def _wait(self, key: str) -> None:
        # In looks and not in one call of the store's: signals are heard in between, and the
        # failures of others.
        store = self._store
        assert store is not None

        def is_there() -> bool:
            if store.check([key]):
                return True
            self.while_waiting()
            ending = self.another_ended()
            if ending is not None:
                raise Stopped if ending.stopped else AnotherEnded(ending)
            return False

        _look_until(is_there)


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
    # torchrun's store outlives the ranks that it starts again, and torch would find the addresses
    # of those that were killed there (2.15, gloo: "Connection refused"). So each start has keys of
    # its own; ours and torch's never meet.
    start = meet(store, rank, size)
    dist.init_process_group(
        "nccl" if use_gpu else "gloo",
        store=PrefixStore(f"{start}/torch", store),
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=_COLLECTIVE_S),
    )
    own = PrefixStore(f"{start}/selffilter", store)
    team = Team(device, rank=rank, size=size, local_size=local_size, store=own)
    apart = store.clone()
    apart.set_timeout(timedelta(seconds=pulse.SILENT_S))
    team.begin_pulse(PrefixStore(f"{start}/pulse", apart))
    return team


def meet(store: Store, rank: int, size: int, patience_s: float = _PATIENCE_S) -> str:
    """Agree on a name for this start of the ranks, in a store that knows earlier starts.

    The number of torchrun's restart would not do: with several nodes, only the one where a rank
    died counts it. So every rank asks with a word of its own, and rank 0 answers to that.

    Args:
        store: The keys of all starts.
        rank: Of this process.
        size: How many ranks there are.
        patience_s: How long to wait for the others.

    Returns:
        The name, alike on all ranks.

    Raises:
        RuntimeError: If they do not come.
    """
    me = uuid.uuid4().hex
    if rank:
        store.set(f"selffilter/asks/{rank}", me)
        answer = f"selffilter/answer/{me}"
        if not _look_until(lambda: store.check([answer]), patience_s):
            raise RuntimeError(f"rank 0 has not come within {patience_s:.0f} s")
        start = store.get(answer).decode()
        store.set(f"{start}/met/{rank}", "")
        return start
    start, missing = f"selffilter/start/{me}", set(range(1, size))

    def all_met() -> bool:
        # An earlier start's word may still lie there: it is answered in vain, and again later.
        for other in sorted(missing):
            if store.check([f"{start}/met/{other}"]):
                missing.discard(other)
            elif store.check([f"selffilter/asks/{other}"]):
                word = store.get(f"selffilter/asks/{other}").decode()
                store.set(f"selffilter/answer/{word}", start)
        return not missing

    if not _look_until(all_met, patience_s):
        raise RuntimeError(
            f"{len(missing)} of {size} ranks have not come within {patience_s:.0f} s, among them "
            f"rank {min(missing)}"
        )
    return start


def _look_until(is_so: Callable[[], bool], patience_s: float = float("inf")) -> bool:
    """Look again and again, ever less often; returns whether it came about."""
    pause_s, longest_s = _LOOK_EVERY_S
    deadline = time.monotonic() + patience_s
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, longest_s)
    return True
