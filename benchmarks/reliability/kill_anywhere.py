"""Kill a run with SIGKILL again and again, start it again, and compare what it leaves in the end.

    python benchmarks/reliability/kill_anywhere.py --kills 300 --out OUT

The small loop runs once uninterrupted, and every write it makes is noted. Then it is begun anew,
killed, started again with the same command, killed, …, until it ends; what it has left must be what
the uninterrupted run left: every file, byte for byte; checkpoints tensor for tensor; no debris, no
lease. And so on until there were as many kills as asked for. Half of the kills come at random
instants from outside, half at instants of writing (see `fault_points`): those that were hit least
so far first.

Every start is a process of its own that runs the command line; it is forked from one that has
imported torch, so that a start costs a tenth of a second and not ten. One start in four reads with
a data loader process; half of the kills are of the process, half of its whole group.

Leaves ``OUT/kills.jsonl`` (one line a kill), ``OUT/report.json`` and prints a table. Exit code 1 if
a run differed or a start ended in another way than killed or finished.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.reliability.fault_points import INSTANTS, Event, Now, Watch
from benchmarks.reliability.what_is_left import differences, kind_of, what_is_left

_HEARTBEAT_S = 0.3
"""Of the lease; shorter than the product's, so that kills meet it."""
_WINDOW = 0.08
"""How far ahead of the last one, as a share of the run's events, the next instant may lie."""
_LONGEST = 0.2
"""How long after its start a process is killed at the latest, as a share of a whole run's time."""
_HANGS_S = 120.0


