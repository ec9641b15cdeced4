"""What a finished round has to show: read from its files, for trackers that want it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from selffilter.errors import StoreGone
from selffilter.plain_text import clipped
from selffilter.planning import RoundSteps, scores_from, stages_of
from selffilter.pool import uids
from selffilter.pool.contact_sheet import read_rows
from selffilter.selecting.on_disk import read_scores, read_shares, removed_rows
from selffilter.selecting.scratch import Scratch
from selffilter.stages.context import RunContext
from selffilter.stages.examples import Ranks, Selected, drawn_base, find_examples
from selffilter.store import RunStore, read_json
from selffilter.tables import HISTOGRAMS, counts_file, shard_file
from selffilter.tracking.shown import Bins, Example, Output, SampleTable

THUMBNAIL_PIXELS = 192
"""Longer side of a picture in a table: a few kilobytes as JPEG."""


@dataclass(frozen=True)
class FinishedRound:
    """A round as trackers see it; see `RoundShown`.

    Attributes:
        context: The run.
        steps: The round.
        summary: Of all of its stages.
    """

    context: RunContext
    steps: RoundSteps
    summary: dict[str, Any]

    @property
    def round(self) -> int:
        """Its number."""
        return self.steps.round

    @property
    def samples_seen(self) -> int:
        """At its end."""
        return self.steps.end * self.context.config.train.global_batch_size

    # --- histograms ---------------------------------------------------------------------------

    def histograms(self) -> list[Bins]:
        """Return what selecting has counted."""
        path = self._folder("select") / HISTOGRAMS
        if not path.exists():
            return []
        return [
            Bins(part, shape["low"], shape["high"], shape["counts"])
            for part, shape in read_json(path)["parts"].items()
            if sum(shape["counts"])
        ]

    # --- samples ------------------------------------------------------------------------------

    def tables(self, count: int) -> list[SampleTable]:
        """Return tables of samples; none if the pool cannot be read just now."""
        if "select" not in stages_of(self.context.config, self.round):
            return []
        c = self.context.config
        base_N, now = self._selected(self.round)
        drawn_n = drawn_base(base_N, c.seed)
        ranks = Ranks(now.scores_N, drawn_n)
        before, ranks_before = None, None
        if self.round:
            _, before = self._selected(self.round - 1)
            ranks_before = Ranks(before.scores_N, drawn_n)
        found = find_examples(
            now,
            before,
            base_N,
            ranks,
            ranks_before,
            drawn_n,
            count=count,
            seed=c.seed,
            round_=self.round,
        )
        every = np.unique(np.concatenate([np.empty(0, np.int64), *found.values()]))
        try:
            examples = self._examples(every, now, ranks, ranks_before)
        except (StoreGone, OSError) as error:
            self.context.screen.say(f"round {self.round}  no tables of samples: {error}")
            return []
        return [
            SampleTable(name, [examples[row] for row in rows_k.tolist()])
            for name, rows_k in found.items()
        ]

    def _examples(
        self, rows_k: NDArray[np.int64], now: Selected, ranks: Ranks, ranks_before: Ranks | None
    ) -> dict[int, Example]:
        pool = self.context.config.pool
        bounds = {"max_pixels": pool.max_image_pixels, "max_bytes": pool.max_image_bytes}
        hexed = uids.to_hex(self.context.pool.uids_of(rows_k))
        place_k = ranks.places(rows_k)
        before_k = np.full(len(rows_k), np.nan)
        if ranks_before is not None:
            before_k = ranks_before.places(rows_k)
        found = {}
        for k, row in enumerate(rows_k.tolist()):
            # One at a time: of what is decoded only a small picture stays.
            (sample,) = read_rows(self.context.pool, rows_k[k : k + 1], **bounds)
            share = "confident" if now.confident_N[row] else "diverse" * bool(now.diverse_N[row])
            found[row] = Example(
                row=row,
                uid=hexed[k],
                caption=clipped(sample.text),
                image=None if sample.image is None else _small(sample.image),
                score=float(now.scores_N[row]),
                place=float(place_k[k]),
                place_before=float(before_k[k]),
                share=share,
            )
        return found

    def _selected(self, round_: int) -> tuple[NDArray[np.bool_], Selected]:
        """Return which rows could be selected, (N,) bool, and what was."""
        c, store, pool = self.context.config, self.context.store, self.context.pool
        signal, scratch = c.score.signal, self._scratch
        scores = read_scores(store.stage(round_, "score"), pool, [signal], scratch)
        folder = store.stage(round_, "select")
        shares, base_N = read_shares(folder, pool, scratch), scores.in_base
        base_N[removed_rows(folder)] = False
        return base_N, Selected(scores.columns[signal], shares["confident"], shares["diverse"])

    @cached_property
    def _scratch(self) -> Scratch:
        return Scratch(self.context.config.select.memory_gb * 1e9, self._folder("select"))

    # --- files --------------------------------------------------------------------------------

    def outputs(self) -> list[Output]:
        """Return the model that scored, the scores and the selection, with what each is made of."""
        c, store, r = self.context.config, self.context.store, self.round
        shards = range(self.context.pool.shards)
        about = {"round": r, "samples_seen": self.samples_seen, "run": c.name}
        before = [f"selection:{version(r - 1)}"] if r else []
        scored_by = [f"model:{version(r)}"] if scores_from(c, r) == "model" else []
        model = Output(
            "model",
            version(r),
            store.stage(r, "train"),
            large=_there([store.model(r)]),
            made_from=before or ["config:run"],
            about=about | self._of("samples_seen", "loss", "model_fingerprint"),
        )
        scores = Output(
            "scores",
            version(r),
            self._folder("score"),
            small=_there([store.marker(r, "score")]),
            large=_there(shard_file(self._folder("score"), shard) for shard in shards),
            made_from=scored_by or (["config:run"] if not r else [f"scores:{version(r - 1)}"]),
            about=about | self._of("signal", "scores_from"),
        )
        outputs = [model, scores]
        folder = self._folder("select")
        if "select" in stages_of(c, r):
            about_files = sorted((folder / "about").glob("*"))
            whole = [folder / "subset.npy", *(shard_file(folder, shard) for shard in shards)]
            selection = Output(
                "selection",
                version(r),
                folder,
                small=_there([counts_file(folder), *about_files]),
                large=_there(whole),
                made_from=[f"scores:{version(r)}", *before],
                about=about | self._of("selected", "confident", "diverse", "threshold"),
            )
            outputs.append(selection)
        return outputs

    def _of(self, *keys: str) -> dict[str, Any]:
        return {key: self.summary[key] for key in keys if key in self.summary}

    def _folder(self, stage: str) -> Path:
        return self.context.store.stage(self.round, stage)


def exported(store: RunStore, last: int, selected: int) -> Output:
    """Return what a finished run has exported.

    Args:
        store: The run.
        last: The round whose model it is.
        selected: The round whose selection it is; −1: none.
    """
    made_from = [f"model:{version(last)}"]
    if selected >= 0:
        made_from.append(f"selection:{version(selected)}")
    subset = store.final / "subset.npy"
    files = [path for path in sorted(store.final.iterdir()) if path.is_file() and path != subset]
    return Output(
        "final", "final", store.final, small=files, large=_there([subset]), made_from=made_from
    )


def version(round_: int) -> str:
    """Return what a round's outputs are called by."""
    return f"round-{round_:03d}"


def _there(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if path.exists()]


def _small(image: Image.Image) -> Image.Image:
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    return small
