"""The pass over the pool: every readable row scored by the current model, one file a shard.

Scoring is local: each process holds a full replica and works through its own shards; there is no
collective in the loop, a batch never crosses a shard and the last one of a shard is padded. So a
shard's file is a function of (weights, shard, settings), whoever made it; the file is there = the
shard is scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from selffilter.clip.model import load_weights, save_weights, temperature
from selffilter.pool.base import Base
from selffilter.pool.failures import Failure
from selffilter.pool.reading import BatchRequest, PoolDataset, loader_over, padded_requests
from selffilter.scoring.captions import encode_captions, first_captions, score_rows
from selffilter.scoring.facts import Bank, Facts
from selffilter.scoring.signals import Signal
from selffilter.scoring.table import score_table
from selffilter.tables import shard_file, write_table


class PoolPass:
    """Scores shards with one model.

    Args:
        model: The model that scores, on its device, in eval mode.
        dataset: Rows → batches, with the transform of evaluation and every caption of a row.
        base: Which rows are readable, and which are the probe.
        signals: Column name → signal.
        batch_size: Rows encoded together; changes no score beyond rounding.
        workers: Data loader processes.
        autocast: The dtype of mixed precision, or None.
    """

    def __init__(
        self,
        model: nn.Module,
        dataset: PoolDataset,
        base: Base,
        signals: dict[str, Signal],
        *,
        batch_size: int,
        workers: int,
        autocast: torch.dtype | None = None,
    ) -> None:
        self._model = model
        self._dataset = dataset
        self._base = base
        self._signals = signals
        self._batch_size = batch_size
        self._workers = workers
        self._autocast = autocast
        self._device = next(model.parameters()).device

    @property
    def needs_bank(self) -> bool:
        """Whether `score_shards` must be given a bank."""
        return any(signal.needs_bank for signal in self._signals.values())

    def write_bank(self, path: Path, size: int) -> None:
        """Draw the bank from the base, encode it and write it, if it is not there.

        Rows that turn out to be unreadable are left out. Of a row's captions the first counts.

        Args:
            path: A safetensors file: image_features_MD, text_features_MD float32, row_M int64.
            size: Rows to draw; all of the base if it has fewer.
        """
        if path.exists():
            return
        rows = self._base.draw(size, "bank")
        parts = [
            [
                tensor[batch["valid"]].cpu()
                for tensor in (
                    image_BD,
                    first_captions(text_TD, batch["caption_of"], len(image_BD)),
                    batch["row"],
                )
            ]
            for image_BD, text_TD, batch in self._encoded(self._requests(rows))
        ]
        image_MD, text_MD, row_M = (torch.cat(column) for column in zip(*parts, strict=True))
        names = {"image_features_MD": image_MD, "text_features_MD": text_MD, "row_M": row_M}
        save_weights(path, names)

    def read_bank(self, path: Path) -> Bank:
        """Read a bank onto the device."""
        return Bank(**{name: value.to(self._device) for name, value in load_weights(path).items()})

    def score_shards(
        self,
        shards: list[int],
        folder: Path,
        round_: int,
        bank: Bank | None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Score the shards whose file is not there.

        Args:
            shards: Numbers of the shards.
            folder: Where the files go.
            round_: What `scored_round` says.
            bank: See `write_bank`.
            progress: Called with the number of rows just scored.
        """
        todo = [shard for shard in shards if not shard_file(folder, shard).exists()]
        facts = Facts(temperature(self._model), bank)
        readable = {shard: self._base.readable(shard) for shard in todo}
        batches = self._encoded(
            [request for shard in todo for request in self._requests(readable[shard])]
        )
        for shard in todo:
            columns = {name: [np.empty(0, np.float32)] for name in self._signals}
            failures = [np.empty(0, np.uint8)]
            for _ in self._requests(readable[shard]):
                image_BD, text_TD, batch = next(batches)
                real_B = batch["row"] >= 0
                dead_B = ~batch["valid"]
                for name, signal in self._signals.items():
                    score_B = score_rows(
                        signal, image_BD, text_TD, batch["row"], batch["caption_of"], facts
                    )
                    score_B = score_B.masked_fill(dead_B, torch.nan)[real_B]
                    columns[name].append(score_B.cpu().numpy())
                failures.append(batch["failure"][real_B].cpu().numpy())
                progress(int(real_B.sum()))
            table = score_table(
                self._base,
                shard,
                readable[shard],
                {name: np.concatenate(parts) for name, parts in columns.items()},
                np.concatenate(failures),
                round_,
            )
            _refuse_nonfinite(table, list(columns))
            write_table(shard_file(folder, shard), table)

    def _requests(self, rows: NDArray[np.int64]) -> list[BatchRequest]:
        return padded_requests(rows, self._batch_size)

    def _encoded(
        self, requests: list[BatchRequest]
    ) -> Iterator[tuple[Tensor, Tensor, dict[str, Tensor]]]:
        for batch in loader_over(self._dataset, requests, self._workers if requests else 0):
            batch = {k: v.to(self._device, non_blocking=True) for k, v in batch.items()}
            with torch.autocast(
                self._device.type, dtype=self._autocast, enabled=self._autocast is not None
            ):
                image_BD, text_TD = encode_captions(self._model, batch["image"], batch["text"])
            yield image_BD, text_TD, batch


def _refuse_nonfinite(table: pa.Table, signals: list[str]) -> None:
    usable_N = table["failure"].to_numpy() == Failure.none
    for name in signals:
        bad = int((~np.isfinite(table[name].to_numpy()[usable_N])).sum())
        if bad:
            raise RuntimeError(
                f"{bad} of {int(usable_N.sum())} rows got a {name} that is not finite: the model "
                "has diverged. Begin a new run with a lower train.learning_rate."
            )
