"""The pool index: where every sample of a pool stands, for random access without scanning tars.

A sample's row is its shard's `first_row` + its place in the shard. A version is immutable and named
by its content; when shards are added the old ones keep their rows. A run pins one version. The
files are described in `index_files`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, closing, nullcontext
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from selffilter.errors import StoreGone, UserError
from selffilter.patience import LASTING
from selffilter.pool import index_files, uids
from selffilter.pool.captions import CaptionKey
from selffilter.pool.child_processes import deaf_to_ctrl_c, end_with_parent
from selffilter.pool.defects import find_defects
from selffilter.pool.failures import Failure, count_by_reason
from selffilter.pool.fingerprints import fingerprint, stat_all
from selffilter.pool.index_files import Places, read_arrow, rows_file
from selffilter.pool.sources import ShardPath, list_shards, refuse_pipes
from selffilter.pool.stores.find import is_far
from selffilter.pool.stores.store import Stat
from selffilter.pool.tar_scan import scan_tar
from selffilter.progress import Bar, NoBar
from selffilter.store import sweep

ShowBar = Callable[[int], AbstractContextManager[Bar]]
_Job = tuple[ShardPath, Path, str]
_MOST_ROWS = 1 << 48
_DEBRIS_AGE_S = 3600.0
"""Several processes may index at once; a file that was not written to for so long is nobody's."""


