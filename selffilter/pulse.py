"""Signs of life: a rank that has none is heard of, whatever the others are waiting in.

A rank that fails says so, and one that is killed is seen by its torchrun. But a process that is
frozen, or whose node is gone, says nothing, and the others wait: in torch's key-value store for
ever, in a collective until its timeout. So each rank counts up a number in the store, from a thread
that goes on while the rank works, however long that takes; and watches its neighbour's.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from selffilter.endings import EXIT_CRASH, Ending
from selffilter.plain_text import visible

BEAT_S = 10.0
"""Between two signs."""
SILENT_S = 120.0
"""A rank without a sign of life for so long is given up: as with the lease of a run directory."""
GRACE_S = 30.0
"""After that, ranks that cannot end by themselves (they hang in a collective) are ended."""


class Store(Protocol):
    """What we use of torch.distributed's key-value store; see there."""

    def set(self, key: str, value: str) -> None:
        """See torch.distributed.Store."""

    def get(self, key: str) -> bytes:
        """See torch.distributed.Store."""

    def add(self, key: str, amount: int) -> int:
        """See torch.distributed.Store."""

    def check(self, keys: list[str]) -> bool:
        """See torch.distributed.Store."""


class Pulse:
    """One rank's signs of life, and its watch over the rank before it.

    Args:
        store: Shared by all ranks, with a connection of its own: torch's may be waiting in one.
        rank: This process's number.
        size: The number of processes, at least 2.
        doing: What this rank does, in words.
        tell: Tells those who wait for other ranks that, and why, one has ended.
        beat_s: See `BEAT_S`.
        silent_s: See `SILENT_S`.
        grace_s: See `GRACE_S`.
        leave: Ends this process at once, with an exit code.
    """

    def __init__(
        self,
        store: Store,
        rank: int,
        size: int,
        doing: Callable[[], str],
        tell: Callable[[Ending], None],
        *,
        beat_s: float,
        silent_s: float,
        grace_s: float,
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        self._store, self._rank, self._before = store, rank, (rank - 1) % size
        self._size = size
        self._doing, self._tell, self._leave = doing, tell, leave
        self._beat_s, self._silent_s, self._grace_s = beat_s, silent_s, grace_s
        self._count = 0
        self._seen: bytes | None = None
        self._seen_at = self._looked_at = self._answered_at = time.monotonic()
        self._stop, self._hurry = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="pulse", daemon=True)

    def start(self) -> None:
        """Give the first sign, and go on in a thread."""
        self._thread.start()

    def hurry(self) -> None:
        """Give the next sign at once: what this rank does has changed."""
        self._hurry.set()

    def stop(self) -> None:
        """Leave in good order: nobody is to miss this rank."""
        self._stop.set()
        self._hurry.set()
        self._thread.join(2 * self._beat_s)

    def gone(self) -> tuple[int, str] | None:
        """Return a rank of this node whose process is gone, and what it did last."""
        for rank in range(self._size):
            key = f"alive/{rank}"
            try:
                if rank == self._rank or not self._store.check([key]):
                    continue
                _, doing, host, pid = json.loads(self._store.get(key))
            except RuntimeError:
                return None
            if host == socket.gethostname() and _is_gone(pid):
                return rank, doing
        return None

    def _go_on(self) -> None:
        while True:
            ending = self._look()
            if ending is not None:
                self._end(ending)
                return
            self._hurry.wait(self._beat_s)
            self._hurry.clear()
            if self._stop.is_set():
                break
        try:
            self._store.set(f"left/{self._rank}", "")
        except RuntimeError:
            return  # torchrun is gone first

    def _look(self) -> Ending | None:
        """Give a sign and look for others; returns why this rank is to end."""
        now = time.monotonic()
        try:
            ending = self._exchange(now)
        except RuntimeError as error:
            if time.monotonic() - self._answered_at <= self._silent_s:
                return None
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            ending = Ending(
                EXIT_CRASH,
                f"the store in which the ranks meet has not answered for {self._silent_s:.0f} s: "
                f"torchrun, or the node of rank 0, is gone ({said}). This rank was in "
                f"{self._doing()}. What is saved stays; the same command goes on",
                self._rank,
            )
            _say(ending)
            return ending
        self._answered_at = time.monotonic()
        return ending

    def _exchange(self, now: float) -> Ending | None:
        self._count += 1
        sign = [self._count, self._doing(), socket.gethostname(), os.getpid()]
        self._store.set(f"alive/{self._rank}", json.dumps(sign))
        if self._store.check(["silence"]):
            return Ending.from_json(self._store.get("silence"))
        if self._store.check([f"left/{self._before}"]):
            return None
        key = f"alive/{self._before}"
        seen = self._store.get(key) if self._store.check([key]) else None
        # Who was asleep itself, with the machine or on a busy one, has not seen the others be.
        slept = now - self._looked_at > self._silent_s / 2
        if seen != self._seen or slept:
            self._seen, self._seen_at = seen, now
        self._looked_at = now
        if now - self._seen_at <= self._silent_s:
            return None
        was_in = "its beginning" if seen is None else json.loads(seen)[1]
        ending = Ending(
            EXIT_CRASH,
            f"rank {self._before} has given no sign of life for {self._silent_s:.0f} s: its "
            f"process is frozen, or its node is gone. It was in {was_in}. All ranks end; what is "
            "saved stays, and the same command goes on",
            self._before,
        )
        if self._store.add("silence/count", 1) == 1:
            _say(ending)
            self._store.set("silence", ending.to_json())
            self._tell(ending)
        return ending

    def _end(self, ending: Ending) -> None:
        """Let the rank end by itself, which it does where it waits for others; else end it."""
        self._stop.wait(self._grace_s)
        if not self._stop.is_set():
            sys.stderr.flush()
            self._leave(ending.code)


def _is_gone(pid: int) -> bool:
    """Whether a process of this node has ended, also if nobody has asked for its exit code yet."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return Path("/proc/self").exists()  # there is no /proc on macOS: nothing is known
    return state in ("Z", "X")


def _say(ending: Ending) -> None:
    print(f"selffilter: {visible(ending.message)}.", file=sys.stderr, flush=True)
