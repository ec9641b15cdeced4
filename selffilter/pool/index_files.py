"""The files of a pool index, uncompressed Arrow that is mapped into memory.

```
INDEX/shards/{fingerprint}.arrow    key, uid, offset and size of image, caption and json
INDEX/versions/{version}.arrow      the shards in order: where they lie, first row, rows, problem
INDEX/versions/{version}.defects.arrow   rows that cannot be used, with the reason
INDEX/versions/latest               name of the newest version
INDEX/fields/{field}/{fingerprint}.parquet   values that rows were grouped by; see `field_shards`
```
"""

from __future__ import annotations

import json
from collections import Counter
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from selffilter.errors import UserError
from selffilter.pool import uids
from selffilter.pool.tar_scan import ShardScan
from selffilter.store import write_atomically

LAYOUT = 2
"""Goes up when these files change: what another layout wrote is then scanned again."""
MEMBERS = ("image", "caption", "json")
Places = dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Member → offset and size in bytes for each sample of a shard, (n,) int64; offset -1: absent."""

_MOST_EXTENSIONS = 64
_PLACE = pa.int64()
ROW_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("uid", uids.UID_TYPE),
        ("image_offset", _PLACE),
        ("image_size", _PLACE),
        ("caption_offset", _PLACE),
        ("caption_size", _PLACE),
        ("json_offset", _PLACE),
        ("json_size", _PLACE),
    ]
)
SHARD_SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("relative", pa.string()),
        ("location", pa.string()),
        ("fingerprint", pa.string()),
        ("bytes", pa.int64()),
        ("first_row", pa.int64()),
        ("rows", pa.int64()),
        ("problem", pa.string()),
    ],
)
DEFECT_SCHEMA = pa.schema([("row", pa.int64()), ("failure", pa.uint8())])


def rows_file(index_dir: Path, fingerprint: str) -> Path:
    """Return the file of a shard's rows."""
    return index_dir / "shards" / f"{fingerprint}.arrow"


def version_file(index_dir: Path, version: str) -> Path:
    """Return the file of a version's shards."""
    return index_dir / "versions" / f"{version}.arrow"


def defects_file(index_dir: Path, version: str) -> Path:
    """Return the file of a version's rows that cannot be used."""
    return index_dir / "versions" / f"{version}.defects.arrow"


def latest_version(index_dir: Path) -> str | None:
    """Return the name of the newest version; None if there is none yet."""
    path = index_dir / "versions" / "latest"
    return path.read_text(encoding="utf-8").strip() if path.exists() else None


def set_latest_version(index_dir: Path, version: str) -> None:
    """Make a version, all of whose files are there, the newest."""
    path = index_dir / "versions" / "latest"
    write_atomically(path, lambda file: file.write(version.encode()))


def write_scan(scan: ShardScan, path: Path) -> None:
    """Write what a scan found; problem, bytes and extensions go into the file's metadata."""
    columns = [pa.array(scan.keys, pa.string()), pa.array(scan.uids, uids.UID_TYPE)]
    for places in (scan.image, scan.caption, scan.json):
        both = np.array(places, dtype=np.int64).reshape(-1, 2)
        columns += [pa.array(both[:, 0]), pa.array(both[:, 1])]
    about = {
        "problem": scan.problem,
        "bytes": str(scan.bytes),
        # A hostile tar may have one for each sample.
        "extensions": json.dumps(dict(scan.extensions.most_common(_MOST_EXTENSIONS))),
    }
    write_arrow(pa.Table.from_arrays(columns, schema=ROW_SCHEMA.with_metadata(about)), path)


def extensions_of(table: pa.Table) -> Counter[str]:
    """Return how many samples of a shard have a member of each (frequent) extension."""
    return Counter(json.loads(metadata(table, "extensions") or "{}"))


def metadata(table: pa.Table, key: str) -> str:
    """Return what a table's metadata says under a key, "" if nothing."""
    return (table.schema.metadata or {}).get(key.encode(), b"").decode("utf-8")


def write_arrow(table: pa.Table, path: Path) -> None:
    """Write a table atomically, in one piece, so that it can be mapped."""

    def write(file: object) -> None:
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table.combine_chunks())

    write_atomically(path, write)


def read_arrow(path: Path) -> pa.Table:
    """Map a table into memory.

    Raises:
        UserError: If it is not there, or no such file.
    """
    try:
        with pa.memory_map(str(path)) as source:
            return pa.ipc.open_file(source).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"the pool's index cannot be read: {path}: {error}") from error


# A window of a sparse selection goes over thousands of shards; what is mapped costs little.
@lru_cache(maxsize=4096)
def open_shard(path: Path) -> pa.Table:
    """Map a shard's rows into memory, and keep them there."""
    return read_arrow(path)


@lru_cache(maxsize=4096)
def places_of(path: Path) -> Places:
    """Return where the members of a shard's samples stand in the tar."""
    table = open_shard(path)
    return {
        member: (table[f"{member}_offset"].to_numpy(), table[f"{member}_size"].to_numpy())
        for member in MEMBERS
    }
