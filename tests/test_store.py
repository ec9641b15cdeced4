import errno
import json
import math
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from selffilter import store as store_module
from selffilter.errors import UserError
from selffilter.store import (
    LEASE_STALE_S,
    Lease,
    RunStore,
    append_line,
    create_exclusively,
    iterate_jsonl,
    read_json,
    sweep,
    without_nan,
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
    with pytest.raises(TypeError, match="set is not JSON serializable"):
        write_json(tmp_path / "k", {1})
    assert names(tmp_path) == ["j"]


def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path):
    path = tmp_path / "m.jsonl"
    assert list(iterate_jsonl(path)) == []
    write_jsonl(path, [{"a": 1}, {"a": 2}])
    with path.open("a") as file:
        file.write('{"a": ')
    assert list(iterate_jsonl(path)) == [{"a": 1}, {"a": 2}]
    write_jsonl(path, [{"a": 1}])
    with path.open("a") as file:
        file.write("[" * 200_000)
    assert list(iterate_jsonl(path)) == [{"a": 1}]


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


def test_a_lease_is_whole_or_not_there(tmp_path, said, monkeypatch):
    # Who is killed while it takes the lease leaves none that nobody can read: no wait of minutes.
    monkeypatch.setattr(os, "link", lambda *_: os._exit(9))
    child = os.fork()
    if not child:
        Lease(tmp_path).__enter__()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    monkeypatch.undo()
    assert not (tmp_path / "lease.json").exists()
    with Lease(tmp_path, said.append) as lease:
        assert lease.was_left  # its debris is told from a clean end
        assert names(tmp_path) == ["lease.json"]
    assert said == []


def test_without_hard_links_a_lease_is_taken_and_refused_all_the_same(tmp_path, said, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with Lease(tmp_path, said.append):
        with pytest.raises(UserError, match="in use"):
            Lease(tmp_path, said.append).__enter__()
        assert names(tmp_path) == ["lease.json"]


def test_of_two_that_take_over_one_stale_lease_the_slower_one_is_refused(
    tmp_path, said, monkeypatch
):
    leave_lease(tmp_path, pid=dead_pid())
    quick, slow = Lease(tmp_path, said.append), Lease(tmp_path, said.append)
    really, entered = slow._took, []

    def later(judged):
        # Between judging the old lease and taking it away, another process does both.
        if not entered:
            entered.append(quick.__enter__())
        return really(judged)

    monkeypatch.setattr(slow, "_took", later)
    with pytest.raises(UserError, match="in use"):
        slow.__enter__()
    assert read_json(tmp_path / "lease.json")["token"] == quick._token
    quick.__exit__()
    assert names(tmp_path) == []


def test_a_process_number_that_another_process_has_now_is_no_holder(tmp_path, said):
    leave_lease(tmp_path, pid=os.getppid(), started=1)
    with Lease(tmp_path, said.append):
        pass
    assert "its process is gone" in said[0]


def test_process_numbers_of_another_container_mean_nothing_here(tmp_path, said):
    leave_lease(tmp_path, pid=dead_pid(), pid_namespace="pid:[1]")
    with pytest.raises(UserError, match="in use"):
        Lease(tmp_path, said.append).__enter__()


def test_who_is_refused_is_told_by_whom_and_until_when(tmp_path, said):
    leave_lease(tmp_path, host="far-away", pid=77, job="4711", heartbeat=time.time() - 30)
    with pytest.raises(UserError) as refused:
        Lease(tmp_path, said.append).__enter__()
    words = "in use by process 77 on far-away (Slurm job 4711) (heartbeat 30 s ago)"
    assert words in str(refused.value)
    assert f"{LEASE_STALE_S:.0f} s after the last heartbeat" in str(refused.value)


def test_a_file_that_is_there_is_not_made_again(tmp_path):
    create_exclusively(tmp_path / "file", b"first")
    with pytest.raises(FileExistsError):
        create_exclusively(tmp_path / "file", b"second")
    assert ((tmp_path / "file").read_bytes(), names(tmp_path)) == (b"first", ["file"])


def test_debris_is_swept_and_what_others_may_be_writing_is_not(tmp_path):
    for name, age_s in (("file", 7200), (".old.1.00000000.tmp", 7200), (".new.1.00000000.tmp", 60)):
        path = tmp_path / "deep" / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, (time.time() - age_s,) * 2)
    sweep(tmp_path, older_than_s=3600)
    assert names(tmp_path / "deep") == [".new.1.00000000.tmp", "file"]
    sweep(tmp_path)
    assert names(tmp_path / "deep") == ["file"]


# --- a place that takes no more -------------------------------------------------------------------


@pytest.fixture
def no_large_files():
    """The file system refuses bytes beyond 64 KiB, as with ulimit -f."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "write",
    [
        lambda file: file.write(bytes(1 << 17)),
        lambda file: np.save(file, np.zeros(1 << 17)),  # an OSError without a number
        lambda file: torch.save({"a": torch.zeros(1 << 17)}, file),  # a RuntimeError
        lambda file: pq.write_table(
            pa.table({"a": np.random.default_rng(0).random(1 << 17)}), file
        ),
    ],
    ids=["python", "numpy", "torch", "arrow"],
)
def test_whatever_writes_a_refused_write_names_the_file_and_why(tmp_path, no_large_files, write):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(OSError) as refused:
        write_atomically(path, write)
    assert (refused.value.errno, refused.value.filename) == (errno.EFBIG, str(path))
    assert (path.read_bytes(), names(tmp_path)) == (b"old", ["file"])


def test_an_error_that_is_not_of_the_place_stays_what_it_is(tmp_path):
    def fail(_):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        write_atomically(tmp_path / "file", fail)

    def read(_):
        raise OSError(errno.EIO, "Input/output error", "/far/shard.tar")

    with pytest.raises(OSError) as kept:
        write_atomically(tmp_path / "file", read)
    assert kept.value.filename == "/far/shard.tar"


def test_a_line_is_appended_whole_or_not_at_all(tmp_path, no_large_files):
    path = tmp_path / "lines"
    append_line(path, "a" * (1 << 16 - 1))
    before = path.read_bytes()
    with pytest.raises(OSError) as refused:
        append_line(path, "b" * (1 << 16))
    assert (refused.value.errno, refused.value.filename) == (errno.EFBIG, str(path))
    assert path.read_bytes() == before


def test_json_has_null_for_what_is_undefined_however_deep(tmp_path):
    value = {
        "a": math.nan, "b": [1.5, np.float32("nan"), {"c": (math.inf,)}], "d": "nan", 3: Path("x"),
        "e": np.int64(7),
    }  # fmt: skip
    plain = {"a": None, "b": [1.5, None, {"c": [None]}], "d": "nan", "3": "x", "e": 7}
    assert without_nan(value) == plain
    write_json(tmp_path / "value.json", value)
    assert read_json(tmp_path / "value.json") == plain


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1}}', b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_json_file_is_named(content, tmp_path):
    path = tmp_path / "summary.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"summary\.json is no JSON"):
        read_json(path)
