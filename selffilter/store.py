"""The run directory: where every file lies, atomic writes, stage markers, the lease.

A file is written aside, synced and renamed; a stage is done when its marker is there, and the
marker comes last. So a run that is killed at any instant is either before or after each step,
never in the middle. Only rank 0 reads this state and decides (network file systems cache
attributes: two nodes may see a new marker at different times); see `selffilter.team`.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from selffilter.errors import UserError

STAGES = ("train", "score", "select")
_STAGE_FOLDERS = {"train": "train", "score": "scores", "select": "selection"}
LEASE_HEARTBEAT_S = 10.0
LEASE_STALE_S = 120.0


def write_atomically(
    path: Path, write: Callable[[IO[bytes]], object], *, durable: bool = True
) -> None:
    """Let `write` fill a file aside, sync it, and rename it into place.

    A reader sees the old file or the whole new one. A failed write leaves no debris.

    Args:
        path: The file.
        write: Is given the file aside.
        durable: Whether it has to survive the machine's going down; False: it is not synced.

    Raises:
        OSError: Of the file system, with `path` as its filename, whatever a library made of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(path)
    try:
        with aside.open("wb") as file:
            write(file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        aside.replace(path)
    except BaseException as error:
        fault = _fault_of_the_place(error, aside, path)
        _remove(aside)
        if fault is not None:
            raise fault from error
        raise
    if durable:
        _sync_directory(path.parent)


def sweep(folder: Path, older_than_s: float = 0.0) -> None:
    """Remove what writes that were killed have left below a folder.

    Args:
        folder: The folder.
        older_than_s: Since when nobody has written it: more than 0 where others may be at work.
    """
    for debris in folder.rglob(".*.tmp"):
        if not older_than_s or time.time() - _modified(debris) > older_than_s:
            _remove(debris)


def append_line(path: Path, line: str) -> None:
    """Append a line of UTF-8 text, or nothing where there is no room for all of it.

    Raises:
        OSError: With `path` as its filename.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        before, data = file.tell(), line.encode() + b"\n"
        try:
            # A full disk takes a part, and refuses the next one.
            while data:
                data = data[file.write(data) :]
        except OSError as error:
            file.truncate(before)
            raise OSError(error.errno, error.strerror, str(path)) from error


def create_exclusively(path: Path, content: bytes) -> None:
    """Make a file that is there whole or not at all, unless there is one.

    Raises:
        FileExistsError: If there is one.
        FileNotFoundError: If somebody swept the folder meanwhile: try again.
        OSError: Of the file system, with `path` as its filename.
    """
    aside = _aside(path)
    try:
        with aside.open("wb") as file:
            file.write(content)
        try:
            os.link(aside, path)
        except (FileExistsError, FileNotFoundError):
            raise
        except OSError:  # a file system without hard links
            _write_exclusively(path, content)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        _remove(aside)


def _write_exclusively(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        try:
            file.write(content)
            file.flush()
        except OSError:
            _remove(path)
            raise


def copy_atomically(source: Path, target: Path) -> None:
    """Copy a file; the copy is there whole or not at all."""
    with source.open("rb") as original:
        write_atomically(target, lambda file: shutil.copyfileobj(original, file))


def link(source: Path, target: Path) -> None:
    """Hard-link a finished file, or copy it where that fails; one that is there stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        return
    try:
        os.link(source, target)
    except FileExistsError:
        return  # another process was faster
    except OSError:
        copy_atomically(source, target)


def write_once(path: Path, write: Callable[[Path], object]) -> None:
    """Make a file that several processes need, if it is not there: the first to finish gives it.

    What is there stays, so that all of them read the same, even where each would make another.

    Args:
        path: The file.
        write: Makes it under the name that it is given.
    """
    if path.exists():
        return
    aside = _aside(path)
    try:
        write(aside)
        link(aside, path)
    finally:
        aside.unlink(missing_ok=True)


class UnreadableJson(UserError, ValueError):
    """A file that should be JSON: for whoever knows more about it, or for the user."""


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    text = json.dumps(without_nan(value), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(path, lambda file: file.write(text.encode() + b"\n"))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, atomically."""
    write_atomically(path, lambda file: file.write(text.encode()))


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UnreadableJson: If it is none.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UnreadableJson(f"{path} is no JSON: {error}.") from error


class JsonObject(dict[str, Any]):
    """What a file holds; a name that it should have and has not is an error that names the file.

    Attributes:
        path: The file.
    """

    path: Path | None = None

    def __missing__(self, name: str) -> Any:
        raise UnreadableJson(f"{self.path} has no {name!r}: {_ANOTHER}")


def read_object(path: Path) -> JsonObject:
    """Read a JSON file that holds an object.

    Raises:
        UnreadableJson: If it is none.
    """
    try:
        value = read_json(path)
    except UnreadableJson as error:
        raise UnreadableJson(f"{error} If a run wrote it, {_ANOTHER}") from error
    if not isinstance(value, dict):
        raise UnreadableJson(f"{path} holds no JSON object: {_ANOTHER}")
    found = JsonObject(value)
    found.path = path
    return found


_ANOTHER = "it is damaged, or of another version of selffilter. Bring it back from a copy."


def without_nan(value: Any) -> Any:
    """Return a value as JSON has it, however deep it stands.

    JSON has no NaN and no infinity: what is undefined is null. Numpy's numbers are numbers, paths
    are text.
    """
    if isinstance(value, Mapping):
        return {str(key): without_nan(inside) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inside) for inside in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


class RunStore:
    """Names and states of everything in one run directory.

    Attributes:
        root: The run directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    @property
    def config_path(self) -> Path:
        """The resolved config of the run."""
        return self.root / "config.yaml"

    @property
    def final(self) -> Path:
        """Exported model and subset."""
        return self.root / "final"

    def round(self, round_: int) -> Path:
        """Return the folder of a round, counted from 0 (the bootstrap)."""
        return self.root / "rounds" / f"{round_:03d}"

    def stage(self, round_: int, stage: str) -> Path:
        """Return the folder of a stage of a round."""
        return self.round(round_) / _STAGE_FOLDERS[stage]

    def marker(self, round_: int, stage: str) -> Path:
        """Return the marker that says that a stage is done; JSON with the stage's summary."""
        return self.stage(round_, stage) / "summary.json"

    def is_done(self, round_: int, stage: str) -> bool:
        """Whether a stage is finished. For rank 0; the other ranks are told."""
        return self.marker(round_, stage).exists()

    def mark_done(self, round_: int, stage: str, summary: dict[str, Any]) -> None:
        """Finish a stage. Everything it made must lie in place before."""
        write_json(self.marker(round_, stage), summary)

    def summary(self, round_: int, stage: str) -> dict[str, Any]:
        """Return what `mark_done` was given."""
        return read_object(self.marker(round_, stage))

    def round_summary(self, round_: int, stages: Iterable[str]) -> dict[str, Any]:
        """Return the summaries of some stages of a round as one."""
        whole: dict[str, Any] = {"round": round_}
        for stage in stages:
            whole |= self.summary(round_, stage)
        return whole

    def state(self, round_: int) -> Path:
        """Return the file with what a round's training goes on from."""
        return self.stage(round_, "train") / "last.ckpt"

    def keep_results_only(self) -> None:
        """Remove training states and the models of earlier rounds of a finished run.

        These are most of its bytes. Metrics, scores, selections, the last round's model and
        ``final/`` stay; no run can branch off any more.
        """
        *earlier, last = self.rounds()
        for round_ in earlier:
            self.state(round_).unlink(missing_ok=True)
            self.model(round_).unlink(missing_ok=True)
        self.state(last).unlink(missing_ok=True)

    def model(self, round_: int) -> Path:
        """Return the file with the weights that a round scores with."""
        return self.stage(round_, "train") / "model.safetensors"

    def rounds(self) -> list[int]:
        """Return the rounds that have begun, ascending."""
        return sorted(int(p.name) for p in (self.root / "rounds").glob("[0-9][0-9][0-9]"))


class Lease:
    """The right to write into a run directory: host, process, job and a heartbeat in a file.

    `flock` and bare process numbers do not work across hosts; a heartbeat does. A lease whose
    process is gone (same host, same process numbers) or whose heartbeat stopped is taken over, with
    a word about it.

    Attributes:
        was_left: Whether it was taken over: a process ended here without time to clear up.

    Raises:
        UserError: On entering, when another live process holds the run directory.
    """

    def __init__(
        self,
        root: Path,
        say: Callable[[str], None] = print,
        on_loss: Callable[[], None] = lambda: None,
    ) -> None:
        self.path = Path(root) / "lease.json"
        self._say, self._on_loss = say, on_loss
        self.was_left = False
        self._token = uuid.uuid4().hex
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        while True:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                create_exclusively(self.path, json.dumps(self._record()).encode())
                break
            except FileExistsError:
                self._take_over_or_refuse()
            except FileNotFoundError:
                continue  # who was faster has swept what we had begun
        # Who is killed while it takes a lease leaves none, but debris of one.
        for debris in self.path.parent.glob(f".{self.path.name}.*.tmp"):
            debris.unlink(missing_ok=True)
            self.was_left = True
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._holder().get("token") == self._token:
            _remove(self.path)

    def _record(self) -> dict[str, Any]:
        return {
            "token": self._token,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "pid_namespace": _pid_namespace(),
            "started": _started(os.getpid()),
            "job": os.environ.get("SLURM_JOB_ID", ""),
            "restart": os.environ.get("SLURM_RESTART_COUNT", "0"),
            "heartbeat": time.time(),
        }

    def _holder(self) -> dict[str, Any]:
        try:
            return _as_record(self.path.read_bytes())
        except OSError:
            return {}

    def _take_over_or_refuse(self) -> None:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return  # given back just now
        holder = _as_record(content)
        # An empty lease is one that another process is just writing, or that a crash cut off.
        heartbeat = holder.get("heartbeat") or _modified(self.path)
        age = time.time() - heartbeat
        mine = self._record()
        # Slurm requeues a job when its node has died: the same job again, on any host.
        requeued = bool(mine["job"]) and holder.get("job") == mine["job"]
        requeued = requeued and holder.get("restart") != mine["restart"]
        dead = requeued or _is_gone(holder)
        who = f"process {holder.get('pid')} on {holder.get('host')}"
        if not holder:
            who = f"a process that has not said who it is ({self.path})"
        if holder.get("job"):
            who += f" (Slurm job {holder['job']})"
        if not dead and age < LEASE_STALE_S:
            raise UserError(
                f"{self.path.parent} is in use by {who} (heartbeat {age:.0f} s ago). Wait for it, "
                f"stop it, or give this run another name. If it is gone, its lease can be taken "
                f"{LEASE_STALE_S:.0f} s after the last heartbeat."
            )
        if self._took(content):
            why = "its process is gone" if dead else f"its last heartbeat is {age:.0f} s old"
            if requeued:
                why = "Slurm has put the same job back into the queue"
            self._say(f"taking over the lease of {who}: {why}; going on from what it saved")

    def _took(self, judged: bytes) -> bool:
        """Take the lease away, if it is still the one that was judged."""
        aside = _aside(self.path)
        try:
            self.path.rename(aside)
        except FileNotFoundError:
            return False
        if aside.read_bytes() == judged:
            self.was_left = True
            aside.unlink(missing_ok=True)
            return True
        # Another process has taken it meanwhile, or its holder has come back to life.
        link(aside, self.path)
        aside.unlink(missing_ok=True)
        return False

    def _beat(self) -> None:
        while not self._stop.wait(LEASE_HEARTBEAT_S):
            # Never over another's lease: a process that slept (SIGSTOP, a suspended machine) may
            # have been taken over meanwhile. A missed beat (full disk, a hiccup of the file
            # system) is made up by the next one.
            with contextlib.suppress(OSError):
                # No answer is not another holder: a lease that cannot be read is written again.
                if self._holder().get("token", self._token) != self._token:
                    self._say("another process has taken over this run: stopping")
                    self._on_loss()
                    return
                write_json(self.path, self._record())


def lease_holder(root: Path) -> dict[str, Any] | None:
    """Return who holds a run directory, for those who only look.

    Returns:
        None if nobody does; else ``host``, ``pid``, ``heartbeat_age_s``, and ``alive``: False where
        its process is known to be gone (same host) or its heartbeat has stopped.
    """
    path = Path(root) / "lease.json"
    try:
        record = read_json(path)
        host, pid, gone = str(record["host"]), int(record["pid"]), _is_gone(record)
        age = max(0.0, time.time() - float(record["heartbeat"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):  # just being written, or cut off by a crash
        return {"host": "?", "pid": 0, "heartbeat_age_s": None, "alive": True}
    alive = age < LEASE_STALE_S and not gone
    return {"host": host, "pid": pid, "heartbeat_age_s": age, "alive": alive}


def iterate_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Read a JSON-lines file; a last line cut off by a crash is left out."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                return
            if not isinstance(record, dict):
                return
            yield record


def write_jsonl(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Write JSON lines, atomically."""
    write_text(path, "".join(json.dumps(record) + "\n" for record in records))


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _as_record(content: bytes) -> dict[str, Any]:
    try:
        record = json.loads(content)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _is_gone(holder: dict[str, Any]) -> bool:
    """Whether a lease's process is known not to be there: it was of this host, and is not now."""
    pid, here = holder.get("pid"), _pid_namespace()
    # In another container process numbers mean other processes, though the host's name is ours.
    if (holder.get("host"), holder.get("pid_namespace", here)) != (socket.gethostname(), here):
        return False
    if not isinstance(pid, int) or pid <= 0:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    # The number may have gone to another process since.
    started = _started(pid)
    return None not in (started, holder.get("started")) and started != holder["started"]


def _started(pid: int) -> int | None:
    """When a process began, in clock ticks since the machine's start; None where nobody says."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2]
        return int(after_name.split()[19])  # proc(5): field 22
    except (OSError, IndexError, ValueError):
        return None


def _pid_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")


def _remove(path: Path) -> None:
    """Remove a file, if it can be: a read-only file system says no even if there is none."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


_PROBE_BYTES = 1 << 16


def _fault_of_the_place(error: BaseException, aside: Path, path: Path) -> OSError | None:
    """Return what the file system has against a write, with the file's name; None if nothing.

    torch makes a RuntimeError of a full disk (2.15), numpy an OSError without a number (2.4); what
    Python's own files raise has a number and no name.
    """
    if isinstance(error, OSError) and error.errno is not None:
        if error.filename not in (None, str(aside)):
            return None
        return OSError(error.errno, error.strerror, str(path))
    if not isinstance(error, OSError | RuntimeError):
        return None
    # A library that wrote until nothing was taken any more has left no room for this either.
    try:
        with aside.open("ab") as file:
            file.write(b"\0" * _PROBE_BYTES)
            file.flush()
            os.fsync(file.fileno())
    except OSError as found:
        return OSError(found.errno, found.strerror, str(path))
    return None


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
