"""A rank that gives no sign of life ends all of them, with its name, stage and shards."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.distributed import HashStore  # type: ignore[attr-defined]

from selffilter import pulse as pulse_module
from selffilter.endings import EXIT_CRASH, AnotherEnded, Ending
from selffilter.errors import Lost
from selffilter.pulse import Pulse
from selffilter.team import Team

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120.0


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.01)


class Ranks:
    """Pulses of several ranks over one store, in this process."""

    def __init__(self, size: int, silent_s: float = 1.0, store: object = None) -> None:
        self.told: list[Ending] = []
        self.left: dict[int, int] = {}
        store = store or HashStore()
        self.all = [
            Pulse(
                store, rank, size, lambda r=rank: f"train of round {r}, reading pool/{r}.tar",
                self.told.append, beat_s=0.02, silent_s=silent_s, grace_s=0.05,
                leave=lambda code, r=rank: self.left.update({r: code}),
            )
            for rank in range(size)
        ]  # fmt: skip

    def start(self, *ranks: int) -> None:
        for rank in ranks:
            self.all[rank].start()


def test_while_all_give_signs_nobody_ends() -> None:
    ranks = Ranks(3, silent_s=5.0)
    ranks.start(0, 1, 2)
    time.sleep(0.3)
    for each in ranks.all:
        each.stop()
    assert (ranks.told, ranks.left) == ([], {})


def test_a_silent_rank_ends_all_with_what_it_was_doing(capfd: pytest.CaptureFixture[str]) -> None:
    ranks = Ranks(3)
    silent = ranks.all[1]
    silent._exchange(time.monotonic())  # one sign, and then none
    ranks.start(0, 2)
    until(lambda: set(ranks.left) == {0, 2})
    assert set(ranks.left.values()) == {EXIT_CRASH}
    (ending,) = ranks.told
    assert ending.rank == 1
    assert "rank 1 has given no sign of life for 1 s" in ending.message
    assert "It was in train of round 1, reading pool/1.tar." in ending.message
    assert capfd.readouterr().err.count("no sign of life") == 1  # told once, not by each
    # Woken up again it learns that the others are gone.
    assert silent._exchange(time.monotonic()) == ending


def test_a_rank_that_never_gave_a_sign_is_missed_too() -> None:
    ranks = Ranks(2)
    ranks.start(0)
    until(lambda: ranks.left == {0: EXIT_CRASH})
    assert "It was in its beginning." in ranks.told[0].message


def test_a_rank_that_left_in_good_order_is_not_missed() -> None:
    ranks = Ranks(2, silent_s=0.2)
    ranks.start(0, 1)
    ranks.all[0].stop()
    time.sleep(0.8)
    ranks.all[1].stop()
    assert (ranks.told, ranks.left) == ([], {})


def test_who_was_asleep_itself_gives_the_others_time() -> None:
    ranks = Ranks(2, silent_s=100.0)
    here = ranks.all[0]
    now = time.monotonic()
    ranks.all[1]._exchange(now)
    for later, is_missed in (
        (10, False),
        (1000, False),
        (1049, False),
        (1098, False),
        (1147, True),
    ):
        assert (here._exchange(now + later) is not None) == is_missed, later


def test_a_store_that_is_gone_ends_the_rank(capfd: pytest.CaptureFixture[str]) -> None:
    class Gone:
        def __getattr__(self, name: str) -> object:
            raise RuntimeError("Broken pipe\n and a C++ stack")

    ranks = Ranks(2, silent_s=0.1, store=Gone())
    ranks.start(1)
    until(lambda: ranks.left == {1: EXIT_CRASH})
    said = capfd.readouterr().err
    assert "the store in which the ranks meet has not answered" in said
    assert "(Broken pipe). This rank was in train of round 1" in said
    assert "C++" not in said


def teams(size: int, monkeypatch: pytest.MonkeyPatch) -> list[Team]:
    for name, value in (("BEAT_S", 0.02), ("SILENT_S", 0.5), ("GRACE_S", PATIENCE_S)):
        monkeypatch.setattr(pulse_module, name, value)
    store, signs = HashStore(), HashStore()
    found = [
        Team(torch.device("cpu"), rank=r, size=size, local_size=size, store=store)
        for r in range(size)
    ]
    for team in found:
        team.begin_pulse(signs)
    return found


def test_rank_0_may_be_busy_far_longer_than_it_may_be_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    main, other = teams(2, monkeypatch)
    main.doing = other.doing = "select of round 1"
    found: list[object] = []
    waiting = threading.Thread(target=lambda: found.append(other.decide(lambda: None)))
    waiting.start()
    main.decide(lambda: time.sleep(5 * pulse_module.SILENT_S) or "chosen")
    waiting.join(PATIENCE_S)
    assert found == ["chosen"]
    for team in (main, other):
        assert team.another_ended() is None
        assert team._pulse is not None
        team._pulse.stop()


def test_who_waits_for_a_silent_rank_hears_which_and_where(monkeypatch: pytest.MonkeyPatch) -> None:
    main, other = teams(2, monkeypatch)
    main.doing, main.reading = "select of round 1", lambda: "reading pool/00003.tar"
    until(lambda: other._pulse is not None and b"select" in (other._pulse._seen or b""))
    assert main._pulse is not None
    monkeypatch.setattr(main._pulse, "_exchange", lambda now: None)  # frozen
    with pytest.raises(AnotherEnded, match="rank 0 has given no sign of life") as caught:
        other.wait_for_all()
    assert "It was in select of round 1, reading pool/00003.tar." in str(caught.value)
    for team in (main, other):
        team._pulse._stop.set()  # type: ignore[union-attr]


def test_a_process_that_was_killed_is_known_by_rank_and_by_what_it_did() -> None:
    ranks = Ranks(3)
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"],
                             stdin=subprocess.PIPE)  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "getpid", lambda: child.pid)
        ranks.all[1]._exchange(time.monotonic())
    ranks.all[2]._exchange(time.monotonic())
    try:
        assert ranks.all[0].gone() is None
    finally:
        child.kill()
    until(lambda: ranks.all[0].gone() is not None)  # nobody has waited for it: a zombie
    assert ranks.all[0].gone() == (1, "train of round 1, reading pool/1.tar")
    child.wait()
    child.stdin.close()  # type: ignore[union-attr]
    assert ranks.all[0].gone() == (1, "train of round 1, reading pool/1.tar")


def test_a_broken_connection_is_told_as_the_loss_of_the_rank_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    main, other = teams(2, monkeypatch)
    closed = RuntimeError("[gloo/transport/tcp/pair.cc:561] Connection closed by peer [::1]:1")
    assert main._pulse is not None
    monkeypatch.setattr(main._pulse, "gone", lambda: (1, "train of round 3"))
    found = main.explained(closed)
    assert isinstance(found, Lost)
    assert str(found).startswith("the process of rank 1 is gone (killed: perhaps memory ran out)")
    assert ", in train of round 3. What is saved stays" in str(found)
    bug = RuntimeError("shape mismatch")
    assert main.explained(bug) is bug
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RANK", "1")
        other.tell(ValueError("its own story"))
    assert main.explained(closed) is closed  # what it told is heard instead
    for team in (main, other):
        team._pulse._stop.set()  # type: ignore[union-attr]


FROZEN = """
import os, signal, sys, time
import torch, torch.distributed as dist
from selffilter import pulse
from selffilter.commands.in_team import with_team
pulse.BEAT_S, pulse.SILENT_S, pulse.GRACE_S = 0.2, 2.0, 1.0

def work(team):
    team.doing = "train of round 3"
    dist.all_reduce(torch.zeros(1))
    time.sleep(1)
    if team.rank == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    dist.all_reduce(torch.zeros(1))

with_team("cpu", work)
"""


def test_a_frozen_process_ends_those_that_wait_for_it_in_a_collective(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "frozen.py").write_text(FROZEN)
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    ranks = [
        subprocess.Popen(
            [sys.executable, "frozen.py"], cwd=tmp_path, text=True, stderr=subprocess.PIPE,
            env=os.environ | {
                "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
                "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
            },
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        said = ranks[0].communicate(timeout=PATIENCE_S)[1]
        assert ranks[0].returncode == EXIT_CRASH, said
        assert said.count("rank 1 has given no sign of life for 2 s") == 1, said
        assert "It was in train of round 3." in said
        assert "Traceback" not in said
    finally:
        ranks[1].send_signal(signal.SIGKILL)
        ranks[1].communicate()
        if ranks[0].poll() is None:
            ranks[0].kill()
