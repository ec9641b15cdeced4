"""DataComp's pool metadata: ``{stem}.parquet`` beside ``{stem}.npz``, row-aligned.

The npz holds ``b32_img``, ``b32_txt`` (n×512) and ``l14_img``, ``l14_txt`` (n×768); the Parquet the
``uid``, and the cosines as ``clip_b32_similarity_score`` and ``clip_l14_similarity_score``
(`Embeddings.column` reads them). They are row-aligned with each other and not with the tars: what
joins them to a pool is the uid.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal, get_args

from selffilter.errors import UserError
from selffilter.scoring.embeddings.arrays import describe_npz
from selffilter.scoring.embeddings.embeddings import Embeddings, Part, hex_uids, table_rows

Model = Literal["b32", "l14"]
"""OpenAI's CLIP ViT-B/32 or ViT-L/14."""


def open_datacomp(folder: Path, model: Model) -> Embeddings:
    """Open a metadata folder.

    Args:
        folder: Where the files lie, side by side.
        model: Which of the two models' embeddings.

    Raises:
        UserError: If a file is missing or is not what it should be.
    """
    if model not in get_args(Model):
        raise UserError(f"{folder}: DataComp has embeddings of b32 and of l14, not of {model!r}.")
    tables = sorted(folder.glob("*.parquet"))
    lonely = {path.stem for path in folder.glob("*.npz")} - {path.stem for path in tables}
    if lonely:
        stem = min(lonely)
        raise UserError(f"{folder / stem}.parquet is missing beside {stem}.npz.")
    parts = [
        Part(
            table,
            {
                "image": describe_npz(table.with_suffix(".npz"), f"{model}_img"),
                "text": describe_npz(table.with_suffix(".npz"), f"{model}_txt"),
            },
            table_rows(table),
            partial(hex_uids, table),
        )
        for table in tables
    ]
    return Embeddings(folder, parts, {"format": "datacomp", "model": model})
