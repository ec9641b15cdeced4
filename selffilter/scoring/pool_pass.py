"""The pass over the pool: every readable row scored by the current model, one file a shard.

Scoring is local: each process holds a full replica and works through its own shards; there is no
collective in the loop, a batch never crosses a shard and the last one of a shard is padded. So a
shard's file is a function of (weights, shard, settings), whoever made it; the file is there = the
shard is scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from selffilter.clip.model import encode_image, load_weights, save_weights, temperature
from selffilter.pool.base import Base
from selffilter.pool.failures import Failure
from selffilter.pool.reading import BatchRequest, PoolDataset, loader_over, padded_requests
from selffilter.pool.row_facts import facts_columns
from selffilter.scoring.afresh import Afresh
from selffilter.scoring.captions import encode_captions, first_captions, score_rows
from selffilter.scoring.embeddings.folder import EmbeddingWriter
from selffilter.scoring.moments import SecondMoments
from selffilter.scoring.null import joined, null_scores
from selffilter.scoring.signals.facts import Bank, Facts, Pairs, Target
from selffilter.scoring.signals.signal import Need, Signal
from selffilter.scoring.table import score_table
from selffilter.tables import shard_file, write_table


class PoolPass:
    """Scores shards with one model.

    Args:
        model: The model that scores, on its device, in eval mode.
        dataset: Rows → batches, with the transform of evaluation and every caption of a row. The
            facts that it gathers become columns of the tables.
        base: Which rows are readable, and which are the probe.
        signals: Column name → signal.
        batch_size: Rows encoded together; changes no score beyond rounding.
        workers: Data loader processes.
        autocast: The dtype of mixed precision, or None.
        target: The target set as the model encodes it, for signals that need one.
        reference: Another model that sees the same pixels and tokens, on the same device, in eval
            mode, for signals that need one.

    Raises:
        ValueError: If a signal needs a target or a reference that is not given.
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
        target: Target | None = None,
        reference: nn.Module | None = None,
    ) -> None:
        self._model = model
        self._dataset = dataset
        self._base = base
        self._signals = signals
        self._batch_size = batch_size
        self._workers = workers
        self._autocast = autocast
        self._device = next(model.parameters()).device
        self._needs: frozenset[Need] = frozenset().union(*(s.needs for s in signals.values()))
        if "target" in self._needs and target is None:
            raise ValueError("these signals need a target set")
        if "reference" in self._needs and reference is None:
            raise ValueError("these signals need a reference model")
        self._target = target
        self._reference = reference if "reference" in self._needs else None

    @property
    def needs_bank(self) -> bool:
        """Whether `score_shards` must be given a bank: for itself, or in place of the pool."""
        return bool(self._needs & {"bank", "moments"})

    def write_bank(self, path: Path, size: int) -> None:
        """Draw the bank from the base, encode it and write it, if it is not there.

        Rows that turn out to be unreadable are left out. Of a row's captions the first counts.

        Args:
            path: A safetensors file: image_features_MD, text_features_MD float32, row_M int64; with
                a reference model also reference_image_features_MD, reference_text_features_MD.
            size: Rows to draw; all of the base if it has fewer.
        """
        if path.exists():
            return
        rows = self._base.draw(size, "bank")
        parts = [
            {
                name: tensor[batch["valid"]].cpu()
                for name, tensor in _bank_of(pairs, batch["caption_of"]).items()
            }
            for pairs, batch in self._encoded(self._requests(rows), flip=False)
        ]
        save_weights(path, {name: torch.cat([part[name] for part in parts]) for name in parts[0]})

    def read_bank(self, path: Path) -> Bank:
        """Read a bank onto the device."""
        return read_bank(path, self._device)

    def write_null(self, path: Path, rows: NDArray[np.int64], bank: Bank | None) -> None:
        """Write what the signals say of wrong pairs, if it is not there: see `scoring.null`.

        Args:
            path: A Parquet, a float32 column a signal.
            rows: Whose images and captions are paired wrongly, in random order; of their captions
                the first counts.
            bank: See `score_shards`.
        """
        if path.exists():
            return
        parts = []
        for pairs, batch in self._encoded(self._requests(rows), flip="flipped" in self._needs):
            alone = _first_pairs(pairs, batch["caption_of"])
            usable = torch.nonzero(batch["valid"]).flatten()
            parts.append(alone.crossed(usable, usable))
        found = null_scores(joined(parts), self._signals, self._facts(bank), self._batch_size)
        write_table(path, pa.table({name: pa.array(scores) for name, scores in found.items()}))

    def score_shards(
        self,
        shards: list[int],
        folder: Path,
        round_: int,
        bank: Bank | None,
        progress: Callable[[int], None] = lambda _: None,
        *,
        afresh: Afresh | None = None,
        embeddings: EmbeddingWriter | None = None,
    ) -> None:
        """Score the shards whose file is not there.

        Args:
            shards: Numbers of the shards.
            folder: Where the files go.
            round_: What `scored_round` says.
            bank: See `write_bank`.
            progress: Called with the number of rows just scored.
            afresh: Which rows are looked at; None: every readable one.
            embeddings: Keeps the embeddings too: of each row's image and first caption, NaN where
                the row failed.
        """
        todo = [
            shard
            for shard in shards
            if not shard_file(folder, shard).exists()
            or (embeddings is not None and not embeddings.has(shard))
        ]
        facts = self._facts(bank)
        afresh = afresh or Afresh(self._base)
        looked_at = {shard: afresh.rows(shard) for shard in todo}
        batches = self._encoded(
            [request for shard in todo for request in self._requests(looked_at[shard])],
            flip="flipped" in self._needs,
        )
        for shard in todo:
            columns = {name: [np.empty(0, np.float32)] for name in self._signals}
            failures = [np.empty(0, np.uint8)]
            facts_of_rows = [np.empty((0, len(self._dataset.facts)), np.int64)]
            kept: list[tuple[Tensor, Tensor]] = []
            for _ in self._requests(looked_at[shard]):
                pairs, batch = next(batches)
                real_B = batch["row"] >= 0
                dead_B = ~batch["valid"]
                for name, signal in self._signals.items():
                    score_B = score_rows(signal, pairs, batch["caption_of"], facts)
                    score_B = score_B.masked_fill(dead_B, torch.nan)[real_B]
                    columns[name].append(score_B.cpu().numpy())
                if embeddings is not None:
                    kept.append(_to_keep(pairs, batch["caption_of"], dead_B, real_B))
                failures.append(batch["failure"][real_B].cpu().numpy())
                facts_of_rows.append(batch["facts"][real_B].cpu().numpy())
                progress(int(real_B.sum()))
            table = score_table(
                self._base,
                shard,
                looked_at[shard],
                {name: np.concatenate(parts) for name, parts in columns.items()},
                np.concatenate(failures),
                round_,
                afresh.earlier(shard),
                facts_columns(self._dataset.facts, np.concatenate(facts_of_rows)),
            )
            _refuse_nonfinite(table, list(columns), round_)
            if embeddings is not None:
                rows = looked_at[shard]
                embeddings.write(shard, rows, self._base.pool.uids_of(rows), kept)
            write_table(shard_file(folder, shard), table)

    def _facts(self, bank: Bank | None) -> Facts:
        moments = None
        if bank is not None and "moments" in self._needs:
            moments = SecondMoments.of(bank.image_features_MD, bank.text_features_MD)
        reference = None
        if self._reference is not None:
            reference = Facts(
                temperature(self._reference),
                bank.reference if bank else None,
                logit_bias(self._reference),
            )
        return Facts(
            temperature(self._model),
            bank,
            logit_bias(self._model),
            moments,
            self._target,
            reference,
        )

    def _requests(self, rows: NDArray[np.int64]) -> list[BatchRequest]:
        return padded_requests(rows, self._batch_size)

    def _encoded(
        self, requests: list[BatchRequest], *, flip: bool
    ) -> Iterator[tuple[Pairs, dict[str, Tensor]]]:
        for batch in loader_over(self._dataset, requests, self._workers if requests else 0):
            batch = {k: v.to(self._device, non_blocking=True) for k, v in batch.items()}
            image, text, row_B = batch["image"], batch["text"], batch["row"]
            with torch.autocast(
                self._device.type, dtype=self._autocast, enabled=self._autocast is not None
            ):
                features = encode_captions(self._model, image, text)
                flipped = encode_image(self._model, image.flip(-1)) if flip else None
                reference = None
                if self._reference is not None:
                    reference = Pairs(*encode_captions(self._reference, image, text), row_B)
            yield Pairs(*features, row_B, flipped, reference), batch


