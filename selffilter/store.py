"""The run directory: where every file lies, atomic writes, stage markers, the lease.

A file is written aside, synced and renamed; a stage is done when its marker is there, and the
marker comes last. So a run that is killed at any instant is either before or after each step,
never in the middle. Only rank 0 reads this state and decides (network file systems cache
attributes: two nodes may see a new marker at different times); see `selffilter.team`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
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
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with aside.open("wb") as file:
            write(file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    if durable:
        _sync_directory(path.parent)


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
    aside = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        write(aside)
        link(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=_plain)
    write_atomically(path, lambda file: file.write(text.encode() + b"\n"))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, atomically."""
    write_atomically(path, lambda file: file.write(text.encode()))


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


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
        summary: dict[str, Any] = read_json(self.marker(round_, stage))
        return summary

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
    process is gone (same host) or whose heartbeat stopped is taken over, with a word about it.

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
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                with self.path.open("x", encoding="utf-8") as file:
                    json.dump(self._record(), file)
                break
            except FileExistsError:
                self._take_over_or_refuse()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._holder().get("token") == self._token:
            self.path.unlink(missing_ok=True)

    def _record(self) -> dict[str, Any]:
        return {
            "token": self._token,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "job": os.environ.get("SLURM_JOB_ID", ""),
            "restart": os.environ.get("SLURM_RESTART_COUNT", "0"),
            "heartbeat": time.time(),
        }

    def _holder(self) -> dict[str, Any]:
        try:
            holder = read_json(self.path)
        except (OSError, ValueError):
            return {}
        return holder if isinstance(holder, dict) else {}

    def _take_over_or_refuse(self) -> None:
        holder = self._holder()
        # An empty lease is one that another process is just writing, or that a crash cut off.
        heartbeat = holder.get("heartbeat") or _modified(self.path)
        age = time.time() - heartbeat
        here = holder.get("host") == socket.gethostname()
        mine = self._record()
        # Slurm requeues a job when its node has died: the same job again, on any host.
        requeued = bool(mine["job"]) and holder.get("job") == mine["job"]
        requeued = requeued and holder.get("restart") != mine["restart"]
        dead = requeued or (here and not _is_alive(int(holder.get("pid", 0))))
        if not dead and age < LEASE_STALE_S:
            raise UserError(
                f"{self.path.parent} is in use by process {holder.get('pid')} on "
                f"{holder.get('host')} (heartbeat {age:.0f} s ago). Wait for it, stop it, or give "
                "this run another name."
            )
        why = "its process is gone" if dead else f"its last heartbeat is {age:.0f} s old"
        self._say(f"taking over the lease of {holder.get('host')}:{holder.get('pid')}: {why}")
        self.path.unlink(missing_ok=True)
        self.was_left = True

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


def iterate_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Read a JSON-lines file; a last line cut off by a crash is left out."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:
                return


def write_jsonl(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Write JSON lines, atomically."""
    write_text(path, "".join(json.dumps(record) + "\n" for record in records))


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _is_alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
