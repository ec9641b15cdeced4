"""The values that a shard's rows have at a field: from the jsons, or from the Parquet file beside.

Kept as Parquet below the index, ``INDEX/fields/FIELD/{fingerprint}.parquet``: a file that is there
is whole, and holds for every version that has the shard.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from selffilter.errors import StoreGone
from selffilter.patience import LASTING
from selffilter.pool.captions import MAX_MEMBER_BYTES
from selffilter.pool.field import Field, parse_object
from selffilter.pool.index import Pool
from selffilter.pool.materialise.layout import cut_by_bytes
from selffilter.pool.row_reader import REQUEST_BYTES, RowReader
from selffilter.pool.stores.find import Stores
from selffilter.pool.stores.pipe import PIPE
from selffilter.pool.stores.store import Span
from selffilter.tables import read_table, write_table

LAYOUT = 1
"""Goes up when these files, or the values in them, change: older ones are then left alone."""
VALUES = pa.schema([("value", pa.dictionary(pa.int32(), pa.string()))])
"""A row of the shard each; null: no value."""

_KEY = "key"
_READ_BYTES = 64 << 20
_SAMPLE_BYTES = 1024
_MAX_PARQUET_BYTES = 256 << 20
_MAX_UNPACKED_BYTES = 1 << 30
_MAX_PARQUET_ROWS = 1 << 24
_SAMPLED_ROWS = 64
_MOST_NAMES = 24
_ODD = re.compile(r"[^A-Za-z0-9]+")


class FieldShards:
    """Reads a field's values shard by shard, and keeps them.

    Args:
        pool: The pool.
        field: The field.
        should_go_on: Called now and then while a shard is read; may raise to stop.
        request_bytes: See `RowReader`.
    """

    def __init__(
        self,
        pool: Pool,
        field: Field,
        should_go_on: Callable[[], None] = lambda: None,
        request_bytes: int = REQUEST_BYTES,
    ) -> None:
        self._pool, self._field = pool, field
        self._should_go_on = should_go_on
        self._reader = RowReader(pool, request_bytes, limits={"json": MAX_MEMBER_BYTES})
        self._stores = Stores()
        name = _ODD.sub("-", field.text).strip("-")[:40]
        digest = hashlib.sha256(f"{LAYOUT}\x1f{field.text}".encode()).hexdigest()[:8]
        self._dir = pool.index_dir / "fields" / f"{name}-{digest}"

    def path(self, shard: int) -> Path:
        """Return the file of a shard's values."""
        return self._dir / f"{self._pool.fingerprint(shard)}.parquet"

    def make(self, shard: int) -> None:
        """Read a shard's values and write its file.

        Raises:
            StoreGone: If the shard cannot be read.
        """
        found = self._from_parquet(shard)
        values, without = self._from_jsons(shard) if found is None else found
        column = pa.array(values, pa.string()) if isinstance(values, list) else values
        about = {"field": self._field.text, "without": json.dumps(without)}
        table = pa.Table.from_arrays(
            [column.dictionary_encode()], schema=VALUES.with_metadata(about)
        )
        write_table(self.path(shard), table)

    def read(self, shard: int) -> tuple[pa.DictionaryArray, Counter[str]]:
        """Return the values of a shard that is made.

        Returns:
            A row of the shard each, null where there is no value; and how many rows have none, by
            reason: ``no_json``, ``json_too_large``, ``json_unreadable`` or ``no_value``.
        """
        table = read_table(self.path(shard))
        column = table["value"].unify_dictionaries().combine_chunks()
        return column, Counter(json.loads(table.schema.metadata[b"without"]))

    def names(self, shard: int) -> list[str]:
        """Return some names that a shard's samples do have, for whoever asks for another one."""
        names: Counter[str] = Counter()
        rows = self._pool.shard_rows(shard)[:_SAMPLED_ROWS]
        for (data,) in self._reader.read(rows, ("json",)):
            names.update((parse_object(data) or {}).keys())
        parquet = self._open_parquet(shard)
        if parquet is not None:
            names.update(parquet.schema_arrow.names)
        return [name for name, _ in names.most_common(_MOST_NAMES)]

    def _from_jsons(self, shard: int) -> tuple[list[str | None], Counter[str]]:
        rows = self._pool.shard_rows(shard)
        offset_n, size_n = self._pool.places(shard)["json"]
        too_large_n = size_n > MAX_MEMBER_BYTES
        bytes_n = _SAMPLE_BYTES + np.where((offset_n < 0) | too_large_n, 0, size_n)
        values: list[str | None] = []
        without: Counter[str] = Counter()
        for part in cut_by_bytes(bytes_n, _READ_BYTES):
            self._should_go_on()
            read = self._reader.read(rows[part], ("json",))
            for (data,), too_large in zip(read, too_large_n[part].tolist(), strict=True):
                value = None
                if data is None:
                    without["json_too_large" if too_large else "no_json"] += 1
                elif (about := parse_object(data)) is None:
                    without["json_unreadable"] += 1
                elif (value := self._field.value(about)) is None:
                    without["no_value"] += 1
                values.append(value)
        return values, without

    def _from_parquet(self, shard: int) -> tuple[pa.Array, Counter[str]] | None:
        """Take the values from img2dataset's metadata; None if those have not every row of them."""
        parquet = self._open_parquet(shard)
        if parquet is None:
            return None
        names = parquet.schema_arrow.names
        whole = ".".join(self._field.path)
        column = whole if whole in names else self._field.path[0]
        if _KEY not in names or column not in names:
            return None
        self._should_go_on()
        try:
            table = parquet.read(columns=[_KEY, column])
            keys = table[_KEY].cast(pa.string()).combine_chunks()
            place_n = pc.index_in(self._pool.shard_table(shard)["key"], value_set=keys)
            if place_n.null_count:
                return None
            values = self._rendered(table[column], column).take(place_n.combine_chunks())
        except (pa.ArrowException, OSError, ValueError, KeyError):  # broken, or a name twice
            return None
        return values, Counter({"no_value": values.null_count} if values.null_count else {})

    def _rendered(self, column: pa.ChunkedArray, name: str) -> pa.Array:
        def rendered(values: list[Any]) -> pa.Array:
            return pa.array([self._field.value({name: value}) for value in values], pa.string())

        if pa.types.is_nested(column.type):
            return rendered(column.to_pylist())
        # Texts that many rows share are looked at once.
        encoded = column.combine_chunks().dictionary_encode()
        return rendered(encoded.dictionary.to_pylist()).take(encoded.indices)

    def _open_parquet(self, shard: int) -> pq.ParquetFile | None:
        """Open the Parquet file beside a shard; None if there is none that can be used."""
        location = self._pool.location(shard)
        if location.startswith(PIPE) or not location.endswith(".tar"):
            return None
        beside = f"{location.removesuffix('.tar')}.parquet"
        try:
            store = self._stores.of(beside)
            size = store.stat(beside).size
            if size is None or size > _MAX_PARQUET_BYTES:
                return None
            (data,) = store.read([Span(beside, 0, size)])
        except LASTING:
            return None
        except OSError as error:
            raise StoreGone(str(error)) from error
        try:
            parquet = pq.ParquetFile(pa.BufferReader(data))
        except (pa.ArrowException, OSError, ValueError):
            return None
        # A few bytes may stand for very many.
        about = parquet.metadata
        unpacked = sum(about.row_group(g).total_byte_size for g in range(about.num_row_groups))
        fits = unpacked <= _MAX_UNPACKED_BYTES and about.num_rows <= _MAX_PARQUET_ROWS
        return parquet if fits else None