@dataclass
class Tally:
    """What has happened.

    Attributes:
        kills: One record a kill.
        runs: Records of the runs that came to their end: kills, seconds, what differs.
        failures: Ends that should not be, in words.
    """

    kills: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class Harness:
    """Starts the small loop below a folder, kills it, compares.

    Args:
        out: The folder.
        seed: Of what is killed when.
    """

    def __init__(self, out: Path, seed: int) -> None:
        self._out = out
        self._random = random.Random(seed)
        self._life = out / "life"
        self._config = out / "home" / "small.yaml"
        self._hits: Counter[tuple[str, str, str]] = Counter()
        self.tally = Tally()

    def prepare(self) -> None:
        """Lay the pool out, and run once without a kill."""
        if self._out.exists():
            shutil.rmtree(self._out)
        self._out.mkdir(parents=True)
        self._in_child(self._lay_out)
        self._begin_life()
        began = time.perf_counter()
        record = self._out / "events.txt"
        code, _ = self._start(None, None, record)
        if code:
            raise SystemExit(f"the uninterrupted run ended with {code}:\n{self._said()}")
        self.seconds = time.perf_counter() - began
        self.events = list(dict.fromkeys(map(Event.of_line, record.read_text().splitlines())))
        self._place = {event: place for place, event in enumerate(self.events)}
        self.expected = what_is_left(self._life)

    def run(self, kills: int) -> None:
        """Kill so often; the run that is under way then is let finish and compared."""
        while len(self.tally.kills) < kills:
            self._one_run(kills)

    def _one_run(self, kills: int) -> None:
        self._begin_life()
        began, before, place = time.perf_counter(), len(self.tally.kills), 0
        while True:
            target, delay_s = None, None
            if len(self.tally.kills) < kills:
                if self._random.random() < 0.5:
                    target = self._next_target(place)
                else:
                    delay_s = self._random.uniform(0, _LONGEST * self.seconds)
            code, event = self._start(target, delay_s, None)
            if code == 0:
                break
            if code != -signal.SIGKILL:
                self._fail(f"a start ended with {code} (after {before} kills)")
                break
            place = max(place, self._place.get(event, place))
            self._note(event, target)
        found = differences(self.expected, what_is_left(self._life))
        about = {
            "kills": len(self.tally.kills) - before,
            "seconds": round(time.perf_counter() - began, 1),
            "differs": found,
        }
        self.tally.runs.append(about)
        if found:
            self._fail("; ".join(found[:10]))
        print(f"{len(self.tally.kills):5} kills, run {len(self.tally.runs)}: {about}", flush=True)

    def _next_target(self, place: int) -> Event | None:
        """Return one of the coming instants of writing whose kind was hit least."""
        last = place + max(1, int(_WINDOW * len(self.events)))
        coming = self.events[place + 1 : last + 1]
        if not coming:
            return None
        least = min(self._hits[_kind(event)] for event in coming)
        return self._random.choice([e for e in coming if self._hits[_kind(e)] == least])

    def _note(self, event: Event, target: Event | None) -> None:
        self._hits[_kind(event)] += 1
        record = {
            "how": "at an instant of writing" if event == target else "at a random instant",
            "stage": event.stage,
            "file": event.file,
            "instant": event.instant,
        }
        self.tally.kills.append(record)
        with (self._out / "kills.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")

    def _fail(self, words: str) -> None:
        self.tally.failures.append(words)
        kept = self._out / f"failure-{len(self.tally.failures)}"
        shutil.copytree(self._life, kept)
        (kept / "said.txt").write_text(self._said())
        print(f"FAILURE, kept in {kept}: {words}\n{self._said()[-2000:]}", flush=True)

    # --- processes --------------------------------------------------------------------------------

    def _begin_life(self) -> None:
        shutil.rmtree(self._life, ignore_errors=True)
        self._life.mkdir()

    def _said(self) -> str:
        return (self._out / "said.txt").read_text(errors="replace")

    def _lay_out(self) -> None:
        from benchmarks.reliability.small_loop import lay_out

        lay_out(self._out / "home")

    def _start(
        self, target: Event | None, delay_s: float | None, record: Path | None
    ) -> tuple[int, Event]:
        """Start the run; kill it at an instant or after a time. Returns exit code, last event."""
        now = Now()
        # An index may have several writers: what is half written is swept when it is an hour old.
        for debris in (self._life / "index").rglob(".*.tmp"):
            os.utime(debris, (0, 0))
        # Not before the config is written, which holds what a run was begun with.
        begun = (self._life / "runs" / "small" / "config.yaml").exists()
        loads = int(self._random.random() < 0.25 and begun)
        pid = os.fork()
        if not pid:
            self._child(lambda: self._work(now, target, record, loads))
        deadline = time.monotonic() + _HANGS_S
        if delay_s is not None:
            time.sleep(delay_s)
            whole_group = self._random.random() < 0.5
            # It may have just ended, or not have made its group yet.
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if whole_group else os.kill)(pid, signal.SIGKILL)
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                break
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return 999, now.read()
            time.sleep(0.005)
        return os.waitstatus_to_exitcode(status), now.read()

    def _work(self, now: Now, target: Event | None, record: Path | None, workers: int) -> None:
        from selffilter import cli, store

        os.chdir(self._life)
        said = os.open(self._out / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        store.LEASE_HEARTBEAT_S = _HEARTBEAT_S
        Watch(now, target, record).install()
        words = [f"hardware.workers={workers}"] if record is None else []
        sys.argv = ["selffilter", "run", str(self._config), *words]
        cli.main()

    def _in_child(self, work: Any) -> None:
        pid = os.fork()
        if not pid:
            self._child(work)
        _, status = os.waitpid(pid, 0)
        if status:
            raise SystemExit("laying out the pool failed: see above")

    def _child(self, work: Any) -> None:
        """Do something and never come back."""
        code = 1
        try:
            os.setsid()
            work()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def _kind(event: Event) -> tuple[str, str, str]:
    return event.stage, kind_of(event.file), event.instant


def table(kills: list[dict[str, Any]]) -> str:
    """Return how many kills hit which file of which stage at which instant, as Markdown."""
    counts: Counter[tuple[str, str, str]] = Counter(
        (k["stage"], kind_of(k["file"]) if k["file"] else "(no write yet)", k["instant"])
        for k in kills
    )
    rows = list(dict.fromkeys((stage, file) for stage, file, _ in counts))
    order = ["beginning", "opening", "train", "score", "select", "finish"]
    rows.sort(key=lambda row: (order.index(row[0]), row[1]))
    columns = [i for i in ("", *INSTANTS) if any(key[2] == i for key in counts)]
    lines = ["| stage | last touched file | " + " | ".join(c or "–" for c in columns) + " | all |"]
    lines.append("|---|---|" + "--:|" * (len(columns) + 1))
    for stage, file in rows:
        cells = [counts[stage, file, column] for column in columns]
        shown = " | ".join(str(c) if c else "" for c in cells)
        lines.append(f"| {stage} | `{file}` | {shown} | {sum(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Parse, kill, say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="a folder; emptied first")
    asked = parser.parse_args()
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import torch

    torch.set_num_threads(1)  # before any fork: threads do not survive one
    import selffilter.cli
    import selffilter.clip.model
    import selffilter.run
    import selffilter.stages.groupings  # noqa: F401

    harness = Harness(asked.out.resolve(), asked.seed)
    harness.prepare()
    began = time.perf_counter()
    harness.run(asked.kills)
    tally = harness.tally
    kills = tally.kills
    hit = {_kind(Event(k["stage"], k["file"], k["instant"])) for k in kills}
    instants = {_kind(event) for event in harness.events}
    report = {
        "kills": len(kills),
        "at_random_instants": sum(k["how"] == "at a random instant" for k in kills),
        "at_instants_of_writing": sum(k["how"] == "at an instant of writing" for k in kills),
        "runs": len(tally.runs),
        "runs_that_differ": sum(bool(run["differs"]) for run in tally.runs),
        "files_compared": len(harness.expected),
        "kinds_of_instants": len(instants),
        "kinds_hit": len(instants & hit),
        "uninterrupted_s": round(harness.seconds, 1),
        "minutes": round((time.perf_counter() - began) / 60, 1),
        "failures": tally.failures,
    }
    (asked.out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    print(table(kills))
    print(json.dumps(report, indent=2))
    sys.exit(bool(tally.failures))


if __name__ == "__main__":
    main()
