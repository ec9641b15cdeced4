"""What `selffilter score` is asked for, and what of it cannot be."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import torch

from selffilter.config import nearest
from selffilter.errors import UserError
from selffilter.evaluating import ACCELERATORS, PRECISIONS
from selffilter.scoring.permutation import PUBLISHED_BATCH_SIZE, PUBLISHED_DRAWS

PERMUTATION = "neg_clip_loss_permutation"
"""Name of the published form of negCLIPLoss, which needs the embeddings of the whole pool."""


@dataclass(frozen=True)
class ScoreSettings:
    """What to score with, and how.

    Attributes:
        signals: Names; see `find_signal`, and `PERMUTATION`.
        columns: Columns that came with embeddings, to be taken over.
        model: See `open_checkpoint`; None: the embeddings are ready.
        reference: Likewise, or a folder of embeddings; for signals that need one.
        target: A set in CLIP_benchmark's layout, or embeddings; for signals that need one.
        temperature: τ; None: the model's, or as with `embeddings_source.temperature_of`.
        bank_size: Rows that others are compared with.
        seed: Of the draw of the bank, and of the permutations.
        permutation_batch: Rows a batch, of `PERMUTATION`.
        draws: How many permutations.
        datacomp_model: Which embeddings of DataComp's metadata: b32 or l14.
        batch_size: Rows encoded together.
        workers: Processes that decode.
        precision: One of `PRECISIONS`.
        caption_key: Where captions stand in a pool; None: as its index says, or ``txt``.
        index_dir: Where the index of a pool lies; None: where a run would have it.
        allow_pipe: Run the commands of ``pipe:`` shards.
        keep_embeddings: Write the embeddings too.
        part: i of n, counted from 1.
    """

    signals: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    model: str | None = None
    reference: str | None = None
    target: str | None = None
    temperature: float | None = None
    bank_size: int = 32_768
    seed: int = 0
    permutation_batch: int = PUBLISHED_BATCH_SIZE
    draws: int = PUBLISHED_DRAWS
    datacomp_model: str = "l14"
    batch_size: int = 256
    workers: int = 4
    precision: str = "32-true"
    caption_key: str | None = None
    index_dir: Path | None = None
    allow_pipe: bool = False
    keep_embeddings: bool = False
    part: tuple[int, int] = (1, 1)

    @property
    def autocast(self) -> torch.dtype | None:
        """The dtype of mixed precision."""
        return PRECISIONS[self.precision]

    def check(self, accelerator: str) -> None:
        """Check what can be checked without looking at anything.

        Raises:
            UserError: Naming the option.
        """
        names = [*self.signals, *self.columns]
        if not names:
            raise UserError("say what to score by: --signal NAME, or --column NAME of metadata.")
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise UserError(f"{twice[0]} is asked for twice.")
        for option, value, least in (
            ("--bank-size", self.bank_size, 1),
            ("--permutation-batch", self.permutation_batch, 2),
            ("--draws", self.draws, 1),
            ("--batch-size", self.batch_size, 1),
            ("--workers", self.workers, 0),
        ):
            if value < least:
                raise UserError(f"{option} {value} is below {least}.")
        if self.temperature is not None and not 0 < self.temperature < math.inf:
            raise UserError(f"--temperature {self.temperature:g} is not above 0.")
        for option, choice, choices in (
            ("--accelerator", accelerator, ACCELERATORS),
            ("--precision", self.precision, tuple(PRECISIONS)),
            ("--datacomp-model", self.datacomp_model, ("b32", "l14")),
        ):
            if choice not in choices:
                raise UserError(
                    f"{option} {choice!r} is not one of {', '.join(choices)}."
                    f"{nearest(choice, choices)}"
                )


def parse_part(text: str) -> tuple[int, int]:
    """Read i/n, i from 1 to n.

    Raises:
        UserError: If it is none.
    """
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise UserError(f"--part {text} is no part: write i/n, with i from 1 to n, as in 3/8.")
    return int(found[1]), int(found[2])
