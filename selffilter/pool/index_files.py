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
import re
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
_FARTHEST = 1 << 62
_VERSION = re.compile(r"[0-9a-f]{16}")
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
    """Return the name of the newest version; None if there is none yet.

    Raises:
        UserError: If what stands there is none.
    """
    path = index_dir / "versions" / "latest"
    if not path.exists():
        return None
    name = path.read_bytes()[:64].decode("utf-8", "replace").strip()
    if not _VERSION.fullmatch(name):
        raise damaged(path, f"{name!r} is no name of a version")
    return name


def set_latest_version(index_dir: Path, version: str) -> None:
    """Make a version, all of whose files are there, the newest."""
    path = index_dir / "versions" / "latest"
    write_atomically(path, lambda file: file.write(version.encode()))


def write_scan(scan: ShardScan, path: Path) -> None:
    """Write what a scan found; problem, bytes, digest, extensions go into the file's metadata."""
    columns = [pa.array(scan.keys, pa.string()), pa.array(scan.uids, uids.UID_TYPE)]
    for places in (scan.image, scan.caption, scan.json):
        both = np.array(places, dtype=np.int64).reshape(-1, 2)
        columns += [pa.array(both[:, 0]), pa.array(both[:, 1])]
    about = {
        "problem": scan.problem,
        "bytes": str(scan.bytes),
        "digest": scan.digest,
        # A hostile tar may have one for each sample.
        "extensions": json.dumps(dict(scan.extensions.most_common(_MOST_EXTENSIONS))),
    }
    write_arrow(pa.Table.from_arrays(columns, schema=ROW_SCHEMA.with_metadata(about)), path)


def extensions_of(table: pa.Table) -> Counter[str]:
    """Return how many samples of a shard have a member of each (frequent) extension."""
    return Counter(json.loads(metadata(table, "extensions") or "{}"))


def metadata(table: pa.Table, key: str) -> str:
    """Return what a table's metadata says under a key, "" if nothing."""
    return (table.schema.metadata or {}).get(key.encode(), b"").decode("utf-8", "replace")


def write_arrow(table: pa.Table, path: Path) -> None:
    """Write a table atomically, in one piece, so that it can be mapped."""

    def write(file: object) -> None:
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table.combine_chunks())

    write_atomically(path, write)


def read_arrow(path: Path, schema: pa.Schema = ROW_SCHEMA) -> pa.Table:
    """Map a table of the index into memory, and check that it is whole.

    Every text and every length in it is looked at (4 ns a row): a damaged one would otherwise end
    the process when it is first used.

    Args:
        path: The file.
        schema: What it has to be: `ROW_SCHEMA`, `SHARD_SCHEMA` or `DEFECT_SCHEMA`.

    Raises:
        UserError: If it is not there, damaged, or of another layout.
    """
    try:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
        lacking = [field for field in schema if _type_of(table, field.name) != field.type]
        if lacking:
            raise UserError(
                f"the pool's index cannot be read: {path} has no column {lacking[0].name} of "
                f"{lacking[0].type}: another version of selffilter wrote it. Index the pool again "
                "(selffilter pool index); runs that were begun with this index cannot go on."
            )
        table.validate(full=True)
        if nulls := [name for name in schema.names if table[name].null_count]:
            raise ValueError(f"{nulls[0]} is missing in some rows")
    except (OSError, ValueError, pa.ArrowException) as error:
        raise damaged(path, str(error)) from error
    return table


def _type_of(table: pa.Table, name: str) -> pa.DataType | None:
    places = table.schema.get_all_field_indices(name)
    return table.schema.field(places[0]).type if len(places) == 1 else None


def damaged(path: Path, why: str) -> UserError:
    """Return what to say of a file of the index that cannot be what was written."""
    said = " ".join(why.split())[:200]
    return UserError(
        f"the pool's index cannot be read: {path}: {said}. If it is damaged, remove this file and "
        "index the pool again (selffilter pool index): rows keep their numbers, and runs go on."
    )


# A window of a sparse selection goes over thousands of shards; what is mapped costs little.
@lru_cache(maxsize=4096)
def open_shard(path: Path) -> pa.Table:
    """Map a shard's rows into memory, and keep them there."""
    return read_arrow(path)


@lru_cache(maxsize=4096)
def places_of(path: Path) -> Places:
    """Return where the members of a shard's samples stand in the tar."""
    table = open_shard(path)
    places = {
        member: (table[f"{member}_offset"].to_numpy(), table[f"{member}_size"].to_numpy())
        for member in MEMBERS
    }
    for member, (offset_n, size_n) in places.items():
        if not ((offset_n >= -1) & (size_n >= -1) & (offset_n <= _FARTHEST - size_n)).all():
            raise damaged(path, f"places of {member} that no tar can have")
    return places
