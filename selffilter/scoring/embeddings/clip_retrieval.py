"""Folders that ``clip-retrieval inference`` leaves (embedding-reader and autofaiss read them too).

``img_emb/img_emb_{i}.npy``, ``text_emb/text_emb_{i}.npy`` (may be absent), and row-aligned
``metadata/metadata_{i}.parquet``.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from selffilter.errors import UserError
from selffilter.pool import uids
from selffilter.scoring.embeddings.arrays import StoredArray, describe_npy
from selffilter.scoring.embeddings.embeddings import Embeddings, Part, Side, table_rows

_NUMBERED = re.compile(r"metadata_(\d+)\.parquet")
_ARRAYS: tuple[tuple[Side, str], ...] = (("image", "img_emb"), ("text", "text_emb"))


def open_clip_retrieval(folder: Path) -> Embeddings:
    """Open a folder with ``img_emb``, ``metadata`` and perhaps ``text_emb``.

    A row's uid is that in its metadata's column ``uid`` if it has 32 hex digits; else a hash of the
    metadata file's name and the row's place in it, which joins with nothing but itself.

    Raises:
        UserError: If a file is missing or is not what it should be.
    """
    there = [(side, name) for side, name in _ARRAYS if (folder / name).is_dir()]
    tables = (_NUMBERED.fullmatch(path.name) for path in folder.glob("metadata/*"))
    found = {int(match[1]): match[1] for match in tables if match}
    for _, name in there:
        for path in (folder / name).glob(f"{name}_*.npy"):
            number = path.stem.removeprefix(f"{name}_")
            if not number.isdecimal() or int(number) not in found:
                raise UserError(f"{folder}/metadata/metadata_{number}.parquet is missing.")
    parts = []
    for _, number in sorted(found.items()):
        table = folder / "metadata" / f"metadata_{number}.parquet"
        arrays: dict[Side, StoredArray] = {
            side: describe_npy(folder / name / f"{name}_{number}.npy") for side, name in there
        }
        parts.append(Part(table, arrays, table_rows(table), partial(_uids, table)))
    return Embeddings(folder, parts, {"format": "clip-retrieval"})


def _uids(table: Path) -> NDArray[np.uint64]:
    with pq.ParquetFile(table) as file:
        if "uid" not in file.schema_arrow.names:
            stated: list[object] = [None] * file.metadata.num_rows
        else:
            stated = file.read(columns=["uid"])["uid"].to_pylist()
    raw = b"".join(
        uids.uid_bytes(text, "clip-retrieval", table.name, str(place))
        for place, text in enumerate(stated)
    )
    return np.frombuffer(raw, dtype=">u8").astype(np.uint64).reshape(-1, 2)
