"""Our own embeddings: a folder with two arrays and a table a shard, written shard by shard.

```
embeddings.json       # version, width, shards, and made_by: what they come from
SSSSS.image.npy       # (n, D) float16, unit norm; NaN where the row was unusable
SSSSS.text.npy        # likewise
SSSSS.parquet         # row int64, uid 16 bytes; written last: the shard is complete
```

Float16 keeps a cosine to about 5e-4; what reads them makes them float32 and unit-norm again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from selffilter.errors import UserError
from selffilter.pool import uids
from selffilter.scoring.embeddings.arrays import StoredArray, describe_npy
from selffilter.scoring.embeddings.embeddings import Embeddings, Part, Side, table_rows
from selffilter.store import read_json, write_atomically, write_json
from selffilter.tables import read_table, shard_file, write_table

NAME = "embeddings.json"
VERSION = 1
_SIDES: tuple[Side, ...] = ("image", "text")
_ROWS_AT_ONCE = 8192


class EmbeddingWriter:
    """Writes the embeddings of a pool's shards; several processes may, each its own shards.

    Args:
        folder: Where they go.
        width: D.
        shards: How many there will be.
        made_by: What they come from (model, weights, transform, …), as JSON has it.

    Raises:
        UserError: If the folder has embeddings of another origin: they are never mixed.
    """

    def __init__(self, folder: Path, width: int, shards: int, made_by: dict[str, Any]) -> None:
        self._folder = folder
        self._width = width
        wanted = {"version": VERSION, "width": width, "shards": shards, "made_by": made_by}
        path = folder / NAME
        if not path.exists():
            write_json(path, wanted)
        elif (there := read_json(path)) != wanted:
            differing = [key for key in wanted if there.get(key) != wanted[key]]
            raise UserError(
                f"{folder} has embeddings of another origin ({', '.join(differing)} differ; see "
                f"{path}). Give these a folder of their own."
            )

    def has(self, shard: int) -> bool:
        """Whether a shard is there."""
        return shard_file(self._folder, shard).exists()

    def write(
        self,
        shard: int,
        rows_n: NDArray[np.int64],
        uids_n2: NDArray[np.uint64],
        pairs: Iterable[tuple[Tensor, Tensor]],
    ) -> None:
        """Write a shard.

        Args:
            shard: Its number.
            rows_n: The rows' numbers in the pool index.
            uids_n2: Their ids.
            pairs: Image and text features of some of the rows at a time, in order, unit-norm.

        Raises:
            ValueError: If the features are not (n, D).
        """
        columns: tuple[list[NDArray[np.float16]], list[NDArray[np.float16]]] = ([], [])
        for features in pairs:
            for column, features_bD in zip(columns, features, strict=True):
                column.append(features_bD.half().cpu().numpy())
        for side, column in zip(_SIDES, columns, strict=True):
            array = np.concatenate([np.empty((0, self._width), np.float16), *column])
            if len(array) != len(rows_n):
                raise ValueError(f"{len(array)} {side} embeddings of {len(rows_n)} rows")
            write_atomically(_array_file(self._folder, shard, side), partial(_save, array))
        table = pa.table({"row": pa.array(rows_n), "uid": uids.to_arrow(uids_n2)})
        write_table(shard_file(self._folder, shard), table)


def open_folder(folder: Path) -> Embeddings:
    """Open what an `EmbeddingWriter` wrote.

    Raises:
        UserError: If it is not there, or not complete.
    """
    try:
        described = read_json(folder / NAME)
        version, shards = described["version"], int(described["shards"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / NAME} does not say what lies beside it: {error}.") from error
    if version != VERSION:
        raise UserError(f"{folder / NAME} says version {version}; this reads version {VERSION}.")
    missing = [shard for shard in range(shards) if not shard_file(folder, shard).exists()]
    if missing:
        raise UserError(
            f"{folder} has embeddings of {shards - len(missing)} of {shards} shards (the first one "
            f"missing is {missing[0]:05d}): let what writes them finish."
        )
    parts = []
    for shard in range(shards):
        table = shard_file(folder, shard)
        arrays: dict[Side, StoredArray] = {
            side: describe_npy(_array_file(folder, shard, side)) for side in _SIDES
        }
        parts.append(Part(table, arrays, table_rows(table), partial(_uids, table)))
    return Embeddings(folder, parts, {"format": "selffilter", "made_by": described.get("made_by")})


def convert(
    embeddings: Embeddings, folder: Path, progress: Callable[[int], None] = lambda _: None
) -> Embeddings:
    """Copy embeddings of another format into ours, part by part (what is there stays).

    Worth it where they are compressed: those cannot be mapped into memory.

    Args:
        embeddings: With images and texts.
        folder: Where they go.
        progress: Called with the number of rows just written.
    """
    parts = embeddings.parts
    writer = EmbeddingWriter(folder, embeddings.width, len(parts), embeddings.description)
    for place, part in enumerate(parts):
        begin, end = (int(bound) for bound in embeddings.first_row[place : place + 2])
        if not writer.has(place):
            spans = [(b, min(b + _ROWS_AT_ONCE, end)) for b in range(begin, end, _ROWS_AT_ONCE)]
            pairs = ((embeddings.read("image", *s), embeddings.read("text", *s)) for s in spans)
            writer.write(place, np.arange(begin, end), part.uids(), pairs)
        progress(end - begin)
    return open_folder(folder)


def embeddings_bytes(rows: int, shards: int, width: int) -> int:
    """Return about how many bytes the embeddings of a pool take: 4·D + 24 a row, and headers."""
    return rows * (2 * 2 * width + 24) + shards * (2 * 128 + 1500)


def _array_file(folder: Path, shard: int, side: Side) -> Path:
    return folder / f"{shard:05d}.{side}.npy"


def _save(array: NDArray[np.float16], file: Any) -> None:
    np.save(file, array, allow_pickle=False)


def _uids(table: Path) -> NDArray[np.uint64]:
    return uids.from_arrow(read_table(table, ["uid"])["uid"])