def read_bank(path: Path, device: torch.device | str) -> Bank:
    """Read what `PoolPass.write_bank` wrote."""
    read = {name: value.to(device) for name, value in load_weights(path).items()}
    bank = Bank(read["image_features_MD"], read["text_features_MD"], read["row_M"])
    if "reference_image_features_MD" not in read:
        return bank
    reference = Bank(
        read["reference_image_features_MD"], read["reference_text_features_MD"], bank.row_M
    )
    return replace(bank, reference=reference)


def logit_bias(model: nn.Module) -> float | None:
    """Return the logit bias of a model for the sigmoid loss; None for one of the softmax loss."""
    bias = getattr(model, "logit_bias", None)
    return None if bias is None else float(bias.detach())


def _bank_of(pairs: Pairs, caption_of_T: Tensor) -> dict[str, Tensor]:
    rows = len(pairs.row_B)
    named = {"row_M": pairs.row_B}
    for prefix, encoded in (("", pairs), ("reference_", pairs.reference)):
        if encoded is not None:
            text_BD = first_captions(encoded.text_features_BD, caption_of_T, rows)
            named[f"{prefix}image_features_MD"] = encoded.image_features_BD
            named[f"{prefix}text_features_MD"] = text_BD
    return named


def _first_pairs(pairs: Pairs, caption_of_T: Tensor) -> Pairs:
    """Return pairs with the first caption of each row."""
    text_BD = first_captions(pairs.text_features_BD, caption_of_T, len(pairs.row_B))
    reference = pairs.reference and _first_pairs(pairs.reference, caption_of_T)
    return replace(pairs, text_features_BD=text_BD, reference=reference)


def _to_keep(
    pairs: Pairs, caption_of_T: Tensor, dead_B: Tensor, real_B: Tensor
) -> tuple[Tensor, Tensor]:
    text_BD = first_captions(pairs.text_features_BD, caption_of_T, len(pairs.row_B))
    image_BD, text_BD = (
        features_BD.masked_fill(dead_B[:, None], torch.nan)[real_B].cpu()
        for features_BD in (pairs.image_features_BD, text_BD)
    )
    return image_BD, text_BD


def _refuse_nonfinite(table: pa.Table, signals: list[str], round_: int) -> None:
    usable_N = table["failure"].to_numpy() == Failure.none
    usable_N &= table["scored_round"].to_numpy() == round_
    for name in signals:
        bad = int((~np.isfinite(table[name].to_numpy()[usable_N])).sum())
        if bad:
            raise RuntimeError(
                f"{bad} of {int(usable_N.sum())} rows got a {name} that is not finite: the model "
                "has diverged. Begin a new run with a lower train.learning_rate."
            )
