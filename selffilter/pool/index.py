"""The pool index: one memory-mapped Arrow file a shard, and a table of shards a version.

```
INDEX/shards/{fingerprint}.arrow    key, uid, offset and size of image, caption and json
INDEX/versions/{version}.arrow      the shards in order: where they lie, first row, rows, problem
INDEX/versions/{version}.defects.arrow   rows that cannot be used, with the reason
```

A sample's row is its shard's `first_row` + its place in the shard. A version is immutable and named
by its content; when shards are added the old ones keep their rows. A run pins one version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from selffilter.errors import UserError
from selffilter.pool import uids
from selffilter.pool.failures import Failure, count_by_reason
from selffilter.pool.sources import ShardPath, list_shards
from selffilter.pool.tar_scan import scan_tar
from selffilter.progress import Bar, NoBar
from selffilter.store import write_atomically

MEMBERS = ("image", "caption", "json")
Places = dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Member → offset and size in bytes for each sample of a shard, (n,) int64; offset -1: absent."""

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
        ("path", pa.string()),
        ("fingerprint", pa.string()),
        ("bytes", pa.int64()),
        ("first_row", pa.int64()),
        ("rows", pa.int64()),
        ("problem", pa.string()),
    ],
)
DEFECT_SCHEMA = pa.schema([("row", pa.int64()), ("failure", pa.uint8())])


