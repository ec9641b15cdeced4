import os
import shlex
import time

import pytest

from selffilter.pool.stores.pipe import PipeStore
from selffilter.pool.stores.store import Span, Stat


@pytest.fixture
def counted(shards, tmp_path):
    """Return a command that writes 0.tar, and a function that tells how often it ran."""
    log = tmp_path / "runs"
    command = f"pipe:echo x >> {shlex.quote(str(log))}; cat {shlex.quote(str(shards / '0.tar'))}"
    return command, lambda: len(log.read_text().split()) if log.exists() else 0


def children():
    """Return the processes of this one's children, zombies too."""
    me = str(os.getpid())
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[1] == me:
            found.append(int(pid))
    return found


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_nothing_is_known_before_the_command_has_run(counted):
    command, runs = counted
    assert PipeStore().stat(command) == Stat(None, "")
    assert runs() == 0


def test_spans_that_overlap_repeat_and_stand_in_any_order_take_one_run(counted, content):
    command, runs = counted
    wanted = [(39_990, 40_000), (0, 10), (5, 8), (5, 30), (5, 8), (100, 100), (29, 31), (0, 40_000)]
    found = PipeStore().read([Span(command, a, b) for a, b in wanted])
    assert found == [content["0.tar"][a:b] for a, b in wanted]
    assert runs() == 1
    assert PipeStore().read([]) == []


def test_several_commands_are_told_apart(shards, content):
    names = ["1.tar", "0.tar", "2.tar", "1.tar"]
    spans = [Span(f"pipe:cat {shards / name}", 1, 5) for name in names]
    assert PipeStore().read(spans) == [content[name][1:5] for name in names]


def test_a_shard_can_be_scanned_skipping_forward(counted, content):
    command, runs = counted
    with PipeStore().open(command) as stream:
        assert stream.read(512) == content["0.tar"][:512]
        assert stream.seek(30_000) == 30_000
        assert stream.read(10) == content["0.tar"][30_000:30_010]
        assert stream.tell() == 30_010
        assert stream.seek(50_000) == 40_000  # a skip behind the end tells where that is
        assert stream.read(10) == b""
    assert runs() == 1


def test_a_scan_cannot_go_back_further_than_what_is_buffered():
    with PipeStore().open("pipe:head -c 10000000 /dev/zero") as stream:
        stream.seek(9_000_000)
        stream.read(10)
        with pytest.raises(OSError, match="cannot go back"):
            stream.seek(0)


def test_what_is_skipped_does_not_stay_in_memory():
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = 500 << 20
    (found,) = PipeStore().read(
        [Span(f"pipe:head -c {size} /dev/zero; printf abc", size - 1, size + 3)]
    )
    assert found == b"\0abc"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


def test_a_command_that_fails_names_itself_its_code_and_what_it_said():
    with pytest.raises(OSError, match=r"pipe:echo no such bucket >&2.* ended with 3: no such buck"):
        PipeStore().read([Span("pipe:echo no such bucket >&2; exit 3", 0, 1)])
    with (
        PipeStore().open("pipe:printf abc; exit 3") as stream,
        pytest.raises(OSError, match="ended with 3"),
    ):
        stream.read(100)


def test_a_command_that_fails_while_it_is_skipped_is_no_short_shard():
    with (
        PipeStore().open("pipe:printf abc; exit 3") as stream,
        pytest.raises(OSError, match="ended with 3"),
    ):
        stream.seek(100)


def flaky(tmp_path, times):
    """Return a command that breaks off in the middle so many times, and then writes it all."""
    log = tmp_path / "log"
    return (
        f"pipe:echo x >> {log}; printf 0123; "
        f"if [ $(wc -l < {log}) -le {times} ]; then exit 9; fi; printf 456789"
    )


def test_a_command_that_fails_sometimes_is_run_again(tmp_path):
    spans = [Span(flaky(tmp_path, 3), a, b) for a, b in ((2, 8), (0, 3), (9, 10))]
    assert PipeStore().read(spans) == [b"234567", b"012", b"9"]
    assert (tmp_path / "log").read_text() == "x\n" * 4


def test_a_scan_goes_on_where_a_failing_command_ended(tmp_path):
    with PipeStore().open(flaky(tmp_path, 2)) as stream:
        assert stream.read() == b"0123456789"
    assert (tmp_path / "log").read_text() == "x\n" * 3


def test_a_command_that_writes_less_is_a_fault(tmp_path):
    with pytest.raises(OSError, match=r"printf abc: the command wrote 3 bytes, 1 less .* needed"):
        PipeStore().read([Span("pipe:printf abc", 0, 2), Span("pipe:printf abc", 2, 4)])


def test_no_process_stays_behind(tmp_path):
    before = children()
    PipeStore().read([Span("pipe:printf abc", 0, 3)])
    with pytest.raises(OSError, match="ended with 1"):
        PipeStore().read([Span("pipe:false", 0, 3)])
    with PipeStore().open("pipe:cat /dev/zero") as stream:
        stream.read(10)
    PipeStore().open("pipe:cat /dev/zero").read(10)  # dropped, not closed
    assert children() == before


def test_a_scan_closed_early_ends_the_whole_pipeline(tmp_path):
    note = tmp_path / "pid"
    with PipeStore().open(
        f"pipe:(echo $BASHPID; sh -c 'echo $$ > {note}; exec sleep 600') | cat"
    ) as stream:
        stream.read(1)
        deadline = time.monotonic() + 10
        while not (note.exists() and note.read_text().strip()) and time.monotonic() < deadline:
            time.sleep(0.01)
        sleeper = int(note.read_text())
        assert is_running(sleeper)
    deadline = time.monotonic() + 10
    while is_running(sleeper) and time.monotonic() < deadline:
        time.sleep(0.01)  # killed, and taken in by init in its own time
    assert not is_running(sleeper)


def test_what_commands_say_when_all_is_well_is_not_repeated(capfd):
    assert PipeStore().read([Span("pipe:echo progress >&2; printf abc", 0, 3)]) == [b"abc"]
    assert capfd.readouterr() == ("", "")
