"""How far two runs over the same pool agree, round by round.

python benchmarks/compare_selections.py runs/one-process runs/two-processes
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from selffilter.selecting.drift import jaccard
from selffilter.store import RunStore


def column(folder: Path, name: str) -> np.ndarray:
    return pq.read_table([str(p) for p in sorted(folder.glob("*.parquet"))])[name].to_numpy()


def main(a: RunStore, b: RunStore) -> None:
    print("round  selection (Jaccard)  confident share (Jaccard)  largest score difference")
    for round_ in sorted(set(a.rounds()) & set(b.rounds())):
        signal = a.summary(round_, "score")["signal"]
        rows = [column(s.stage(round_, "select"), "row") for s in (a, b)]
        shares = [column(s.stage(round_, "select"), "share") for s in (a, b)]
        confident = [r[np.asarray(s) == "confident"] for r, s in zip(rows, shares, strict=True)]
        scores = [column(s.stage(round_, "score"), signal) for s in (a, b)]
        difference = np.nanmax(np.abs(scores[0] - scores[1]))
        print(f"{round_:5}{jaccard(*rows):21.4f}{jaccard(*confident):27.4f}{difference:26.2g}")


if __name__ == "__main__":
    main(RunStore(Path(sys.argv[1])), RunStore(Path(sys.argv[2])))