class Pool:
    """One version of an index, open for reading.

    Args:
        index_dir: Where the index lies.
        version: Name of the version.
        caption_key: Where captions stand; None: as the version says.

    Attributes:
        version: Name of the version.
        rows_version: Name of the version that first had these rows under these numbers: another one
            where the shards have moved since (`moving`).
        rows: Number of samples indexed, N.
        shards: Number of shards, S.
        first_row: (S+1,) int64; shard s holds the rows ``first_row[s]:first_row[s+1]``.
        caption_key: Where a sample's captions stand; see `CaptionKey`.
        sources: Names of the sources, in the order of their shards.

    Raises:
        UserError: If there is no such version, or it was indexed for another caption key.
    """

    def __init__(self, index_dir: Path, version: str, caption_key: str | None = None) -> None:
        self._dir = Path(index_dir)
        self.version = version
        path = index_files.version_file(self._dir, version)
        self._table = read_arrow(path, index_files.SHARD_SCHEMA)
        self.caption_key = index_files.metadata(self._table, "caption_key")
        self.rows_version = index_files.metadata(self._table, "rows_version") or version
        if caption_key not in (None, self.caption_key):
            raise UserError(
                f"this pool was indexed with pool.caption_key={self.caption_key}, not "
                f"{caption_key}. Index it again."
            )
        self.shards = self._table.num_rows
        self._locations = self._table["location"].combine_chunks()
        self._fingerprints = self._table["fingerprint"].combine_chunks()
        source = self._table["source"].combine_chunks().dictionary_encode()
        self.sources: list[str] = source.dictionary.to_pylist()
        self._source_S: NDArray[np.int32] = source.indices.to_numpy()
        counts = self._table["rows"].to_numpy()
        if not ((counts >= 0) & (counts <= _MOST_ROWS // max(1, self.shards))).all():
            raise index_files.damaged(path, "numbers of rows that no shard can have")
        self.first_row: NDArray[np.int64] = np.concatenate([[0], np.cumsum(counts)]).astype(
            np.int64
        )
        self.rows = int(self.first_row[-1])
        path = index_files.defects_file(self._dir, version)
        defects = read_arrow(path, index_files.DEFECT_SCHEMA)
        self._defect_rows: NDArray[np.int64] = defects["row"].to_numpy()
        self._defect_failures: NDArray[np.uint8] = defects["failure"].to_numpy()
        if not _are_defects(self._defect_rows, self._defect_failures, self.rows):
            raise index_files.damaged(path, "rows, or reasons, that there are not")

    @classmethod
    def latest(cls, index_dir: Path, caption_key: str | None = None) -> Pool:
        """Open the newest version of an index.

        Args:
            index_dir: Where it lies.
            caption_key: Where captions are to stand; None: as the version says.

        Raises:
            UserError: If there is no index, or one for another caption key.
        """
        version = index_files.latest_version(index_dir)
        if version is None:
            raise UserError(f"{index_dir} holds no pool index; selffilter pool index makes one.")
        return cls(index_dir, version, caption_key)

    @property
    def index_dir(self) -> Path:
        """Where the index lies."""
        return self._dir

    def location(self, shard: int) -> str:
        """Return where a shard's tar lies: a path, a URL or a ``pipe:`` command."""
        return str(self._locations[shard].as_py())

    def source_of(self, shard: int) -> int:
        """Return the number of a shard's source in `sources`."""
        return int(self._source_S[shard])

    def shard_path(self, shard: int) -> ShardPath:
        """Return source, relative path and location of a shard."""
        source, relative = self.sources[self.source_of(shard)], self._table["relative"][shard]
        return ShardPath(source, relative.as_py(), self.location(shard))

    def shard_name(self, shard: int) -> str:
        """Return ``source/relative path`` of a shard, for messages."""
        path = self.shard_path(shard)
        return f"{path.source}/{path.relative}"

    def shard_bytes(self, shard: int) -> int:
        """Return the size of a shard's tar."""
        return int(self._table["bytes"][shard].as_py())

    def shard_rows(self, shard: int) -> NDArray[np.int64]:
        """Return the rows of a shard, ascending, (n,) int64."""
        return np.arange(self.first_row[shard], self.first_row[shard + 1], dtype=np.int64)

    def shard_of(self, rows_N: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the shard of each row, (N,) int64."""
        return np.searchsorted(self.first_row, rows_N, side="right") - 1

    def shard_table(self, shard: int) -> pa.Table:
        """Return the memory-mapped table of a shard, `index_files.ROW_SCHEMA`."""
        path = rows_file(self._dir, self.fingerprint(shard))
        table = index_files.open_shard(path)
        if table.num_rows != (rows := int(self.first_row[shard + 1] - self.first_row[shard])):
            raise index_files.damaged(path, f"{table.num_rows:,} rows instead of {rows:,}")
        return table

    def fingerprint(self, shard: int) -> str:
        """Return what tells a shard from all others, and from what it was before a change."""
        return str(self._fingerprints[shard].as_py())

    def places(self, shard: int) -> Places:
        """Return where the members of a shard's samples stand in the tar."""
        self.shard_table(shard)  # has it as many rows as there should be?
        return index_files.places_of(rows_file(self._dir, self.fingerprint(shard)))

    def shard_uids(self, shard: int) -> NDArray[np.uint64]:
        """Return the uids of a shard's rows, (n, 2) uint64."""
        return uids.from_arrow(self.shard_table(shard)["uid"])

    def uids_of(self, rows_N: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return the uids of any rows, (N, 2) uint64."""
        return uids.gather(rows_N, self.first_row, self.shard_uids)

    def defects(self, shard: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Return the rows of a shard that the index knows to be unusable, and why (`Failure`)."""
        low, high = np.searchsorted(self._defect_rows, self.first_row[shard : shard + 2])
        return self._defect_rows[low:high], self._defect_failures[low:high]

    @property
    def defect_rows(self) -> NDArray[np.int64]:
        """All rows that the index knows to be unusable, ascending."""
        return self._defect_rows

    def defect_counts(self) -> dict[str, int]:
        """Return how many rows are unusable, by reason."""
        return count_by_reason(self._defect_failures)

    def problem(self, shard: int) -> str:
        """Return one sentence about a shard whose tar is broken, "" about others."""
        problem = self._table["problem"][shard].as_py()
        if not problem:
            return ""
        return (
            f"{self.shard_name(shard)}: {problem} ({self._table['rows'][shard]} samples before it)"
        )

    def problems(self) -> list[str]:
        """Return one sentence for each shard whose tar is broken."""
        return [sentence for shard in range(self.shards) if (sentence := self.problem(shard))]

    def refuse_pipes(self, allow_pipe: bool) -> None:
        """Refuse to read a pool with ``pipe:`` shards unless that is allowed.

        Raises:
            UserError: If there is one, and it is not.
        """
        refuse_pipes(self._locations.to_pylist(), allow_pipe)

    def changed_shards(
        self,
        on_each: Callable[[], None] = lambda: None,
        shards: Sequence[int] | None = None,
    ) -> Iterator[tuple[int, str]]:
        """Hold every tar against what was indexed: size, and time of modification or ETag.

        Args:
            on_each: Called after each shard.
            shards: Some of the shards; None: all.

        Yields:
            Shard, and "gone", "changed" or, where the store does not answer, what it said instead.
        """
        shards = range(self.shards) if shards is None else shards
        stats = stat_all([self.location(shard) for shard in shards], on_each)
        for shard, stat in zip(shards, stats, strict=True):
            if isinstance(stat, FileNotFoundError):
                yield shard, "gone"
            elif isinstance(stat, OSError):
                yield shard, str(stat)
            elif fingerprint(self.shard_path(shard), stat, self.caption_key) != self.fingerprint(
                shard
            ):
                yield shard, "changed"

    def check_shards(self, allow_pipe: bool = False) -> None:
        """Check that every tar is still the one that was indexed.

        Args:
            allow_pipe: Whether commands may be run to read them.

        Raises:
            UserError: Naming a shard that is gone or has changed, or a command not allowed.
            StoreGone: Naming a shard whose store does not answer.
        """
        self.refuse_pipes(allow_pipe)
        found = list(self.changed_shards())
        for wrong in ("gone", "changed"):
            named = [self.location(shard) for shard, what in found if what == wrong]
            if named:
                _refuse_wrong(wrong, named, self.shards)
        for shard, what in found:
            raise StoreGone(f"shard {self.location(shard)} cannot be looked at: {what}")


def default_index_dir(specs: list[str], runs_dir: Path) -> Path:
    """Return where the index of these sources lies unless the user says otherwise."""
    name = hashlib.sha256("\x1f".join(str(Path(s)) for s in specs).encode()).hexdigest()[:12]
    return Path(runs_dir) / "_pools" / name


def build_index(
    specs: list[str],
    index_dir: Path,
    *,
    caption_key: str = "txt",
    allow_pipe: bool = False,
    workers: int = 1,
    bar: ShowBar = lambda _: nullcontext(NoBar()),
    should_go_on: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = lambda _: None,
) -> str:
    """Index the tars that are not yet indexed, and return the version that holds all of them.

    Restartable: a scanned shard is a finished file. Shards known from the latest version keep
    their rows; new ones are appended. If an old one changed or is gone, numbering starts afresh
    in a new version (older versions, and the runs that pin them, stay as they are).

    Args:
        specs: See `sources.list_shards`.
        index_dir: Where the index lies.
        caption_key: Where captions stand; see `CaptionKey`.
        allow_pipe: Whether ``pipe:`` shards may run their commands.
        workers: Processes to scan with.
        bar: Shows progress over so many shards.
        should_go_on: Called after each shard; may raise to stop, what is scanned stays.
        say: Told when rows are numbered afresh.

    Raises:
        UserError: If there is nothing usable, or a tar cannot be opened.
        StoreGone: If a server does not answer, also after some patience.
    """
    CaptionKey.parse(caption_key)
    sweep(index_dir, _DEBRIS_AGE_S)
    shards = list_shards(specs, allow_pipe)
    stats = [
        _there(shard, stat)
        for shard, stat in zip(
            shards, stat_all([s.location for s in shards], should_go_on, fresh=False), strict=True
        )
    ]
    found = {fingerprint(s, t, caption_key): (s, t) for s, t in zip(shards, stats, strict=True)}
    ordered = _keep_old_order(list(found), index_dir, caption_key, say)
    scan_missing(
        {f: found[f][0] for f in ordered},
        index_dir,
        caption_key,
        workers=workers,
        bar=bar,
        should_go_on=should_go_on,
    )
    return write_version([(f, *found[f]) for f in ordered], index_dir, caption_key, specs)


def scan_missing(
    shards: Mapping[str, ShardPath],
    index_dir: Path,
    caption_key: str,
    *,
    workers: int = 1,
    bar: ShowBar = lambda _: nullcontext(NoBar()),
    should_go_on: Callable[[], None] = lambda: None,
) -> None:
    """Scan the shards whose rows are not in an index yet.

    Args:
        shards: By their fingerprints.
        index_dir: Where the index lies.
        caption_key: Where captions stand.
        workers: Processes to scan with.
        bar: Shows progress over so many shards.
        should_go_on: Called after each shard; may raise to stop, what is scanned stays.

    Raises:
        UserError: If a tar cannot be opened.
        StoreGone: If a server does not answer, also after some patience.
    """
    todo = [f for f in shards if not rows_file(index_dir, f).exists()]
    jobs = [(shards[f], rows_file(index_dir, f), caption_key) for f in todo]
    with (
        bar(len(jobs)) if jobs else nullcontext(NoBar()) as shown,
        closing(_map(jobs, workers, should_go_on)) as scans,
    ):
        for _ in scans:
            shown.advance(1)
            should_go_on()


def _refuse_wrong(wrong: str, locations: list[str], of: int) -> NoReturn:
    """Refuse to go on with shards that are gone or have changed; nothing is lost."""
    more = f" and {len(locations) - 1:,} more of {of:,}" if len(locations) > 1 else ""
    verb = ("have" if wrong == "changed" else "are") if more else ("has", "is")[wrong == "gone"]
    again = "The same command then goes on from what is saved"
    if wrong == "gone":
        raise UserError(
            f"shard {locations[0]}{more} {verb} gone; this run was begun with it. Put it back; or, "
            f"if the pool lies elsewhere now, say where: pool.shards='[…]'. {again}."
        )
    raise UserError(
        f"shard {locations[0]}{more} {verb} changed since it was indexed (size, or time of "
        "modification or ETag). Put the old one back; or, if it is the same and was only copied, "
        f"`selffilter pool move RUN SHARDS…` compares the contents. {again}; or begin a new run."
    )


def _there(shard: ShardPath, stat: Stat | OSError) -> Stat:
    if isinstance(stat, OSError):
        _refuse(shard, stat)
    return stat


def _refuse(shard: ShardPath, error: OSError) -> NoReturn:
    """Say what is wrong: a server that does not answer may answer tomorrow."""
    said = error.strerror or str(error)
    if isinstance(error, FileNotFoundError):
        raise UserError(f"pool.shards: there is no {shard.location}.") from error
    if is_far(shard.location) and not isinstance(error, LASTING):
        raise StoreGone(f"shard {shard.location} cannot be read: {said}") from error
    raise UserError(f"cannot read {shard.location}: {said}.") from error


def _map(
    jobs: list[_Job], workers: int, should_go_on: Callable[[], None]
) -> Generator[None, None, None]:
    # Starting processes costs more than scanning a few shards that are near.
    few = 4 if any(is_far(shard.location) for shard, _, _ in jobs) else 32
    if workers <= 1 or len(jobs) < few:
        yield from map(_scan_job, jobs)
        return
    context = get_context("spawn")
    asked_to_stop = context.RawValue("b", False)  # without a lock, which a killed process may hold
    executor = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin_worker, initargs=(asked_to_stop,)
    )
    try:
        # In small groups, so that all are busy to the end.
        chunk = max(1, min(16, len(jobs) // (8 * workers)))
        with deaf_to_ctrl_c():  # the processes begin with the first job
            scans = executor.map(_scan_in_worker, jobs, chunksize=chunk)
        yield from scans
    except BrokenProcessPool as error:
        should_go_on()  # a batch system may tell all processes at once
        raise UserError(
            "a process that indexed shards was killed, perhaps because memory ran out: use fewer "
            "workers. The same command goes on."
        ) from error
    finally:
        asked_to_stop.value = True
        executor.shutdown(cancel_futures=True)


_asked_to_stop: Any = None


def _begin_worker(asked_to_stop: Any) -> None:
    global _asked_to_stop
    end_with_parent()
    _asked_to_stop = asked_to_stop


def _scan_in_worker(job: _Job) -> None:
    # What has been handed out cannot be taken back: it is passed over.
    if not _asked_to_stop.value:
        _scan_job(job)


def _scan_job(job: _Job) -> None:
    shard, out, caption_key = job
    try:
        scan = scan_tar(shard.location, shard.source, shard.relative, caption_key)
    except OSError as error:
        _refuse(shard, error)
    index_files.write_scan(scan, out)


def _keep_old_order(
    found: list[str], index_dir: Path, caption_key: str, say: Callable[[str], None]
) -> list[str]:
    """Put shards of the latest version first, in its order, if all of them are still there."""
    try:
        version = index_files.latest_version(index_dir)
    except UserError:  # it is written anew in the end
        version = None
    if version is None:
        return found
    try:
        table = read_arrow(index_files.version_file(index_dir, version), index_files.SHARD_SCHEMA)
    except UserError as error:
        say(f"{error} Rows are numbered afresh now.")
        return found
    old: list[str] = table["fingerprint"].to_pylist()
    known = set(old)
    if missing := len(known - set(found)):
        if index_files.metadata(table, "caption_key") == caption_key:
            say(
                f"{missing:,} of the {len(old):,} shards of index version {version} have changed "
                "or are gone: rows are numbered afresh in a new version. Runs that were begun with "
                "the old version go on only with the old shards."
            )
        return found
    return old + [f for f in found if f not in known]


def _version_table(
    shards: list[tuple[str, ShardPath, Stat]], index_dir: Path, caption_key: str
) -> pa.Table:
    rows, sizes, problems = [], [], []
    for name, _, stat in shards:
        table = read_arrow(rows_file(index_dir, name))
        rows.append(table.num_rows)
        sizes.append(int(index_files.metadata(table, "bytes")) if stat.size is None else stat.size)
        problems.append(index_files.metadata(table, "problem"))
    first = np.concatenate([[0], np.cumsum(rows)])[:-1].astype(np.int64)
    return pa.Table.from_arrays(
        [
            pa.array([s.source for _, s, _ in shards]),
            pa.array([s.relative for _, s, _ in shards]),
            pa.array([s.location for _, s, _ in shards]),
            pa.array([name for name, _, _ in shards]),
            pa.array(sizes, pa.int64()),
            pa.array(first),
            pa.array(rows, pa.int64()),
            pa.array(problems),
        ],
        schema=index_files.SHARD_SCHEMA.with_metadata({"caption_key": caption_key}),
    )


def write_version(
    shards: list[tuple[str, ShardPath, Stat]],
    index_dir: Path,
    caption_key: str,
    specs: list[str],
    rows_version: str = "",
) -> str:
    """Write the version that holds scanned shards in this order, and make it the newest.

    Args:
        shards: Fingerprint, place, size and tag of each.
        index_dir: Where the index lies.
        caption_key: Where captions stand.
        specs: What the user wrote, for messages.
        rows_version: Name of the version that has the same rows; "" if none is known to.

    Returns:
        Its name.

    Raises:
        UserError: If no sample in them can be used.
    """
    table = _version_table(shards, index_dir, caption_key)
    if sum(table["rows"].to_pylist()) == 0:
        first = next((p for p in table["problem"].to_pylist() if p), "the tars are empty")
        raise UserError(f"no samples in {', '.join(specs)}: {first}.")
    if rows_version:
        table = table.replace_schema_metadata(
            {**(table.schema.metadata or {}), "rows_version": rows_version}
        )
    digest = hashlib.sha256((caption_key + rows_version).encode())
    for shard in table.select(["fingerprint", "rows", "location"]).to_pylist():
        digest.update(f"{shard['fingerprint']}:{shard['rows']}:{shard['location']}\n".encode())
    version = digest.hexdigest()[:16]
    if not _is_whole(index_dir, version):
        files = [rows_file(index_dir, f) for f in table["fingerprint"].to_pylist()]
        rows = sum(table["rows"].to_pylist())
        defects = find_defects(files, rows, caption_key)
        if rows in (defects.without_image, defects.without_caption):
            _refuse_layout(files, caption_key, specs, defects.without_image == rows)
        index_files.write_arrow(defects.table, index_files.defects_file(index_dir, version))
        index_files.write_arrow(table, index_files.version_file(index_dir, version))
    index_files.set_latest_version(index_dir, version)
    return version


def _is_whole(index_dir: Path, version: str) -> bool:
    """Whether a version is there and can be opened; a damaged one is written anew."""
    try:
        Pool(index_dir, version)
    except UserError:
        return False
    return True


def _are_defects(row_D: NDArray[np.int64], failure_D: NDArray[np.uint8], rows: int) -> bool:
    in_order = bool((np.diff(row_D) > 0).all())
    inside = not len(row_D) or (row_D[0] >= 0 and row_D[-1] < rows)
    return in_order and bool(inside) and bool(np.isin(failure_D, list(Failure)).all())


def _refuse_layout(files: list[Path], caption_key: str, specs: list[str], no_images: bool) -> None:
    seen: Counter[str] = Counter()
    for path in files:
        seen += index_files.extensions_of(read_arrow(path))
    listed = ", ".join(f"{extension} ({count:,})" for extension, count in seen.most_common(12))
    lacking = "an image" if no_images else f"a caption at pool.caption_key={caption_key}"
    raise UserError(
        f"no sample in {', '.join(specs)} has {lacking}. Its samples have members with these "
        f"extensions: {listed or 'none'}. "
        + (
            "Images are jpg, jpeg, png, webp or gif."
            if no_images
            else "Captions may stand in EXTENSION, in EXTENSION:lines or in json:FIELD."
        )
    )
