"""What becomes of processes when the one above them is killed, or the user presses Ctrl-C."""

import os
import signal
import subprocess
import sys
import time

import pytest

from selffilter.pool.child_processes import deaf_to_ctrl_c
from selffilter.pool.index import Pool

INDEX = """
import sys
from selffilter.cli import main
sys.argv = ["selffilter", "pool", "index", *sys.argv[1:]]
main()
"""


@pytest.fixture
def indexing(make_tar, picture, tmp_path):
    """Return a call that begins to index eight slow shards, two at a time, in a group."""
    for i in range(8):
        make_tar(tmp_path / "p" / f"{i:02d}.tar", [(f"{i}", {"png": picture(i), "txt": b"t"})])
    pipe = f"pipe:sleep 0.2; cat {tmp_path}/p/{{00..07}}.tar"
    words = [pipe, "--allow-pipe", "--workers", "2", "--index-dir", str(tmp_path / "index")]

    def begin():
        return subprocess.Popen(
            [sys.executable, "-c", INDEX, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    return begin


def wait_for_a_shard(process, index_dir):
    while process.poll() is None and not list(index_dir.glob("shards/*.arrow")):
        time.sleep(0.02)


def test_nobody_is_left_behind_when_indexing_is_killed(indexing, tmp_path):
    process = indexing()
    wait_for_a_shard(process, tmp_path / "index")
    process.kill()
    process.communicate(timeout=60)  # until the last that could write has ended
    assert process.returncode == -signal.SIGKILL
    assert 1 <= len(list((tmp_path / "index").glob("shards/*.arrow"))) < 8


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_indexing_that_is_asked_to_stop_keeps_what_it_has_and_goes_on(indexing, tmp_path, number):
    process = indexing()
    wait_for_a_shard(process, tmp_path / "index")
    os.killpg(process.pid, number)  # as a terminal and a batch system do: every process
    said, _ = process.communicate(timeout=60)
    assert "Traceback" not in said
    assert "what is indexed stays" in said
    assert process.returncode == 75
    assert 1 <= len(list((tmp_path / "index").glob("shards/*.arrow"))) < 8
    again = indexing()
    said, _ = again.communicate(timeout=60)
    assert again.returncode == 0, said
    assert Pool.latest(tmp_path / "index").rows == 8


def test_ctrl_c_passes_by_what_is_begun_deaf_and_comes_back_afterwards():
    before = signal.getsignal(signal.SIGINT)
    with deaf_to_ctrl_c():
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) == before
