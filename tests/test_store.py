import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from selffilter import store as store_module
from selffilter.errors import UserError
from selffilter.store import (
    LEASE_STALE_S,
    Lease,
    RunStore,
    iterate_jsonl,
    read_json,
    write_atomically,
    write_json,
    write_jsonl,
    write_once,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_failed_write_leaves_the_old_file_and_no_debris(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(file):
        file.write(b"half of the new")
        raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="on fire"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_an_interrupted_write_leaves_the_old_file_and_no_debris(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, interrupt)
    assert (path.read_bytes(), names(tmp_path)) == (b"old", ["file"])


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write(file):
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"

    write_atomically(path, write)
    assert path.read_bytes() == b"new"


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    code = (
        "import os, pathlib, selffilter.store as s\n"
        "def write(file):\n"
        "    file.write(b'half'); file.flush(); os._exit(9)\n"
        f"s.write_atomically(pathlib.Path({str(path)!r}), write)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert path.read_bytes() == b"old"


def test_the_data_is_synced_before_it_is_renamed(tmp_path, monkeypatch):
    done = []
    real_sync, real_replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append("sync"), real_sync(fd))[1])
    monkeypatch.setattr(
        Path, "replace", lambda a, b: (done.append("rename"), real_replace(a, b))[1]
    )
    write_atomically(tmp_path / "deep" / "file", lambda file: file.write(b"x"))
    assert done == ["sync", "rename", "sync"]


def test_of_several_that_make_a_file_the_first_to_finish_gives_it(tmp_path):
    path = tmp_path / "file"

    def slowly(aside):
        write_once(path, lambda other: other.write_text("quick"))
        aside.write_text("slow")

    write_once(path, slowly)
    assert path.read_text() == "quick"
    write_once(path, lambda aside: pytest.fail("it is there"))

    def fail(aside):
        aside.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_once(tmp_path / "other", fail)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_json_takes_paths_and_numpy_numbers_and_refuses_other_things(tmp_path):
    value = {"a": Path("/x"), "b": np.float32(0.5), "c": np.int64(3), "ü": [None, True]}
    write_json(tmp_path / "j", value)
    assert read_json(tmp_path / "j") == {"a": "/x", "b": 0.5, "c": 3, "ü": [None, True]}
    with pytest.raises(TypeError, match="cannot write set as JSON"):
        write_json(tmp_path / "k", {1})
    assert names(tmp_path) == ["j"]


def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path):
    path = tmp_path / "m.jsonl"
    assert list(iterate_jsonl(path)) == []
    write_jsonl(path, [{"a": 1}, {"a": 2}])
    with path.open("a") as file:
        file.write('{"a": ')
    assert list(iterate_jsonl(path)) == [{"a": 1}, {"a": 2}]


def test_a_stage_is_done_when_its_marker_is_there(tmp_path):
    store = RunStore(tmp_path)
    assert not store.is_done(2, "score")
    store.mark_done(2, "score", {"rows": 7})
    assert store.is_done(2, "score")
    assert not store.is_done(2, "train")
    assert not store.is_done(1, "score")
    assert store.summary(2, "score") == {"rows": 7}
    store.mark_done(2, "train", {"loss": 1.5})
    assert store.round_summary(2, ["train", "score"]) == {"round": 2, "rows": 7, "loss": 1.5}
    assert store.rounds() == [2]


def test_files_lie_where_the_design_says(tmp_path):
    store = RunStore(tmp_path)
    places = [
        store.config_path, store.model(3), store.state(3), store.stage(3, "score"),
        store.stage(3, "select"), store.final,
    ]  # fmt: skip
    assert [str(place.relative_to(tmp_path)) for place in places] == [
        "config.yaml", "rounds/003/train/model.safetensors", "rounds/003/train/last.ckpt",
        "rounds/003/scores", "rounds/003/selection", "final",
    ]  # fmt: skip


def record(**changes):
    return {
        "token": "other", "host": socket.gethostname(), "pid": os.getppid(), "job": "",
        "heartbeat": time.time(), **changes,
    }  # fmt: skip


def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def leave_lease(folder, **changes):
    (folder / "lease.json").write_text(json.dumps(record(**changes)))


@pytest.fixture
def said():
    return []


def test_a_lease_is_there_while_it_is_held_and_gone_afterwards(tmp_path, said):
    with Lease(tmp_path / "run", said.append) as lease:
        held = read_json(lease.path)
        assert (held["pid"], held["host"]) == (os.getpid(), socket.gethostname())
    assert not lease.path.exists()
    assert said == []


def test_a_live_process_keeps_the_run(tmp_path, said):
    leave_lease(tmp_path)
    with pytest.raises(UserError, match=f"in use by process {os.getppid()} on "):
        Lease(tmp_path, said.append).__enter__()
    assert read_json(tmp_path / "lease.json")["token"] == "other"


def test_a_live_process_of_another_host_keeps_the_run_though_its_pid_means_nothing_here(
    tmp_path, said
):
    leave_lease(tmp_path, host="far-away", pid=dead_pid())
    with pytest.raises(UserError, match="on far-away"):
        Lease(tmp_path, said.append).__enter__()


def test_a_second_lease_of_the_same_run_is_refused_while_the_first_is_held(tmp_path, said):
    with Lease(tmp_path, said.append):
        with pytest.raises(UserError, match="in use"):
            Lease(tmp_path, said.append).__enter__()
        assert (tmp_path / "lease.json").exists()
    with Lease(tmp_path, said.append):
        pass


def test_the_lease_of_a_process_that_is_gone_is_taken_over_with_a_word(tmp_path, said):
    leave_lease(tmp_path, pid=dead_pid())
    with Lease(tmp_path, said.append) as lease:
        assert read_json(lease.path)["pid"] == os.getpid()
    assert "its process is gone" in said[0]


def test_a_lease_whose_heartbeat_stopped_is_taken_over_with_a_word(tmp_path, said):
    leave_lease(tmp_path, host="far-away", heartbeat=time.time() - LEASE_STALE_S - 5)
    with Lease(tmp_path, said.append) as lease:
        assert read_json(lease.path)["pid"] == os.getpid()
    assert "its last heartbeat is 12" in said[0]
    assert "far-away" in said[0]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x"}'])
def test_a_lease_that_is_just_being_written_is_respected_and_an_old_one_taken_over(
    tmp_path, said, content
):
    path = tmp_path / "lease.json"
    path.write_text(content)
    with pytest.raises(UserError, match="in use"):
        Lease(tmp_path, said.append).__enter__()
    old = time.time() - LEASE_STALE_S - 5
    os.utime(path, (old, old))
    with Lease(tmp_path, said.append):
        assert read_json(path)["pid"] == os.getpid()


def test_a_lease_that_somebody_else_has_taken_over_is_left_alone(tmp_path, said):
    with Lease(tmp_path, said.append):
        leave_lease(tmp_path)
    assert read_json(tmp_path / "lease.json")["token"] == "other"


def test_the_heartbeat_goes_on_while_the_lease_is_held(tmp_path, said, monkeypatch):
    monkeypatch.setattr(store_module, "LEASE_HEARTBEAT_S", 0.001)
    beats = threading.Semaphore(0)
    real = store_module.write_json

    def counted(path, value):
        real(path, value)
        beats.release()

    monkeypatch.setattr(store_module, "write_json", counted)
    with Lease(tmp_path, said.append) as lease:
        first = read_json(lease.path)
        for _ in range(3):
            assert beats.acquire(timeout=60)
        later = read_json(lease.path)
    assert later["heartbeat"] != first["heartbeat"]
    assert later["token"] == first["token"]
    assert not lease.path.exists()
