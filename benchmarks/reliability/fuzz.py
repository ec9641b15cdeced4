"""Feed the readers hostile files for as long as you like.

    python benchmarks/reliability/fuzz.py --minutes 10

Each target runs in a process of its own, whose address space may grow by `--memory-mb` and no more,
and in which no file may take longer than half a minute. What was found stays in the folder `--out`:
the file, and what came of it. A process that dies (a crash in a library) is a finding as well.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.reliability.mutate import drawn, edited
from benchmarks.reliability.targets import BY_NAME, TARGETS, Target, outcome


class _TooLong(BaseException):
    pass


def _ring(*_: object) -> None:
    raise _TooLong


def _bytes_mapped() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def try_one(
    target: Target, seconds: float, seed: int, memory_mb: int, found: Path
) -> dict[str, Any]:
    """Try files on one target, in this process; return how many ended how."""
    good = target.good()
    warm = found / f"warm{target.suffix}"
    for data in good:  # what is loaded or built once is no file's doing
        warm.write_bytes(data)
        assert outcome(target, warm) == "read", target.name
    limit = _bytes_mapped() + (memory_mb << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, _ring)
    rng = np.random.default_rng(seed)
    ended: Counter[str] = Counter()
    seen: set[str] = set()
    path = found / f"now{target.suffix}"
    until, longest = time.monotonic() + seconds, 0.0
    while (begun := time.monotonic()) < until:
        data = edited(good[int(rng.integers(len(good)))], drawn(rng))
        path.unlink(missing_ok=True)
        path.write_bytes(target.mended(data) if rng.random() < 0.5 else data)
        try:
            signal.alarm(30)
            ended[outcome(target, path)] += 1
        except (Exception, _TooLong) as error:
            ended["FOUND"] += 1
            where = traceback.extract_tb(error.__traceback__)
            inside = [f"{Path(f.filename).name}:{f.lineno}" for f in where]
            what = f"{type(error).__name__} {' '.join(inside[-4:])}"
            if what not in seen and len(seen) < 40:
                seen.add(what)
                number = len(seen)
                (found / f"{number:03d}{target.suffix}").write_bytes(path.read_bytes())
                said = "".join(traceback.format_exception(error))
                (found / f"{number:03d}.why").write_text(said, errors="backslashreplace")
        finally:
            signal.alarm(0)
        longest = max(longest, time.monotonic() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return {"ended": ended, "seen": sorted(seen), "longest_s": longest, "rss_mb": peak}


def main() -> None:
    """Try all targets, or some, one after another."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=2, help="for all targets together")
    parser.add_argument("--target", action="append", choices=list(BY_NAME), help="some of them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory-mb", type=int, default=512)
    parser.add_argument("--out", type=Path, default=None, help="where what is found goes")
    asked = parser.parse_args()
    names = asked.target or [target.name for target in TARGETS]
    out = asked.out or Path(tempfile.mkdtemp(prefix="selffilter-fuzz-"))
    seconds, failed = 60 * asked.minutes / len(names), False
    print(f"{'target':<24} {'files':>9} {'read':>8} {'refused':>9} {'found':>6}  longest    peak")
    for name in names:
        found = out / name.replace(" ", "-").replace("'", "").replace(",", "")
        found.mkdir(parents=True, exist_ok=True)
        told_in = found / "told.json"
        told_in.unlink(missing_ok=True)
        child = os.fork()  # without importing torch again
        if not child:
            try:
                told = try_one(BY_NAME[name], seconds, asked.seed, asked.memory_mb, found)
                told_in.write_text(json.dumps(told))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code:
            failed = True
            print(f"{name:<24} DIED ({code}): {found}/now*", flush=True)
            continue
        told = json.loads(told_in.read_text())
        ended = Counter(told["ended"])
        tried, bad = sum(ended.values()), ended.pop("FOUND", 0)
        read = ended.pop("read", 0)
        print(
            f"{name:<24} {tried:>9,} {read:>8,} {sum(ended.values()):>9,} {bad:>6,}"
            f"  {told['longest_s']:.2f} s  {told['rss_mb']:,} MB",
            flush=True,
        )
        for what in told["seen"]:
            print(f"    {what}")
        failed |= bool(bad)
    if failed:
        print(f"what was found: {out}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