class Pool:
    """One version of an index, open for reading.

    Attributes:
        version: Name of the version.
        rows: Number of samples indexed, N.
        shards: Number of shards, S.
        first_row: (S+1,) int64; shard s holds the rows ``first_row[s]:first_row[s+1]``.
        caption_key: Where a sample's caption stands; see `tar_scan`.
    """

    def __init__(self, index_dir: Path, version: str, caption_key: str = "txt") -> None:
        self._dir = Path(index_dir)
        self.version = version
        self.caption_key = caption_key
        self._table = _read_arrow(self._dir / "versions" / f"{version}.arrow")
        self.shards = self._table.num_rows
        self._locations = self._table["path"].combine_chunks()
        self._fingerprints = self._table["fingerprint"].combine_chunks()
        counts = self._table["rows"].to_numpy()
        self.first_row: NDArray[np.int64] = np.concatenate([[0], np.cumsum(counts)]).astype(
            np.int64
        )
        self.rows = int(self.first_row[-1])
        defects = _read_arrow(self._dir / "versions" / f"{version}.defects.arrow")
        self._defect_rows: NDArray[np.int64] = defects["row"].to_numpy()
        self._defect_failures: NDArray[np.uint8] = defects["failure"].to_numpy()

    def location(self, shard: int) -> str:
        """Return where a shard's tar lies: a path or a URL."""
        return str(self._locations[shard].as_py())

    def shard_name(self, shard: int) -> str:
        """Return ``source/relative path`` of a shard, for messages."""
        return f"{self._table['source'][shard]}/{self._table['relative'][shard]}"

    def shard_rows(self, shard: int) -> NDArray[np.int64]:
        """Return the rows of a shard, ascending, (n,) int64."""
        return np.arange(self.first_row[shard], self.first_row[shard + 1], dtype=np.int64)

    def shard_of(self, rows_N: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the shard of each row, (N,) int64."""
        return np.searchsorted(self.first_row, rows_N, side="right") - 1

    def shard_table(self, shard: int) -> pa.Table:
        """Return the memory-mapped table of a shard, `ROW_SCHEMA`."""
        return _open_shard(self._dir / "shards" / f"{self.fingerprint(shard)}.arrow")

    def fingerprint(self, shard: int) -> str:
        """Return what tells a shard from all others, and from what it was before a change."""
        return str(self._fingerprints[shard].as_py())

    def places(self, shard: int) -> Places:
        """Return where the members of a shard's samples stand in the tar."""
        return _places(self._dir / "shards" / f"{self.fingerprint(shard)}.arrow")

    def shard_uids(self, shard: int) -> NDArray[np.uint64]:
        """Return the uids of a shard's rows, (n, 2) uint64."""
        return uids.from_arrow(self.shard_table(shard)["uid"])

    def uids_of(self, rows_N: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return the uids of any rows, (N, 2) uint64."""
        found = np.empty((len(rows_N), 2), dtype=np.uint64)
        shard_N = self.shard_of(rows_N)
        for shard in np.unique(shard_N):
            here = shard_N == shard
            found[here] = self.shard_uids(int(shard))[rows_N[here] - self.first_row[shard]]
        return found

    def defects(self, shard: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Return the rows of a shard that the index knows to be unusable, and why (`Failure`)."""
        low, high = np.searchsorted(self._defect_rows, self.first_row[shard : shard + 2])
        return self._defect_rows[low:high], self._defect_failures[low:high]

    def defect_counts(self) -> dict[str, int]:
        """Return how many rows are unusable, by reason."""
        return count_by_reason(self._defect_failures)

    def problems(self) -> list[str]:
        """Return one sentence for each shard whose tar is broken."""
        column = self._table["problem"].to_pylist()
        return [
            f"{self.shard_name(shard)}: {problem} ({self._table['rows'][shard]} samples before it)"
            for shard, problem in enumerate(column)
            if problem
        ]

    def check_shards(self) -> None:
        """Check that every tar is still the one that was indexed.

        Raises:
            UserError: Naming a shard that is gone or has changed.
        """
        for row in self._table.select(["source", "relative", "path", "fingerprint"]).to_pylist():
            shard = ShardPath(row["source"], row["relative"], Path(row["path"]))
            if not shard.path.exists():
                raise UserError(f"shard {shard.path} is gone; this run was begun with it.")
            if _fingerprint(shard, self.caption_key) != row["fingerprint"]:
                raise UserError(
                    f"shard {shard.path} has changed since it was indexed (size or time of "
                    "modification). Put the old one back, or begin a new run."
                )


def default_index_dir(specs: list[str], runs_dir: Path) -> Path:
    """Return where the index of these sources lies unless the user says otherwise."""
    name = hashlib.sha256("\x1f".join(str(Path(s)) for s in specs).encode()).hexdigest()[:12]
    return Path(runs_dir) / "_pools" / name


def build_index(
    specs: list[str],
    index_dir: Path,
    *,
    caption_key: str = "txt",
    workers: int = 1,
    bar: Callable[[int], AbstractContextManager[Bar]] = lambda _: nullcontext(NoBar()),
    should_go_on: Callable[[], None] = lambda: None,
) -> str:
    """Index the tars that are not yet indexed, and return the version that holds all of them.

    Restartable: a scanned shard is a finished file. Shards known from the latest version keep
    their rows; new ones are appended. If an old one changed or is gone, numbering starts afresh
    in a new version (older versions, and the runs that pin them, stay as they are).

    Args:
        specs: See `sources.list_shards`.
        index_dir: Where the index lies.
        caption_key: See `tar_scan.scan_tar`.
        workers: Processes to scan with.
        bar: Shows progress over so many shards.
        should_go_on: Called after each shard; may raise to stop, what is scanned stays.

    Raises:
        UserError: If there is nothing usable, or a tar cannot be opened.
    """
    found = {_fingerprint(shard, caption_key): shard for shard in list_shards(specs)}
    ordered = _keep_old_order(list(found), index_dir)
    todo = [f for f in ordered if not (index_dir / "shards" / f"{f}.arrow").exists()]
    jobs = [(found[f], index_dir / "shards" / f"{f}.arrow", caption_key) for f in todo]
    with bar(len(jobs)) if jobs else nullcontext(NoBar()) as shown:
        for _ in _map(jobs, workers):
            shown.advance(1)
            should_go_on()
    table = _shard_table([(f, found[f]) for f in ordered], index_dir)
    if sum(table["rows"].to_pylist()) == 0:
        first = next((p for p in table["problem"].to_pylist() if p), "the tars are empty")
        raise UserError(f"no samples in {', '.join(specs)}: {first}.")
    return _write_version(table, index_dir, caption_key)


def _map(jobs: list[tuple[ShardPath, Path, str]], workers: int) -> Iterator[None]:
    # Starting processes costs more than scanning a few shards.
    if workers <= 1 or len(jobs) < 32:
        yield from map(_scan_job, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as executor:
        yield from executor.map(_scan_job, jobs, chunksize=4)


def _scan_job(job: tuple[ShardPath, Path, str]) -> None:
    shard, out, caption_key = job
    try:
        scan = scan_tar(shard.path, shard.source, shard.relative, caption_key)
    except OSError as error:
        raise UserError(f"cannot read {shard.path}: {error.strerror or error}.") from error
    columns = [pa.array(scan.keys, pa.string()), pa.array(scan.uids, uids.UID_TYPE)]
    for places in (scan.image, scan.caption, scan.json):
        both = np.array(places, dtype=np.int64).reshape(-1, 2)
        columns += [pa.array(both[:, 0]), pa.array(both[:, 1])]
    schema = ROW_SCHEMA.with_metadata({"problem": scan.problem})
    _write_arrow(pa.Table.from_arrays(columns, schema=schema), out)


def _fingerprint(shard: ShardPath, caption_key: str) -> str:
    stat = shard.path.stat()
    parts = (shard.source, shard.relative, stat.st_size, stat.st_mtime_ns, caption_key)
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:24]


def _keep_old_order(found: list[str], index_dir: Path) -> list[str]:
    """Put shards of the latest version first, in its order, if all of them are still there."""
    latest = index_dir / "versions" / "latest"
    if not latest.exists():
        return found
    version = latest.read_text(encoding="utf-8").strip()
    old = _read_arrow(index_dir / "versions" / f"{version}.arrow")["fingerprint"].to_pylist()
    if not set(old) <= set(found):
        return found
    known = set(old)
    return old + [f for f in found if f not in known]


def _shard_table(shards: list[tuple[str, ShardPath]], index_dir: Path) -> pa.Table:
    opened = [_open_shard(index_dir / "shards" / f"{f}.arrow") for f, _ in shards]
    rows = [table.num_rows for table in opened]
    first = np.concatenate([[0], np.cumsum(rows)])[:-1].astype(np.int64)
    return pa.Table.from_arrays(
        [
            pa.array([s.source for _, s in shards]),
            pa.array([s.relative for _, s in shards]),
            pa.array([str(s.path.resolve()) for _, s in shards]),
            pa.array([f for f, _ in shards]),
            pa.array([s.path.stat().st_size for _, s in shards], pa.int64()),
            pa.array(first),
            pa.array(rows, pa.int64()),
            pa.array([(t.schema.metadata or {}).get(b"problem", b"").decode() for t in opened]),
        ],
        schema=SHARD_SCHEMA,
    )


def _write_version(table: pa.Table, index_dir: Path, caption_key: str) -> str:
    digest = hashlib.sha256(caption_key.encode())
    for shard in table.select(["fingerprint", "rows", "path"]).to_pylist():
        digest.update(f"{shard['fingerprint']}:{shard['rows']}:{shard['path']}\n".encode())
    version = digest.hexdigest()[:16]
    folder = index_dir / "versions"
    if not (folder / f"{version}.arrow").exists():
        tables = [
            _open_shard(index_dir / "shards" / f"{f}.arrow")
            for f in table["fingerprint"].to_pylist()
        ]
        _write_arrow(_find_defects(tables), folder / f"{version}.defects.arrow")
        _write_arrow(table, folder / f"{version}.arrow")
    write_atomically(folder / "latest", lambda file: file.write(version.encode()))
    return version


def _find_defects(tables: list[pa.Table]) -> pa.Table:
    """Find rows without image or caption, and all but the first of rows that share a uid."""
    failure_N = np.concatenate(
        [
            np.where(
                t["image_offset"].to_numpy() < 0,
                np.uint8(Failure.missing_image),
                np.where(t["caption_offset"].to_numpy() < 0, np.uint8(Failure.missing_caption), 0),
            )
            for t in tables
        ]
    ).astype(np.uint8)
    uid_N2 = np.concatenate([uids.from_arrow(t["uid"]) for t in tables])
    # Stable: of equal uids the lowest row stays.
    order = np.lexsort((uid_N2[:, 1], uid_N2[:, 0]))
    again = np.zeros(len(order), dtype=bool)
    again[order[1:]] = (uid_N2[order[1:]] == uid_N2[order[:-1]]).all(axis=1)
    failure_N[again & (failure_N == 0)] = Failure.duplicate_uid
    rows = np.flatnonzero(failure_N).astype(np.int64)
    return pa.Table.from_arrays(
        [pa.array(rows), pa.array(failure_N[rows], pa.uint8())], schema=DEFECT_SCHEMA
    )


def _write_arrow(table: pa.Table, path: Path) -> None:
    def write(file: object) -> None:
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table.combine_chunks())

    write_atomically(path, write)


def _read_arrow(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


# A window of a sparse selection goes over thousands of shards; what is mapped costs little.
@lru_cache(maxsize=4096)
def _open_shard(path: Path) -> pa.Table:
    return _read_arrow(path)


@lru_cache(maxsize=4096)
def _places(path: Path) -> Places:
    table = _open_shard(path)
    return {
        member: (table[f"{member}_offset"].to_numpy(), table[f"{member}_size"].to_numpy())
        for member in MEMBERS
    }
