"""What the placeholders of configs/controls.yaml stand for, for one pool and seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from selffilter.config import Config, nearest
from selffilter.errors import UserError
from selffilter.evaluation.truth import Truth
from selffilter.experiments.controls import LOOP
from selffilter.planning import TRAINING_TO_FORWARD, compute_spent, selected_share
from selffilter.pool.base import Base
from selffilter.pool.index import Pool
from selffilter.pool.subset import read_subset, write_subset
from selffilter.pool.uids import to_hex
from selffilter.randomness import below_fraction, hash_rows
from selffilter.selecting.choice import Candidates, choose
from selffilter.selecting.on_disk import read_scores
from selffilter.store import RunStore
from selffilter.tables import write_table

HALVES = ("cross_fit_a", "cross_fit_b")
NEEDS: dict[str, tuple[str, ...]] = {
    "loop_selected_share": (LOOP,),
    "loop_subset": (LOOP,),
    "mix_subset": (LOOP,),
    "cross_subset": HALVES,
}
"""Placeholders that are known only when other methods' runs are finished."""


class PoolFacts:
    """Values of the placeholders; what is a file is written when it is asked for.

    Args:
        pool: The indexed pool.
        loop: The config of the loop on this pool with this seed.
        runs: Method → its run on this pool with this seed.
        folder: Where files go.
    """

    def __init__(
        self, pool: Pool, loop: Config, runs: Callable[[str], RunStore], folder: Path
    ) -> None:
        self._pool, self._loop, self._runs, self._folder = pool, loop, runs, folder
        self._base = Base.of(pool, loop)
        self._values: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        """Return the value of a placeholder.

        Raises:
            UserError: If there is no such placeholder, or nothing to know it from.
        """
        if name not in _FACTS:
            raise UserError(
                f"there is no placeholder {{{name}}}; there are {', '.join(_FACTS)}."
                + nearest(name, _FACTS)
            )
        if name not in self._values:
            self._values[name] = _FACTS[name](self)
        return self._values[name]

    def estimates(self) -> Estimates:
        """Return the same values before any run: what is not known yet is estimated."""
        return Estimates(self, self._loop)

    @property
    def base_rows(self) -> int:
        """Rows that the loop may train on."""
        return self._base.size

    @property
    def pool_rows(self) -> int:
        """Rows indexed."""
        return self._pool.rows

    # --- from the loop's config ---------------------------------------------------------------

    def _first_keep_fraction(self) -> float:
        return self._loop.select.keep(0)

    def _first_diverse_fraction(self) -> float:
        return self._loop.select.diverse(0)

    def _half_samples(self) -> int:
        return self._loop.rounds.samples_seen // 2

    # --- from the planted truth ---------------------------------------------------------------

    def _clean(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        if not self._loop.evaluate.truth:
            raise UserError("which rows are clean is not known: plant noise, or give the truth.")
        truth = Truth(Path(self._loop.evaluate.truth), self._pool)
        return truth.is_clean(rows)

    def _clean_share(self) -> float:
        return float(self._clean(self._rows_of_base()).mean())

    def _truth_scores(self) -> Path:
        rows = np.arange(self._pool.rows)
        return self._write_scores("truth_scores", rows, self._clean(rows))

    def _clean_subset(self) -> Path:
        rows = np.arange(self._pool.rows)
        return self._write_subset("clean", self._pool.uids_of(rows[self._clean(rows)]))

    # --- from the pool alone ------------------------------------------------------------------

    def _random_scores(self) -> Path:
        rows = np.arange(self._pool.rows)
        uniform = hash_rows(rows, self._loop.seed, "random subset") / 2.0**64
        return self._write_scores("random_scores", rows, uniform)

    def _half(self, which: str) -> Path:
        """Cut the pool in two by a hash of the uid: the same halves for every seed."""
        uids_N2 = self._pool.uids_of(np.arange(self._pool.rows))
        mixed = (uids_N2[:, 0] ^ uids_N2[:, 1]).view(np.int64)
        in_a = below_fraction(mixed, 0.5, "half of the pool")
        return self._write_subset(f"half_{which}", uids_N2[in_a if which == "a" else ~in_a])

    def _equal_compute_samples(self) -> int:
        """Train on for what the loop's passes cost: a sample costs three forwards to train on."""
        spent = compute_spent(self._loop, self._base.size, self._pool.rows, flops=1)
        extra = spent["scoring_flops"] / TRAINING_TO_FORWARD
        return round(spent["samples_seen"] + extra)

    def _equal_compute_loop_samples(self) -> int:
        spent = compute_spent(self._loop, self._base.size, self._pool.rows, flops=1)
        left = round(spent["samples_seen"] - spent["scoring_flops"] / TRAINING_TO_FORWARD)
        if left < self._loop.train.global_batch_size * self._loop.rounds.count:
            raise UserError(
                f"{spent['scoring_passes']} passes over {self._pool.rows:,} rows cost as much as "
                f"training on {spent['samples_seen']:,} samples: nothing is left to train a loop "
                "of equal compute. Take fewer rounds, or more samples."
            )
        return left

    # --- from finished runs -------------------------------------------------------------------

    def _loop_subset(self) -> Path:
        return self._runs(LOOP).final / "subset.npy"

    def _loop_selected_share(self) -> float:
        counts = self._runs(LOOP).summary(_last_selection(self._loop), "select")
        return float(counts["selected"] / counts["base"])

    def _mix_subset(self) -> Path:
        everything = self._pool.uids_of(self._rows_of_base())
        selected = read_subset(self._loop_subset())
        return self._write_subset("mix", np.concatenate([everything, selected]))

    def _cross_subset(self) -> Path:
        """Let each half's last model select in the other half; the union."""
        chosen = [
            self._select_in(self._half(other), self._runs(scorer))
            for scorer, other in zip(HALVES, ("b", "a"), strict=True)
        ]
        return self._write_subset("cross", self._pool.uids_of(np.concatenate(chosen)))

    def _select_in(self, half: Path, scorer: RunStore) -> NDArray[np.int64]:
        c, select = self._loop, self._loop.select
        args = (c.seed, select.probe_fraction, select.probe_max_rows, half)
        base = Base(self._pool, *args)
        last = c.rounds.count - 1
        scores = read_scores(scorer.stage(last, "score"), self._pool, [c.score.signal])
        usable_N = np.zeros(self._pool.rows, bool)
        for shard in range(self._pool.shards):
            usable_N[base.rows(shard)] = True
        usable_N &= scores.failure_N == 0
        candidates = Candidates(scores.columns[c.score.signal], usable_N, self._pool.uids_of)
        return choose(candidates, select, seed=c.seed, round_=last).rows

    # --- files --------------------------------------------------------------------------------

    def _rows_of_base(self) -> NDArray[np.int64]:
        return np.concatenate([self._base.rows(s) for s in range(self._pool.shards)])

    def _write_scores(self, name: str, rows: NDArray[np.int64], scores: NDArray[Any]) -> Path:
        path = self._folder / f"{name}.parquet"
        uid = pa.array(to_hex(self._pool.uids_of(rows)))
        write_table(path, pa.table({"uid": uid, "score": pa.array(scores.astype(np.float32))}))
        return path

    def _write_subset(self, name: str, uids_N2: NDArray[np.uint64]) -> Path:
        path = self._folder / f"{name}.npy"
        write_subset(path, uids_N2)
        return path


_FACTS: dict[str, Callable[[PoolFacts], Any]] = {
    "first_keep_fraction": PoolFacts._first_keep_fraction,
    "first_diverse_fraction": PoolFacts._first_diverse_fraction,
    "clean_share": PoolFacts._clean_share,
    "truth_scores": PoolFacts._truth_scores,
    "clean_subset": PoolFacts._clean_subset,
    "random_scores": PoolFacts._random_scores,
    "equal_compute_samples": PoolFacts._equal_compute_samples,
    "equal_compute_loop_samples": PoolFacts._equal_compute_loop_samples,
    "half_samples": PoolFacts._half_samples,
    "half_a": lambda facts: facts._half("a"),
    "half_b": lambda facts: facts._half("b"),
    "loop_selected_share": PoolFacts._loop_selected_share,
    "loop_subset": PoolFacts._loop_subset,
    "mix_subset": PoolFacts._mix_subset,
    "cross_subset": PoolFacts._cross_subset,
}
PLACEHOLDERS = tuple(_FACTS)
"""What configs/controls.yaml and variants may write in braces."""


class Estimates:
    """The facts as far as they are known before any run, and guesses for the others."""

    def __init__(self, facts: PoolFacts, loop: Config) -> None:
        self._facts, self._loop = facts, loop

    def __getitem__(self, name: str) -> Any:
        """Return the value, or what it will be about; None for a file that is not made yet."""
        if name == "loop_selected_share":
            return selected_share(self._loop, _last_selection(self._loop))
        return None if name in NEEDS else self._facts[name]


def _last_selection(config: Config) -> int:
    last = config.rounds.count - 1
    return last if config.rounds.final_selection else last - 1
